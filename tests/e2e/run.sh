#!/usr/bin/env bash
# The end-to-end test: our image, in a real Kubernetes, under load while everything around it is restarted.
#   KUBECONFIG set      in that cluster (kind, k3s, any); OPERATOR_IMAGE and REDIS_IMAGE name images that it has or can
#                       pull. What it makes there is gone at the end if all went well.
#   as root on Linux    in a node of its own, which is made and taken down: see tools/node. NODE is its directory.
# IMAGES is a directory for the images' archives; LISTENER=alone tests `run` without the operator.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -n "${KUBECONFIG:-}" ]; then
    : "${OPERATOR_IMAGE:?KUBECONFIG is set: say which image of the operator the cluster has}"
    export OPERATOR_IMAGE REDIS_IMAGE="${REDIS_IMAGE:-docker.io/library/redis:8.2}"
    exec timeout 1200 tests/e2e/steps.sh
fi
[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] || {
    echo "no cluster to test in: set KUBECONFIG, or be root on Linux for a node of our own" >&2
    exit 1
}

node=${NODE:-/tmp/redis-expiry-node} images=${IMAGES:-target/image}
export OPERATOR_IMAGE=localhost/redis-expiry-operator:e2e REDIS_IMAGE=localhost/redis:e2e PULL_POLICY=Never
mkdir -p "$images"
IMAGE=$OPERATOR_IMAGE timeout 1800 tools/image/build.sh "$images/operator.tar"
tests/e2e/redis-image.sh $REDIS_IMAGE "$images/redis.tar"
trap 'tools/node/node.sh down "$node"' EXIT
trap 'exit 130' INT TERM
timeout 180 tools/node/node.sh up "$node"
tools/node/node.sh load "$node" "$images/operator.tar"
tools/node/node.sh load "$node" "$images/redis.tar"
# In the foreground of nobody, so that a signal reaches the trap above at once.
tools/node/node.sh run "$node" timeout 1200 tests/e2e/steps.sh &
wait $!
