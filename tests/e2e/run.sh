#!/usr/bin/env bash
# The end-to-end test: our image, in a real Kubernetes, under load while everything around it is restarted.
#   KUBECONFIG set      in that cluster (kind, k3s, any); OPERATOR_IMAGE and REDIS_IMAGE name images that it has or can
#                       pull. What it makes there is gone at the end if all went well.
#   as root on Linux    in a node of its own, which is made and taken down: see tools/node. NODE is its directory.
# The image is built by the whole Dockerfile, on a base of this machine's packages or on RUST_IMAGE; STAGES=last takes the program
# that was compiled here.
# IMAGES is a directory for the images' archives; LISTENER=alone does all of it with `run`, and installs no operator.
# `run.sh can` only says whether it could.
set -euo pipefail
cd "$(dirname "$0")/../.."

# kubectl and helm: ours if there are none.
programs=$(realpath -m "${KUBE_TOOLS:-target/kube/bin}")
if [ -n "${KUBECONFIG:-}" ]; then
    : "${OPERATOR_IMAGE:?KUBECONFIG is set: say which image of the operator the cluster has or can pull (make image builds one)}"
    [[ $OPERATOR_IMAGE =~ ^[^@]*[^/@:]:[^/@:]+$ ]] || {
        echo "OPERATOR_IMAGE=$OPERATOR_IMAGE: name it by a tag, such as docker.io/library/redis-expiry-operator:0.1.0" >&2
        exit 1
    }
    [ "${1:-}" != can ] || exit 0
    export PATH=$PATH:$programs OPERATOR_IMAGE REDIS_IMAGE="${REDIS_IMAGE:-docker.io/library/redis:8.2}"
    kubectl version >/dev/null || { echo "the cluster of KUBECONFIG=$KUBECONFIG does not answer" >&2; exit 1; }
    exec timeout 1200 tests/e2e/steps.sh
fi
[ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] || {
    echo "no cluster to test in: set KUBECONFIG (kind, k3s, any), or be root on Linux for a node of our own" >&2
    exit 1
}
[ "${1:-}" != can ] || exit 0

part=$SECONDS
# What the part that ends here took.
took() { echo "e2e: $1 took $((SECONDS - part)) s"; part=$SECONDS; }

node=${NODE:-/tmp/redis-expiry-node} images=${IMAGES:-target/image}
# The name that the chart gives it by default. Nothing is pulled, for it is there already.
version=$(sed -n 's/^appVersion: *"\?\([^"]*\)"\?$/\1/p' charts/redis-expiry-operator/Chart.yaml)
export OPERATOR_IMAGE=docker.io/library/redis-expiry-operator:$version REDIS_IMAGE=localhost/redis:e2e
export KILL="$PWD/tools/node/node.sh kill $node"
mkdir -p "$images"
IMAGE=$OPERATOR_IMAGE STAGES=${STAGES:-all} timeout 1800 tools/image/build.sh "$images/operator.tar"
took "the image"
tests/e2e/redis-image.sh $REDIS_IMAGE "$images/redis.tar"
# The logs of every pod, for those that are gone are asked about most: beside the node, as links to what the kubelet removes.
logs=$node.logs
rm -rf "$logs"
mkdir -p "$logs"
while sleep 1; do cp -aln "$node/podlogs/." "$logs/" 2>/dev/null || true; done &
keeper=$!
ended() {
    local status=$?
    kill "$keeper"
    tools/node/node.sh down "$node"
    if [ "$status" = 0 ]; then rm -rf "$logs"; else echo "e2e: the logs of all pods are in $logs" >&2; fi
}
trap ended EXIT
trap 'exit 130' INT TERM
timeout 180 tools/node/node.sh up "$node"
tools/node/node.sh load "$node" "$images/operator.tar"
tools/node/node.sh load "$node" "$images/redis.tar"
took "the node"
# In the foreground of nobody, so that a signal reaches the trap above at once.
tools/node/node.sh run "$node" timeout 1200 tests/e2e/steps.sh &
wait $!
took "all that was done in it"
