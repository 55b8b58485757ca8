# shellcheck shell=bash
# The listener without the operator, in one pod: what the steps need of it. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

listener_up() {
    apply run
    shop rollout status deployment/listener --timeout=60s >/dev/null
    within 30 listener_ready
}
# To the end of the log: were grep to stop at the first match, kubectl might be killed for want of a reader.
listener_ready() { shop logs deployment/listener | grep '"event":"ready"' >/dev/null; }

listener_steps() {
    phase "run restarted"
    shop rollout restart deployment/listener >/dev/null
    shop rollout status deployment/listener --timeout=60s >/dev/null
    hold 3

    phase "its pod killed"
    shop delete pod -l app=listener --force --grace-period=0 >/dev/null 2>&1
    shop rollout status deployment/listener --timeout=60s >/dev/null
    hold 3
}

listener_shown() { shop get deployment,pods -l app=listener -o wide; }
listener_down() { shop delete deployment listener >/dev/null; }

# What is done with it when the operator is gone: in a namespace of its own, with an order service, a database and customers of its
# own. Of what is there it has the Redis, to which nobody listens any more.
alone_too() {
    # shellcheck disable=SC2034 # lib.sh reads them
    local redis_in=$SHOP longest=17
    local SHOP=$SHOP-alone
    namespace "$SHOP"
    secret_in "$SHOP"
    apply shop
    listener_up
    shop rollout status deployment/order-service deployment/order-webhooks --timeout=60s >/dev/null
    say "run is ready, in a pod of its own, and so is an order service"
    apply customers
    within 60 customers status
    phase "run alone, nothing is broken" --quiet
    # The first orders fall due after 15 s, and from 17 s on as many as are placed.
    sleep 15
    hold 3

    phase "the pod of run deleted"
    # Until it is gone: whose log is read next is the other's.
    shop delete pod -l app=listener --timeout=60s >/dev/null
    shop rollout status deployment/listener --timeout=60s >/dev/null
    within 30 listener_ready
    hold 3
    listener_shown
    customers finish
}
