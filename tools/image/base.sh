#!/usr/bin/env bash
# The base of the Dockerfile's first stage where the public one can't be pulled: base.sh IMAGE BUILDAH.., which is put into the
# storage of that buildah command. A Debian with a C compiler, from where this machine has its packages. As root.
# Rust is this machine's: the build has to see its toolchain at /rust.
set -euo pipefail
image=$1; shift
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
# shellcheck source=/dev/null
. /etc/os-release
sources=/etc/apt/sources.list.d/$ID.sources
[ -e "$sources" ] || sources=/etc/apt/sources.list
mmdebstrap --quiet --variant=apt --include=gcc,libc6-dev,ca-certificates "${VERSION_CODENAME:-unstable}" "$here/base.tar" "$sources"
container=$("$@" from scratch)
"$@" add --quiet "$container" "$here/base.tar" / >/dev/null
# Whom this machine trusts for its downloads.
"$@" copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
# `cargo install` finds that it is there.
cargo=${CARGO_HOME:-$HOME/.cargo}
[ -x "$cargo/bin/cargo-auditable" ] || { echo "no cargo-auditable in $cargo/bin: run make auditable" >&2; exit 1; }
grep -e '^\[v1\]' -e '^"cargo-auditable ' "$cargo/.crates.toml" >"$here/crates.toml"
"$@" copy --quiet "$container" "$here/crates.toml" /usr/local/.crates.toml >/dev/null
"$@" copy --quiet "$container" "$cargo/bin/cargo-auditable" /usr/local/bin/ >/dev/null
"$@" config --env PATH=/rust/bin:/usr/local/bin:/usr/sbin:/usr/bin --env CARGO_HOME=/cargo "$container"
"$@" commit --quiet --rm "$container" "$image" >/dev/null
