//! A namespace of a test's own. It is never deleted: without a controller manager it would stay Terminating.

use std::{collections::BTreeMap, fmt::Debug, path::PathBuf};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use serde::de::DeserializeOwned;

use super::{kubernetes::Kubernetes, tools::Said};

pub struct Space<'a> {
    pub kubernetes: &'a Kubernetes,
    pub name: String,
    /// May do everything.
    pub client: Client,
}

impl Space<'_> {
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Runs kubectl as admin in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Said {
        self.kubectl_with(arguments, "").await
    }

    pub async fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Said {
        let within: Vec<&str> = ["--namespace", &self.name].into_iter().chain(arguments.iter().copied()).collect();
        self.kubernetes.run("kubectl", &within, stdin).await
    }

    /// `kubectl apply` of YAML; unknown and repeated fields are refused.
    pub async fn apply(&self, yaml: &str) -> Said {
        self.kubectl_with(&["apply", "--server-side", "--validate=strict", "-f", "-"], yaml).await
    }

    /// Runs helm as admin in this namespace. Say no `--wait`: nobody makes pods of a Deployment here.
    pub async fn helm(&self, arguments: &[&str]) -> Said {
        let within: Vec<&str> = ["--namespace", &self.name].into_iter().chain(arguments.iter().copied()).collect();
        self.kubernetes.run("helm", &within, "").await
    }

    pub async fn secret(&self, name: &str, entries: &[(&str, &str)]) {
        let entries: BTreeMap<_, _> = entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let secret = Secret { metadata: named(name), string_data: Some(entries), ..Secret::default() };
        self.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }

    pub async fn service_account(&self, name: &str) {
        let account = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        self.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
    }

    /// A kubeconfig with a token of a ServiceAccount of this namespace.
    pub async fn token_kubeconfig(&self, service_account: &str) -> PathBuf {
        let address = self.kubernetes.address();
        self.kubernetes.token_kubeconfig(&self.name, service_account, address).await
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }
}
