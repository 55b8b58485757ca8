#!/usr/bin/env bash
# A real Kubernetes of one node on this machine, as root, in a network namespace of its own:
#   node.sh up DIR              starts it, in seconds, and writes DIR/kubeconfig; what is left of an earlier one goes first
#   node.sh load DIR ARCHIVE    makes an OCI archive an image of the node, for imagePullPolicy: Never
#   node.sh run DIR COMMAND...  runs a command in the node's network, with KUBECONFIG set and the programs in PATH
#   node.sh kill DIR CONTAINER  sends SIGKILL to a container, named as in a pod's status: containerd://...
#   node.sh down DIR            stops it and leaves nothing behind
# Kubernetes' programs come from $KUBE_TOOLS, else target/kube/bin (`make kube-tools`); the rest from Debian (`make node-packages`).
#
# Pods are 10.85.0.0/16, Services 10.96.0.0/16, the node is 10.86.0.1; none of it is seen outside of the namespace.
# Ten local volumes are the default storage class. There is room for one such node on a machine: cgroups are shared.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
programs=${KUBE_TOOLS:-$here/../../target/kube/bin}
address=10.86.0.1

fail() { echo "node: $*" >&2; exit 1; }
# In the namespace. Not `ip netns exec`: that mounts a /sys of its own, where the kubelet finds no cgroups.
inside() { nsenter --net="/run/netns/$(cat "$node/netns")" "$@"; }
kubectl() { inside "$programs/kubectl" --kubeconfig "$node/kubeconfig" "$@"; }

# Starts a program in the namespace and remembers which process it is: a number alone may be another's by the time that
# it is killed.
start() {
    local name=$1; shift
    # Not by `inside`: what is remembered would be a shell that waits for the program.
    nohup nsenter --net="/run/netns/$(cat "$node/netns")" "$@" >"$node/logs/$name.log" 2>&1 </dev/null &
    echo "$! $(started "$!")" >>"$node/processes"
}
# When the process started, in ticks since boot; nothing if there is none.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# Tries the command for a minute.
until_ok() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "gave up on: $* (see $node/logs)"
        sleep 0.2
    done
}

network() {
    local name=$1
    ip netns add "$name"
    echo "$name" >"$node/netns"
    inside ip link set lo up
    inside ip link add node0 type bridge
    inside ip addr add $address/24 dev node0
    inside ip link set node0 up
    # The kubelet and kube-proxy want a default route. Nothing is there.
    inside ip route add default via 10.86.0.254 dev node0 onlink
    inside sysctl -qw net.ipv4.ip_forward=1
}

certificates() {
    cd "$node/pki"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 30 2>/dev/null
    certificate server /CN=kube-apiserver \
        "subjectAltName=IP:$address,IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc"
    certificate admin /O=system:masters/CN=admin
    openssl genrsa -out accounts.key 2048 2>/dev/null
    openssl rsa -in accounts.key -pubout -out accounts.pub 2>/dev/null
    cd "$node"
}
certificate() { # NAME SUBJECT [EXTENSION]
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
        -extfile <(echo "${3:-}") 2>/dev/null
}

control_plane() {
    start etcd "$programs/etcd" --data-dir etcd --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
    start kube-apiserver "$programs/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
        --bind-address=0.0.0.0 --secure-port=6443 --advertise-address=$address \
        --service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true --authorization-mode=Node,RBAC \
        --client-ca-file=pki/ca.crt --tls-cert-file=pki/server.crt --tls-private-key-file=pki/server.key \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/accounts.pub \
        --service-account-signing-key-file=pki/accounts.key --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key
    cat >kubeconfig <<END
apiVersion: v1
kind: Config
current-context: node
contexts: [{name: node, context: {cluster: node, user: admin}}]
clusters: [{name: node, cluster: {server: "https://$address:6443", certificate-authority: $node/pki/ca.crt}}]
users: [{name: admin, user: {client-certificate: $node/pki/admin.crt, client-key: $node/pki/admin.key}}]
END
    until_ok kubectl get --raw /readyz
    start kube-controller-manager "$programs/kube-controller-manager" --kubeconfig=kubeconfig --leader-elect=false \
        --root-ca-file=pki/ca.crt --service-account-private-key-file=pki/accounts.key \
        --use-service-account-credentials=true
    start kube-scheduler "$programs/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false
    cat >Corefile <<END
cluster.local:53 {
    bind $address
    errors
    kubernetes cluster.local {
        kubeconfig $node/kubeconfig
        pods verified
    }
    cache 5
}
END
    start coredns "$programs/coredns" -conf Corefile
}

