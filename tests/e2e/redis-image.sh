#!/usr/bin/env bash
# An image of this machine's redis-server and redis-cli: redis-image.sh IMAGE ARCHIVE. There is no registry to pull from.
set -euo pipefail
image=$1 archive=$(realpath -m "$2")
storage=$(mktemp -d)
buildah_here() { buildah --root "$storage/root" --runroot "$storage/run" --storage-driver vfs "$@"; }
trap 'buildah_here rmi --all --force >/dev/null 2>&1 || true; rm -rf "$storage"' EXIT

container=$(buildah_here from scratch)
for program in redis-server redis-cli; do
    path=$(command -v $program)
    buildah_here copy --quiet "$container" "$(realpath "$path")" "/usr/bin/$program" >/dev/null
    # Their libraries, each where the loader looks for it; the loader itself stands without an arrow.
    for library in $(ldd "$path" | grep -o '/[^ ]*'); do
        buildah_here copy --quiet "$container" "$(realpath "$library")" "$library" >/dev/null
    done
done
buildah_here config --env PATH=/usr/bin --user 999:999 --cmd redis-server "$container"
buildah_here commit --quiet --rm "$container" "$image" >/dev/null
rm -f "$archive"
buildah_here push --quiet "$image" "oci-archive:$archive:$image"
