# shellcheck shell=bash
# The listener without the operator, in one pod: what the steps need of it. Sourced.
# shellcheck disable=SC2154 # steps.sh says where it is, and which namespace is the shop

listener_up() {
    apply run
    shop rollout status deployment/listener --timeout=60s >/dev/null
    within 30 listener_ready
}
listener_ready() { shop logs deployment/listener | grep -q '"event":"ready"'; }

listener_steps() {
    phase "run restarted"
    shop rollout restart deployment/listener >/dev/null
    shop rollout status deployment/listener --timeout=60s >/dev/null
    hold 5

    phase "its pod killed"
    shop delete pod -l app=listener --force --grace-period=0 >/dev/null 2>&1
    shop rollout status deployment/listener --timeout=60s >/dev/null
    hold 5
}

listener_shown() { shop get deployment,pods -l app=listener -o wide; }
listener_down() { shop delete deployment listener >/dev/null; }
