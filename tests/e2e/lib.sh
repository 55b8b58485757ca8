# shellcheck shell=bash
# What the steps are made of. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

began=$SECONDS
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# In the shop's namespace.
shop() { kubectl --namespace "$SHOP" "$@"; }
# A manifest, with the images' names put in, the namespace of Redis, and for how many seconds an order may be paid at most.
apply() {
    sed "s|OPERATOR_IMAGE|$OPERATOR_IMAGE|; s|REDIS_IMAGE|$REDIS_IMAGE|; s|REDIS_NAMESPACE|$redis_in|; s|LONGEST|$longest|" \
        "$here/manifests/$1.yaml" | shop apply -f - >/dev/null
}
# The password of Redis and the key of the webhooks, in another namespace too.
secret_in() {
    kubectl --namespace "$redis_in" get secret order-timeouts -o json \
        | sed "s/\"namespace\": \"$redis_in\"/\"namespace\": \"$1\"/" | kubectl apply -f - >/dev/null
}

# A new namespace, as it is deleted at the end, into which only restricted pods are let.
namespace() {
    kubectl create namespace "$1" >/dev/null || fail "no namespace $1 of our own"
    kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
    within 30 kubectl --namespace "$1" get serviceaccount default
    local said
    said=$(kubectl --namespace "$1" run unrestricted --image="$OPERATOR_IMAGE" --dry-run=server 2>&1) &&
        fail "a pod that asks for nothing less than what it can get was let into $1"
    [[ $said == *'violates PodSecurity "restricted:'* ]] || fail "a pod was refused for another reason: $said"
    say "namespace $1: ${said#Error from server (Forbidden): }"
}

# Tries the command until it succeeds, for so many seconds; its last words if it does not.
within() {
    local seconds=$1 said; shift
    local end=$((SECONDS + seconds))
    until said=$("$@" 2>&1); do
        [ $SECONDS -lt $end ] || fail "not within $seconds s: $* ($said)"
        sleep 0.2
    done
}

# The customers, who keep the record and judge.
customers() { shop exec customers -- /redis-expiry-operator demo customers "$@"; }
# What follows is told apart in the verdict; the second argument may be --quiet.
phase() { local said; said=$(customers mark "$@"); say "$said"; }
# So long orders go on falling due, and then none may be overdue.
hold() {
    local said
    sleep "$1"
    said=$(customers caught-up --within "${2:-30}" 2>&1) || fail "$said"
    say "$said"
}

# Everything that may explain a failure, of the namespaces that are ours: in another's cluster the rest is nobody's business.
dump() {
    local space pod
    for space in $(kubectl get namespaces -o jsonpath='{.items[*].metadata.name}'); do
        [[ $space == "$SHOP"* || $space == "${system:-}" ]] || continue
        kubectl --namespace "$space" get all,leases,events -o wide || true
        # Without the operator there is no such kind.
        kubectl --namespace "$space" get rel -o wide || true
        kubectl --namespace "$space" describe rel || true
        for pod in $(kubectl --namespace "$space" get pods -o jsonpath='{.items[*].metadata.name}'); do
            echo "--- $space/$pod"
            kubectl --namespace "$space" describe pod "$pod" | tail -n 30 || true
            kubectl --namespace "$space" logs --tail=200 --all-containers "$pod" || true
            kubectl --namespace "$space" logs --tail=100 --all-containers --previous "$pod" 2>/dev/null || true
        done
    done
}
