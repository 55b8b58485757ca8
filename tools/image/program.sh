#!/usr/bin/env bash
# Compiles the program that ships, once: program.sh [--where], which only says where it is.
#   PROFILE  cargo's, default release
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-release}
target=$(rustc -vV | sed -n 's/^host: //p')
folder=$profile
[ "$profile" != dev ] || folder=debug
[ "${1:-}" != --where ] || { echo "$PWD/target/$target/$folder/redis-expiry-operator"; exit; }
# glibc linked in, as in the Dockerfile. Naming the target keeps RUSTFLAGS from macros, which can't be static.
RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo auditable build --profile "$profile" --locked --target "$target" --bin redis-expiry-operator
