# shellcheck shell=bash
# What the starters of real services share: messages, packages, free ports. Sourced by them.

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 3; }

# need COMMAND PACKAGE...: installs the distribution's packages where the command is missing.
need() {
    local command="$1"
    shift
    command -v "$command" >/dev/null 2>&1 && return 0
    install_packages "'$command'" "$@"
    command -v "$command" >/dev/null 2>&1 || die "'$command' is still missing after installing $*"
}

# install_packages WHAT PACKAGE...: says that WHAT is missing, then installs.
install_packages() {
    local what="$1"
    shift
    command -v apt-get >/dev/null 2>&1 || die "$what is missing and there is no apt-get: install $* by hand"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "$what is missing: installing $* with ${as_root[*]:+${as_root[*]} }apt-get"
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# A port on which nothing listens now, below the range that the kernel hands out to clients.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
