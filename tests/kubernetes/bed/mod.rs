//! A Kubernetes API for tests: a real etcd and kube-apiserver (`make kube-tools` provides them), without nodes or a controller manager.
//! In five lines:
//!
//! 1. `let space = Kubernetes::shared().await.namespace("mine").await;`: a namespace of the test's own, our CRD there; `space.client` may do
//!    everything, `space.apply(yaml)`, `space.kubectl(&[..])`, `space.helm(&[..])`, `space.secret(..)`, `space.service_account(..)`.
//! 2. `let kubeconfig = space.token_kubeconfig("sa").await;`, `Operator::start(Settings { kubeconfig, pod_name, pod_namespace, arguments })`,
//!    `.wait_ready()`, `.get("/metrics")`, `.metric(name, labels)`, `.kill()`, `.terminate()`, `.stop()`, `.cont()`, `.start_again()`.
//! 3. `let seen = Observed::start(space.client.clone(), &space.name, "order-timeouts");`: `.wait_ready()`, `.wait_owner(&pods, ..)`, `.says("Accepted", "False", "InvalidSpec")`, `.condition("Ready")`.
//! 4. Outages: `Kubernetes::own()` has `.stop_api_server()`, `.start_api_server()`; to cut one operator only, `Proxy::start(kubernetes.address())`, a
//!    `kubernetes.token_kubeconfig(.., proxy.address())`, and `proxy.set(Line::Hangs | Line::Refuses | Line::Passes)`;
//!    from Redis, `Cut::before(nodes)` and an `addressMap` that leads through it.
//! 5. Orders whose truth is known, and the judge: `support::{generator, receiver, judge}`, as `replicas::Run` puts them together.
//!
//! Objects outlive their test until the process ends; whatever is started here ends with the process, however that ends. Service accounts
//! have to be made, deleted namespaces stay Terminating, and nothing is garbage collected.

pub mod cut;
pub mod given;
pub mod ground;
pub mod kubeconfig;
pub mod kubernetes;
pub mod observed;
pub mod operator;
pub mod pki;
pub mod proxy;
mod relay;
pub mod space;
pub mod tools;
