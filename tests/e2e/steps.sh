#!/usr/bin/env bash
# The steps, in whatever cluster KUBECONFIG names: steps.sh. Their settings are in the environment:
#   OPERATOR_IMAGE, REDIS_IMAGE   images that the cluster's nodes have or can pull
#   LISTENER                      operator (default), and when that is gone `run` in a pod, shortly; or alone: all of it with `run`
#   SHOP                          the namespace, default shop; it and what begins so are made and, if all went well, deleted
#   KILL                          sends SIGKILL to the container whose id is put behind it; unset: nothing is killed so
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${OPERATOR_IMAGE:?}" "${REDIS_IMAGE:?}"
SHOP=${SHOP:-shop}
# shellcheck disable=SC2034 # lib.sh reads them
redis_in=$SHOP longest=30
# shellcheck disable=SC1091 # each is checked by itself
. "$here/lib.sh"
# shellcheck disable=SC1091
. "$here/redis.sh"
# shellcheck disable=SC1090
. "$here/${LISTENER:=operator}.sh"
# shellcheck disable=SC2154 # it is assigned where it is read
trap 'status=$?; [ $status = 0 ] || dump; exit $status' EXIT

namespace "$SHOP"
redis_up
say "a Redis Cluster of six pods; masters: $(masters)"
apply shop
shop rollout status deployment/order-service deployment/order-webhooks --timeout=60s >/dev/null
say "the order service"
listener_up
say "the listener is ready"
apply customers
within 60 customers status
phase "nothing is broken" --quiet
hold 10
# The first orders fall due after 15 s.
sleep 15

listener_steps

phase "Redis restarted, pod by pod"
shop rollout restart statefulset/redis >/dev/null
shop rollout status statefulset/redis --timeout=180s >/dev/null
say "masters: $(masters)"
hold 3

phase "the receiver scaled to 0 for 20 s"
shop scale --replicas=0 deployment/order-webhooks >/dev/null
shop wait --for=delete pod -l app=order-webhooks --timeout=60s >/dev/null
sleep 20
shop scale --replicas=1 deployment/order-webhooks >/dev/null
shop rollout status deployment/order-webhooks --timeout=60s >/dev/null
hold 5 90

phase "nothing is broken any more" --quiet
hold 10
listener_shown
customers finish
listener_down
made=("$SHOP")
if [ "$LISTENER" = operator ]; then
    # shellcheck disable=SC1091
    . "$here/alone.sh"
    alone_too
    made+=("$SHOP-alone")
fi
kubectl delete namespace "${made[@]}" --timeout=120s >/dev/null
say "done"