containers() {
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc dies otherwise ("can't get final child's PID").
    cat >containerd.toml <<END
version = 2
root = "$node/containerd-root"
state = "$node/containerd-state"
[grpc]
  address = "$node/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node/cni"
END
    cat >cni/10-bridge.conflist <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true, "ipam":
  {"type": "host-local", "dataDir": "$node/cni/addresses", "ranges": [[{"subnet": "10.85.0.0/16"}]],
   "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
    start containerd containerd -c containerd.toml
    until_ok ctr -a containerd.sock version
    pause_image
    load pause.tar
}

# Every pod's first container: it reaps and waits. The usual image can't be pulled where there is no registry.
pause_image() {
    cat >pause.c <<'END'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void down(int s) { _exit(0); }
static void reap(int s) { while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
    signal(SIGINT, down); signal(SIGTERM, down); signal(SIGCHLD, reap);
    for (;;) pause();
}
END
    cc -O2 -static -s -o pause pause.c
    local image
    image=$(buildah_here from scratch)
    buildah_here copy -q "$image" pause /pause >/dev/null
    buildah_here config --entrypoint '["/pause"]' "$image"
    buildah_here commit -q --rm "$image" localhost/pause:1 >/dev/null
    buildah_here push -q localhost/pause:1 "oci-archive:$node/pause.tar:localhost/pause:1"
}
buildah_here() { buildah --root "$node/buildah" --runroot "$node/buildah-run" --storage-driver vfs "$@"; }

kubelet() {
    cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://$node/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $node/pki/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: [$address]
clusterDomain: cluster.local
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: "1%"}
podLogsDir: $node/podlogs
resolvConf: /dev/null
END
    start kubelet "$programs/kubelet" --config=kubelet.yaml --kubeconfig=kubeconfig --root-dir="$node/kubelet" \
        --hostname-override=node1 --node-ip=$address
    # It may not write the sysctls of conntrack.
    cat >proxy.yaml <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: node1
clientConnection: {kubeconfig: $node/kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
    start kube-proxy "$programs/kube-proxy" --config=proxy.yaml
}

# Local volumes rather than host paths: the kubelet gives these to a pod's fsGroup.
volumes() {
    cat <<END
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
END
    for number in 0 1 2 3 4 5 6 7 8 9; do
        mkdir -p "$node/volumes/$number"
        cat <<END
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-$number}
spec:
  storageClassName: local
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  local: {path: $node/volumes/$number}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node1]}]}]}
END
    done
}

up() {
    [ "$(id -u)" = 0 ] || fail "a node needs root: for containers, cgroups and a network namespace"
    programs=$(cd "$programs" 2>/dev/null && pwd) || fail "no Kubernetes programs in $programs: make kube-tools"
    for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl coredns; do
        [ -x "$programs/$program" ] || fail "$programs/$program is missing: make kube-tools"
    done
    for program in containerd runc ctr buildah ip nft conntrack openssl cc; do
        command -v $program >/dev/null || fail "$program is missing: make node-packages"
    done
    [ ! -e "$node" ] || down
    mkdir -p "$node"/{pki,logs,cni,volumes}
    cd "$node"
    network "rel-$(basename "$node")"
    certificates
    control_plane
    containers
    kubelet
    until_ok kubectl wait --for=condition=Ready node/node1 --timeout=1s
    until_ok kubectl get serviceaccount default
    volumes | kubectl apply -f - >/dev/null
    echo "a node is ready: $(kubectl version -o yaml | sed -n '/serverVersion/,$ s/ *gitVersion: //p'), KUBECONFIG=$node/kubeconfig"
}

load() { ctr -a "$node/containerd.sock" -n k8s.io images import "$1" >/dev/null; }

# Which of our processes still run.
running() {
    [ -f "$node/processes" ] || return 0
    tac "$node/processes" | while read -r process since; do
        [ -z "$since" ] || [ "$(started "$process")" != "$since" ] || echo "$process"
    done
}

down() {
    local end=$((SECONDS + 3)) process
    for process in $(running); do kill "$process" 2>/dev/null || true; done
    # Containers outlive containerd: their shims name its socket.
    for process in $(pgrep -f "containerd-shim.*$node/containerd.sock" || true); do
        pkill -KILL -P "$process" || true
        kill -KILL "$process" 2>/dev/null || true
    done
    while [ -n "$(running)" ] && [ $SECONDS -lt $end ]; do sleep 0.1; done
    for process in $(running); do kill -KILL "$process" 2>/dev/null || true; done
    grep -F " $node/" /proc/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount" || true; done
    for name in $(pod_networks); do ip netns del "$name" || true; done
    [ ! -f "$node/netns" ] || ip netns del "$(cat "$node/netns")" 2>/dev/null || true
    find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
    rm -rf "$node"
}
# Whose other end is a port of our bridge.
pod_networks() { inside ip link show master pods0 2>/dev/null | grep -o 'cni-[^ ]*' || true; }

verb=${1:-}; shift || true
[ -n "${1:-}" ] || { sed -n '2,/^set/ s/^# \?//p' "$0"; exit 2; }
node=$(realpath -m "$1"); shift
case $verb in
    up) up ;;
    load) load "$1" ;;
    run)
        programs=$(realpath -m "$programs")
        export KUBECONFIG=$node/kubeconfig PATH=$programs:$PATH
        inside "$@"
        ;;
    kill) ctr -a "$node/containerd.sock" -n k8s.io task kill --signal SIGKILL "${1#containerd://}" ;;
    down) [ ! -e "$node" ] || down ;;
    *) fail "no such verb: $verb" ;;
esac
