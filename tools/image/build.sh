#!/usr/bin/env bash
# Builds the operator's image: build.sh ARCHIVE, an OCI archive. Needs no registry of images.
#   IMAGE    its name, default localhost/redis-expiry-operator:dev
#   MOST     how many bytes may be in it, default 32 MiB; without bound where PROFILE is not release
#   STAGES   last: the Dockerfile's last ones, around a program that is compiled here (the default)
#            all: every one, on RUST_IMAGE, or on a base of this machine's packages and Rust (as root on Debian); it trusts
#            whom that base does
# For STAGES=last alone:
#   PROFILE  cargo's, default release
#   CA_BUNDLE  whom the operator trusts for webhooks, default the distribution's
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${IMAGE:-localhost/redis-expiry-operator:dev} profile=${PROFILE:-release} archive=$(realpath -m "$1")
mkdir -p target/image

# vfs: wherever files can be written, containers' file systems or not.
storage=$(mktemp -d)
buildah_here=(buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs)
trap '"${buildah_here[@]}" rm --all >/dev/null 2>&1 || true; "${buildah_here[@]}" rmi --all --force >/dev/null 2>&1 || true
    rm -rf "$storage"' EXIT
build() {
    "${buildah_here[@]}" build --quiet --build-arg "VERSION=${VERSION:-$(cargo pkgid | sed 's/.*[#@]//')}" \
        --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag "$image" "$@" .
}
case ${STAGES:-last} in
all)
    profile=release
    # Crates that were fetched once need not be fetched again, wherever the base has its own. The format knows SHELL.
    crates=${CARGO_HOME:-$HOME/.cargo}/registry
    mkdir -p "$crates"
    options=(--format docker --isolation chroot --volume "$crates:/cargo/registry" --volume "$crates:/usr/local/cargo/registry")
    if [ -z "${RUST_IMAGE:-}" ]; then
        RUST_IMAGE=localhost/rust:here
        tools/image/base.sh "$RUST_IMAGE" "${buildah_here[@]}"
        options+=(--volume "$(rustc --print sysroot):/rust:ro")
    fi
    # Quiet until something is wrong.
    build "${options[@]}" --build-arg "RUST_IMAGE=$RUST_IMAGE" >"$storage/said" 2>&1 || { cat "$storage/said" >&2; exit 1; }
    container=$("${buildah_here[@]}" from "$image")
    root=$("${buildah_here[@]}" mount "$container")
    cp "$root/redis-expiry-operator" "$root/etc/ssl/certs/ca-certificates.crt" target/image/
    "${buildah_here[@]}" rm "$container" >/dev/null
    ;;
last)
    tools/image/program.sh
    cp "$(tools/image/program.sh --where)" target/image/
    # Not $SSL_CERT_FILE: whom this machine trusts for its downloads is no concern of the image.
    cp "${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}" target/image/ca-certificates.crt
    [ "$profile" != dev ] || strip -o target/image/redis-expiry-operator target/image/redis-expiry-operator
    build --build-arg BINARY=outside >/dev/null
    ;;
*)
    echo "STAGES=$STAGES: it is last or all" >&2
    exit 2
    ;;
esac

# What `cargo audit bin` reads: the packages that it was built from.
objcopy -O binary --only-section=.dep-v0 --set-section-flags .dep-v0=alloc target/image/redis-expiry-operator target/built-from
packages=$(python3 -c 'import json, zlib; print(len(json.loads(zlib.decompress(open("target/built-from", "rb").read()))["packages"]))') || {
    echo "the program does not say what it was built from" >&2
    exit 1
}
content=$(cat target/image/redis-expiry-operator target/image/ca-certificates.crt LICENSE | wc -c)
most=${MOST:-$((32 << 20))}
[ "$profile" != release ] || [ "$content" -le "$most" ] || {
    echo "the image would hold $content bytes, more than $most: see what has grown (cargo bloat), or set MOST" >&2
    exit 1
}
rm -f "$archive"
"${buildah_here[@]}" push --quiet --format oci "$image" "oci-archive:$archive:$image"
echo "$image: $content bytes, $(stat -c %s "$archive") compressed; a program that lists $packages packages"
