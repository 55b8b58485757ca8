# shellcheck shell=bash
# The operator, installed by its chart, and what is done to it. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

release=redis-expiry
system=redis-expiry-system
chart=$here/../../charts/redis-expiry-operator

# Into the release's namespace.
system() { kubectl --namespace "$system" "$@"; }
helm_here() { helm --namespace "$system" "$@"; }

listener_up() {
    namespace "$system"
    # `helm test` checks the listener from there.
    shop get secret redis-auth webhook-key -o json | sed "s/\"namespace\": \"$SHOP\"/\"namespace\": \"$system\"/" \
        | kubectl apply -f - >/dev/null
    helm_here install $release "$chart" --wait --timeout 2m "${values[@]}" >/dev/null
    say "helm install: $(system get pods -l app.kubernetes.io/instance=$release --no-headers | wc -l) replicas"
    apply listener
    shop wait --for=condition=Ready rel/order-timeouts --timeout=60s
}
values=(
    --set replicaCount=2 --set image.pullPolicy="${PULL_POLICY:-IfNotPresent}"
    --set image.repository="${OPERATOR_IMAGE%:*}" --set image.tag="${OPERATOR_IMAGE##*:}"
    --set-file test.listener="$here/manifests/listener.yaml" --set 'test.secrets={redis-auth,webhook-key}'
)

deployment() { system get deployment -l app.kubernetes.io/instance=$release -o name; }
owner() { shop get rel order-timeouts -o jsonpath='{.status.owner}'; }
# Both replicas run, and the listener's condition is true; the owner is another one than before if there was one.
listener_ready() {
    system rollout status "$(deployment)" --timeout=90s >/dev/null
    shop wait --for=condition=Ready rel/order-timeouts --timeout=60s >/dev/null
}
# What a column of the resource says of itself: a part of the CustomResourceDefinition that nobody depends on.
column() {
    kubectl get crd redisexpirylisteners.redisexpiry.io \
        -o jsonpath='{.spec.versions[0].additionalPrinterColumns[0].description}'
}

listener_steps() {
    phase "rolling update of the operator"
    system rollout restart "$(deployment)" >/dev/null
    listener_ready
    hold 5

    local was
    was=$(owner)
    phase "the owner's pod deleted"
    system delete pod "$was" >/dev/null
    listener_ready
    hold 5
    [ "$(owner)" != "$was" ] || fail "$was is gone and still the owner"

    was=$(owner)
    phase "the owner's pod killed"
    system delete pod "$was" --force --grace-period=0 >/dev/null 2>&1
    within 15 another_owner_than "$was"
    listener_ready
    hold 5

    local changed before
    changed=$(mktemp -d)
    cp -r "$chart" "$changed/chart"
    before=$(column)
    sed -i "s|description: $before|description: $before (changed)|" "$changed/chart/files/crd.yaml"
    phase "helm upgrade, with another resource"
    helm_here upgrade $release "$changed/chart" --wait --timeout 2m "${values[@]}" --set log.format=text >/dev/null
    rm -rf "$changed"
    [ "$(column)" = "$before (changed)" ] || fail "the CustomResourceDefinition was not upgraded: $(column)"
    listener_ready
    hold 5

    phase "helm rollback"
    helm_here rollback $release --wait --timeout 2m >/dev/null
    [ "$(column)" = "$before" ] || fail "the CustomResourceDefinition was not rolled back: $(column)"
    listener_ready
    hold 5

    phase "helm test" --quiet
    helm_here test $release --timeout 1m --logs
    hold 3
}
another_owner_than() { local now; now=$(owner); [ -n "$now" ] && [ "$now" != "$1" ]; }

# What a user sees, and that an uninstalled operator leaves the listeners.
listener_shown() {
    shop get rel -o wide
    shop describe rel order-timeouts
}
listener_down() {
    helm_here uninstall $release --wait --timeout 2m >/dev/null
    shop get rel order-timeouts >/dev/null || fail "the listener went with the operator"
    say "helm uninstall: the listener is kept"
}
