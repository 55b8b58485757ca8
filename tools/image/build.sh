#!/usr/bin/env bash
# Builds the operator's image around a program compiled here: build.sh ARCHIVE, an OCI archive.
#   IMAGE    its name, default localhost/redis-expiry-operator:dev
#   PROFILE  cargo's, default release
#   CA_BUNDLE  whom the operator trusts for webhooks, default the distribution's
#   MOST     how many bytes may be in it, default 32 MiB; without bound where PROFILE is not release
# Needs no registry: the Dockerfile's last stages are from scratch. `docker build .` does all of it from public bases.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${IMAGE:-localhost/redis-expiry-operator:dev} profile=${PROFILE:-release} archive=$(realpath -m "$1")

tools/image/program.sh
mkdir -p target/image
cp "$(tools/image/program.sh --where)" target/image/
# Not $SSL_CERT_FILE: whom this machine trusts for its downloads is no concern of the image.
cp "${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}" target/image/ca-certificates.crt
[ "$profile" != dev ] || strip -o target/image/redis-expiry-operator target/image/redis-expiry-operator

# What `cargo audit bin` reads: the packages that it was built from.
objcopy -O binary --only-section=.dep-v0 --set-section-flags .dep-v0=alloc target/image/redis-expiry-operator target/built-from
packages=$(python3 -c 'import json, zlib; print(len(json.loads(zlib.decompress(open("target/built-from", "rb").read()))["packages"]))') || {
    echo "the program does not say what it was built from" >&2
    exit 1
}

# vfs: wherever files can be written, containers' file systems or not.
storage=$(mktemp -d)
buildah_here() { buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }
trap 'buildah_here rmi --all --force >/dev/null 2>&1 || true; rm -rf "$storage"' EXIT
buildah_here build --quiet --build-arg BINARY=outside --build-arg "VERSION=${VERSION:-$(cargo pkgid | sed 's/.*[#@]//')}" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" --tag "$image" . >/dev/null
content=$(cat target/image/redis-expiry-operator target/image/ca-certificates.crt LICENSE | wc -c)
most=${MOST:-$((32 << 20))}
[ "$profile" != release ] || [ "$content" -le "$most" ] || {
    echo "the image would hold $content bytes, more than $most: see what has grown (cargo bloat), or set MOST" >&2
    exit 1
}
rm -f "$archive"
buildah_here push --quiet "$image" "oci-archive:$archive:$image"
echo "$image: $content bytes, $(stat -c %s "$archive") compressed; a program that lists $packages packages"
