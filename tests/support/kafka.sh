# shellcheck shell=bash
# Fetches Apache Kafka into the cache and runs one broker in a temporary folder.
# Sourced by tests/run and tests/real-input; changes nothing outside the cache and that folder.

support_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=tests/support/common.sh
. "$support_dir/common.sh"
biplane_cache="${BIPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/biplane}"
kafka_pid=""
kafka_dir=""

# Sets BIPLANE_TEST_KAFKA_LIB to a folder of jars that matches kafka-pom.xml.
kafka_fetch() {
    local pom="$support_dir/kafka-pom.xml" key target partial
    need java default-jre-headless
    key="$(sha256sum "$pom" | cut -c1-16)"
    target="$biplane_cache/kafka-$key"
    if [ ! -d "$target" ]; then
        need mvn maven
        say "fetching Apache Kafka into $target"
        mkdir -p "$biplane_cache"
        partial="$(mktemp -d "$biplane_cache/partial.XXXXXX")"
        mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$partial" >&2 \
            || { rm -rf "$partial"; die "Maven could not fetch Apache Kafka"; }
        # A rename is atomic: a run that is cut short leaves no half-filled folder under the final name.
        mv -T "$partial" "$target" 2>/dev/null || rm -rf "$partial"
    fi
    export BIPLANE_TEST_KAFKA_LIB="$target"
}

# True once the broker on this port answers a Metadata request (version 1, all topics) with itself in it.
kafka_answers() {
    local count
    count="$(timeout 2 bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
        printf "\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff" >&3
        head -c 12 <&3 | tail -c 4 | od -An -tx1 | tr -d " \n"' "$1" 2>/dev/null)" || return 1
    [ "$count" = "00000001" ]
}

# Starts one broker and exports BIPLANE_TEST_KAFKA_BROKERS; kafka_stop undoes it.
kafka_start() {
    local try port controller_port
    kafka_dir="$(mktemp -d "${TMPDIR:-/tmp}/biplane-kafka.XXXXXX")"
    for try in 1 2 3; do
        port="$(free_port)"
        controller_port="$(free_port)"
        [ "$port" != "$controller_port" ] || continue
        if kafka_launch "$port" "$controller_port"; then
            export BIPLANE_TEST_KAFKA_BROKERS="127.0.0.1:$port"
            say "Apache Kafka is up at $BIPLANE_TEST_KAFKA_BROKERS"
            return 0
        fi
        say "Apache Kafka did not start (try $try of 3); its log ends with:"
        tail -n 15 "$kafka_dir/log" >&2
        kafka_kill
        rm -rf "$kafka_dir/data"
    done
    die "Apache Kafka did not start"
}

kafka_launch() {
    local java=(java -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$BIPLANE_TEST_KAFKA_LIB/*") waited=0 guard=()
    sed -e "s|@DATA@|$kafka_dir/data|" -e "s|@PORT@|$1|g" -e "s|@CONTROLLER_PORT@|$2|g" \
        "$support_dir/server.properties" >"$kafka_dir/server.properties"
    "${java[@]}" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$kafka_dir/server.properties" \
        >"$kafka_dir/log" 2>&1 || return 1
    # The kernel ends the broker with this shell, however that ends.
    command -v setpriv >/dev/null 2>&1 && guard=(setpriv --pdeathsig KILL)
    "${guard[@]}" "${java[@]:0:1}" -Xmx768m "${java[@]:1}" kafka.Kafka "$kafka_dir/server.properties" \
        >>"$kafka_dir/log" 2>&1 </dev/null &
    kafka_pid=$!
    until kafka_answers "$1"; do
        kill -0 "$kafka_pid" 2>/dev/null || return 1
        waited=$((waited + 1))
        [ "$waited" -lt 300 ] || return 1
        sleep 0.2
    done
}

kafka_kill() {
    [ -n "$kafka_pid" ] || return 0
    kill -KILL "$kafka_pid" 2>/dev/null || true
    # A killed process ends with 137, which must not become the status of the script.
    wait "$kafka_pid" 2>/dev/null || true
    kafka_pid=""
}

kafka_stop() {
    kafka_kill
    [ -z "$kafka_dir" ] || rm -rf "$kafka_dir" || true
    kafka_dir=""
}
