# shellcheck shell=bash
# The Redis Cluster. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

# Starts the six servers and makes them one cluster.
redis_up() {
    shop create secret generic order-timeouts --from-literal=password="$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" \
        --from-literal=signing="whsec_$(head -c 32 /dev/urandom | base64 -w 0)" >/dev/null
    apply redis
    shop wait --for=jsonpath='{.status.currentReplicas}'=6 statefulset/redis --timeout=60s >/dev/null
    for pod in 0 1 2 3 4 5; do within 60 redis $pod ping; done
    local nodes
    nodes=$(shop get pods -l app=redis -o jsonpath='{range .items[*]}{.status.podIP}:6379 {end}')
    # shellcheck disable=SC2086 # six words
    redis 0 --cluster create $nodes --cluster-replicas 1 --cluster-yes >/dev/null || fail "the cluster was not made"
    shop rollout status statefulset/redis --timeout=60s >/dev/null
}

redis() { local pod=$1; shift; shop exec "redis-$pod" -- redis-cli "$@"; }
# Which pods hold masters, as numbers.
masters() {
    for pod in 0 1 2 3 4 5; do
        ! redis $pod role | head -n 1 | grep -q master || printf '%s ' $pod
    done
}
