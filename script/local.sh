# shellcheck shell=bash disable=SC2034 # who sources this uses more of it
# Shared by start-all and start-peer: building, and starting the real programs on free ports of this machine.
# Needs nothing but the Rust toolchain and a C compiler.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=${TRUEQUE_PROFILE:-release}
case $profile in
    release) bin=${CARGO_TARGET_DIR:-$root/target}/release packages=(-p directory -p peer) ;;
    # All of them, as the tests build them: a choice of packages is a choice of features, and would build much anew.
    dev) bin=${CARGO_TARGET_DIR:-$root/target}/debug packages=(--workspace --bins) ;;
    *) echo "TRUEQUE_PROFILE: \`$profile\` is neither dev nor release" >&2; exit 2 ;;
esac

# The accounts of the local network, one for each peer.
names=(ana beto carla diego elena fabio gema hugo ines juan)

say() { printf '%s\n' "$@"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

build() {
    command -v cargo >/dev/null || fail "there is no cargo: install Rust from https://rustup.rs"
    command -v cc >/dev/null || fail "there is no C compiler: on Debian and Ubuntu, apt-get install build-essential"
    say "Building (profile $profile)."
    (cd "$root" && cargo build --quiet --profile "$profile" "${packages[@]}")
}

# set_peer NAME FOLDER DIRECTORY_URL: the settings of one peer of the local network. A `.env` in the working folder does
# not change what is set here.
set_peer() {
    mkdir -p "$2/share" "$2/downloads"
    export PEER_DIRECTORY=$3 PEER_DIRECTORY_CA="" PEER_USERNAME=$1 PEER_PASSWORD="local-password-of-$1"
    export PEER_DATA_DIR=$2/data PEER_SHARE_DIR=$2/share PEER_DOWNLOAD_DIR=$2/downloads PEER_RESHARE=true
    export PSERVER_LISTEN=127.0.0.1:0 PSERVER_ADVERTISE="" PCLIENT_LISTEN=127.0.0.1:0 PCLIENT_TOKEN=""
    export PEER_UPLOAD_LIMIT=0 PEER_DOWNLOAD_LIMIT=0
}

# await_line FILE PREFIX PID: what follows PREFIX on the first line of FILE that begins with it; gives up when the
# program has ended, or after 30 seconds.
await_line() {
    local tries line
    for ((tries = 0; tries < 300; tries++)); do
        line=$(sed -n "s|^$2||p" "$1" 2>/dev/null | head -n 1)
        if [[ -n $line ]]; then
            printf '%s\n' "$line"
            return
        fi
        kill -0 "$3" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
