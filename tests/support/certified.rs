//! A server that speaks TLS, with a certificate of one's own making.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::certificates::{Authority, Certificate};

pub type Connection = TlsStream<TcpStream>;

pub struct Certified {
    pub address: SocketAddr,
    /// The authority that vouches for it, as PEM.
    #[allow(dead_code, reason = "who only wants it not to be believed does not ask")]
    pub authority: String,
    /// Of the same authority, for who is asked for one.
    #[allow(dead_code, reason = "most are not")]
    pub own: Certificate,
    _serving: JoinSet<()>,
}

impl Certified {
    /// Answers 200 to every request; its certificate is for `name`, and its authority's alone.
    pub async fn start(name: &str) -> Self {
        Self::with(name, false, &[], one_request).await
    }

    /// The same, to whoever has a certificate of its authority.
    #[allow(dead_code, reason = "few are")]
    pub async fn demanding(name: &str) -> Self {
        Self::with(name, true, &[], one_request).await
    }

    /// Speaks HTTP/2 alone: `serve` does, on each connection.
    #[allow(dead_code, reason = "few do")]
    pub async fn http2<F>(name: &str, serve: impl Fn(Connection) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(name, false, &["h2"], serve).await
    }

    /// `demanding` a certificate. It agrees to one of `protocols`, where there are any.
    async fn with<F>(
        name: &str,
        demanding: bool,
        protocols: &[&str],
        serve: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let authority = Authority::new();
        let own = authority.vouch_for("operator");
        let Certificate { certificate, key } = authority.vouch_for(name);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let builder = ServerConfig::builder();
        let builder = if demanding {
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shaking, serve) = (acceptor.accept(stream), serve.clone());
                served.spawn(async move {
                    // Who does not believe us hangs up, which is no fault of ours.
                    if let Ok(stream) = shaking.await {
                        serve(stream).await;
                    }
                });
            }
        });
        Self { address, authority: authority.pem, own, _serving: serving }
    }
}

async fn one_request(mut stream: Connection) {
    let mut request = [0; 16 * 1024];
    if matches!(stream.read(&mut request).await, Ok(read) if read > 0) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }
}
