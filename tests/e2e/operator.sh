# shellcheck shell=bash
# The operator, installed by its chart, and what is done to it. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

release=redis-expiry-operator
system=redis-expiry
chart=$here/../../charts/redis-expiry-operator
example=$here/../../manifests/examples/quickstart.yaml

# Into the release's namespace.
system() { kubectl --namespace "$system" "$@"; }
helm_here() { helm --namespace "$system" "$@"; }

listener_up() {
    local said
    namespace "$system"
    # `helm test` checks the listener from there.
    secret_in "$system"
    helm_here install $release "$chart" --wait --timeout 2m "${values[@]}" >/dev/null
    ! said=$(system exec "$(deployment)" -- /bin/sh -c true 2>&1) || fail "there is a shell in the image"
    [[ $said == *'no such file or directory'* ]] || fail "whether there is a shell in the image was not told: $said"
    say "helm install: $(system get pods -l app.kubernetes.io/instance=$release --no-headers | wc -l) replicas"
    aggregated
    shop apply -f "$example" >/dev/null
    shop wait --for=condition=Ready rel/order-timeouts --timeout=60s
}
# Kubernetes' own roles have what the chart adds to them: their users may see the listeners, or change them.
aggregated() {
    for role in view edit; do shop create rolebinding $role --clusterrole=$role --user=a-$role >/dev/null; done
    within 10 shop auth can-i watch rel --as=a-view
    within 10 shop auth can-i update rel --as=a-edit
    ! shop auth can-i update rel --as=a-view >/dev/null || fail "who may view may change listeners"
    ! shop auth can-i get rel --as=nobody >/dev/null || fail "anybody may see listeners"
}
values=(
    --set replicaCount=2 --set image.repository="${OPERATOR_IMAGE%:*}" --set image.tag="${OPERATOR_IMAGE##*:}"
    --set-file test.listener="$example" --set 'test.secrets={order-timeouts}'
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
    hold 3

    local was
    was=$(owner)
    phase "the owner's pod deleted"
    system delete pod "$was" >/dev/null
    listener_ready
    hold 3
    [ "$(owner)" != "$was" ] || fail "$was is gone and still the owner"

    was=$(owner)
    phase "the owner's pod evicted, as from a node that is drained"
    system create --raw "/api/v1/namespaces/$system/pods/$was/eviction" -f - >/dev/null \
        <<<"{\"apiVersion\": \"policy/v1\", \"kind\": \"Eviction\", \"metadata\": {\"name\": \"$was\", \"namespace\": \"$system\"}}"
    within 15 another_owner_than "$was"
    listener_ready
    hold 3

    was=$(owner)
    phase "the owner's pod deleted by force"
    system delete pod "$was" --force --grace-period=0 >/dev/null 2>&1
    within 15 another_owner_than "$was"
    listener_ready
    hold 3

    if [ -n "${KILL:-}" ]; then
        was=$(owner)
        phase "the owner killed"
        $KILL "$(container "$was")"
        within 30 started_again "$was"
        listener_ready
        hold 3
    else
        say "the owner is not killed here: only a node of our own lets us"
    fi

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
    hold 3

    phase "helm rollback"
    helm_here rollback $release --wait --timeout 2m >/dev/null
    [ "$(column)" = "$before" ] || fail "the CustomResourceDefinition was not rolled back: $(column)"
    listener_ready
    hold 3

    local said
    phase "helm test" --quiet
    said=$(helm_here test $release --timeout 1m --logs 2>&1) || fail "helm test: $said"
    say "helm test: $(grep -c '^ok ' <<<"$said") ok, $(grep -Ec '^(warn|fail)' <<<"$said") not"
    hold 3
}
container() { system get pod "$1" -o jsonpath='{.status.containerStatuses[0].containerID}'; }
started_again() { [ "$(system get pod "$1" -o jsonpath='{.status.containerStatuses[0].restartCount}')" = 1 ]; }
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
    shop delete rel order-timeouts >/dev/null
    readme
    kubectl delete namespace "$system" --timeout=120s >/dev/null
    kubectl delete crd redisexpirylisteners.redisexpiry.io --timeout=60s >/dev/null
}

# From `helm install` to the first webhook, in the README's words: it names images and namespaces as they are called here.
readme() {
    local name
    name=docker.io/library/redis-expiry-operator:$(sed -n 's/^appVersion: *"\?\([^"]*\)"\?$/\1/p' "$chart/Chart.yaml")
    [ "$SHOP $OPERATOR_IMAGE" = "shop $name" ] || { say "the README's commands were not run: they need $name and a namespace shop"; return; }
    local commands
    # shellcheck disable=SC2016 # as it is in Markdown
    commands=$(sed -n '/^<!-- from `helm install` to the first webhook/,/^```$/p' "$here/../../README.md" | sed '1,/^```sh$/d; /^```$/d')
    [ -n "$commands" ] || fail "the README does not say how to install it"
    REDIS_PASSWORD=$(setting password) WEBHOOK_SECRET=$(setting signing)
    export REDIS_PASSWORD WEBHOOK_SECRET
    # It makes its own.
    shop delete secret order-timeouts >/dev/null
    # As a person would type them, one behind the other, with nothing of ours.
    (cd "$here/../.." && bash -euxc "$commands") >"$readme_said" 2>&1 || fail "the README's commands: $(cat "$readme_said")"
    within 10 told_of_42
    say "the README's commands, $(grep -c . <<<"$commands") of them, and the first webhook"
    helm_here uninstall $release --wait --timeout 2m >/dev/null
}
readme_said=$(mktemp)
setting() { shop get secret order-timeouts -o jsonpath="{.data.$1}" | base64 --decode; }
# There is no such order, says the order service.
told_of_42() { shop logs deployment/order-service --tail=100 | grep 'unknown order' | grep -q 42; }
