//! A Kubernetes: its API server, and who may talk to it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use tokio::sync::OnceCell;

use super::{
    ground::{Ground, free_port, spawn, tail},
    kubeconfig::{self, User},
    space::Space,
    tools::{self, Said, tool},
};

/// An API server with objects of its own. Dropped, it is killed; its objects stay behind in etcd, which ends with us.
pub struct Kubernetes {
    ground: &'static Ground,
    port: u16,
    /// Where its objects lie in etcd.
    prefix: String,
    log: PathBuf,
    admin: PathBuf,
    process: Mutex<Option<Child>>,
}

const CRD: &str = "redisexpirylisteners.redisexpiry.io";

static SHARED: OnceCell<Kubernetes> = OnceCell::const_new();

/// An API server is ready some 3 s after its start, and later when both cores are busy.
const START: Duration = Duration::from_secs(60);

impl Kubernetes {
    /// The one that all tests share, with our CRD. Nobody may stop it, or change the CRD.
    pub async fn shared() -> &'static Self {
        let start = async || {
            let kubernetes = Self::own().await;
            kubernetes.install_crd().await;
            kubernetes
        };
        SHARED.get_or_init(start).await
    }

    /// One for this test alone, empty: to be stopped, or to have CRDs that others must not see. Costs 3 s and 300 MB.
    pub async fn own() -> Self {
        let ground = Ground::get().await;
        for _ in 0..3 {
            let place = ground.place("kube-apiserver");
            let port = free_port();
            let prefix = format!("/{}", place.file_name().expect("it has a name").to_string_lossy());
            let [log, admin] = ["log", "kubeconfig"].map(|extension| place.with_extension(extension));
            let user = User::Certificate(&ground.pki.admin);
            kubeconfig::write(&admin, local(port), &ground.pki.ca, &user, "default");
            let kubernetes = Self { ground, port, prefix, log, admin, process: Mutex::default() };
            match kubernetes.try_start().await {
                Ok(()) => return kubernetes,
                Err(why) => eprintln!("{why}; once more, on another port"),
            }
        }
        panic!("kube-apiserver does not start");
    }

    /// SIGKILL: connections are reset, new ones refused.
    pub fn stop_api_server(&self) {
        if let Some(mut child) = self.process().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, on the same port and objects; returns when it is ready.
    pub async fn start_api_server(&self) {
        self.try_start().await.unwrap();
    }

    async fn try_start(&self) -> Result<(), String> {
        let files = &self.ground.pki.files;
        let mut command = Command::new(tool("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={}", self.ground.etcd))
            .arg(format!("--etcd-prefix={}", self.prefix))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.port))
            // Else it refuses to advertise a loopback address.
            .arg("--endpoint-reconciler-type=none")
            .args(["--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true", "--authorization-mode=RBAC"])
            // Nobody makes the ServiceAccount `default` of a namespace.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg(format!("--service-account-issuer=https://127.0.0.1:{}/", self.port));
        for (flag, file) in [
            ("client-ca-file", &files.ca),
            ("tls-cert-file", &files.server),
            ("tls-private-key-file", &files.server_key),
            ("service-account-key-file", &files.service_accounts_public),
            ("service-account-signing-key-file", &files.service_accounts),
        ] {
            command.arg(format!("--{flag}={}", file.display()));
        }
        *self.process() = Some(spawn(command, &self.ground.watchdog, &self.log));
        let give_up = Instant::now() + START;
        let client = self.client().await;
        loop {
            let ended = self.process().as_mut().expect("it was just started").try_wait().unwrap();
            if let Some(status) = ended {
                return Err(format!("kube-apiserver ended with {status}: {}", tail(&self.log)));
            }
            let readyz = axum::http::Request::get("/readyz").body(Vec::new()).unwrap();
            let asked = tokio::time::timeout(Duration::from_secs(5), client.request_text(readyz)).await;
            let why = match asked {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(e)) => e.to_string(),
                Err(_) => "no answer".into(),
            };
            if Instant::now() > give_up {
                return Err(format!("kube-apiserver is not ready within {START:?}: {why}: {}", tail(&self.log)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it listens; a proxy goes in front of it.
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// A client that may do everything. Each test needs its own: a client ends with the runtime it was made in.
    pub async fn client(&self) -> Client {
        client(&self.admin).await
    }

    /// A namespace that nobody else has; `name` begins its name.
    pub async fn namespace(&self, name: &str) -> Space<'_> {
        let client = self.client().await;
        let metadata = ObjectMeta { generate_name: Some(format!("{name}-")), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Space { kubernetes: self, name: made.metadata.name.expect("the server names it"), client }
    }

    /// Runs kubectl as admin.
    pub async fn kubectl(&self, arguments: &[&str]) -> Said {
        self.run("kubectl", arguments, "").await
    }

    /// Runs kubectl or helm as admin with `stdin`, as for `kubectl apply -f -`.
    pub async fn run(&self, name: &str, arguments: &[&str], stdin: &str) -> Said {
        let mut command = tokio::process::Command::new(tool(name));
        // What they cache lies under HOME; nothing of the user's own is read.
        command.args(arguments).env_clear().env("HOME", self.ground.home()).env("KUBECONFIG", &self.admin);
        // The cache of what the server has goes by its address.
        command.env("KUBECACHEDIR", self.admin.with_extension("cache"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        tools::run(&mut command, stdin).await
    }

    /// A kubeconfig with a token of the ServiceAccount, as the operator has one in its pod; `address` is the server's own or a proxy's.
    pub async fn token_kubeconfig(&self, namespace: &str, service_account: &str, address: SocketAddr) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(7_200), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let made = made.unwrap_or_else(|e| panic!("a token of ServiceAccount {namespace}/{service_account}: {e}"));
        let token = made.status.expect("it is answered with its status").token;
        let path = self.ground.place("token").with_extension("kubeconfig");
        kubeconfig::write(&path, address, &self.ground.pki.ca, &User::Token(&token), namespace);
        path
    }

    /// Applies `manifests/crd.yaml`; returns when its objects can be created.
    pub async fn install_crd(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crd.yaml");
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("{}: {e}: print it with the command `crd`", file.display()));
        let crd: CustomResourceDefinition = serde_norway::from_str(&text).unwrap();
        let crds: Api<CustomResourceDefinition> = Api::all(self.client().await);
        crds.patch(CRD, &PatchParams::apply("tests").force(), &Patch::Apply(&crd)).await.unwrap();
        self.established().await;
    }

    /// Waits until objects of our CRD can be created.
    pub async fn established(&self) {
        let established = await_condition(Api::all(self.client().await), CRD, is_crd_established());
        let established = tokio::time::timeout(Duration::from_secs(20), established).await;
        established.expect("the CRD is established within 20 s").unwrap();
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.stop_api_server();
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A client for a kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}
