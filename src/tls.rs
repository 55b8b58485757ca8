//! TLS towards a Redis or a webhook: whom we believe, and who we are. Pure, but that the system's authorities are read when
//! they are first needed.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    sign::CertifiedKey,
};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// What is known of it, as it lies in Secrets and `ConfigMaps`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Material {
    /// PEM: those whose signature on a server's certificate is believed. `None`: the system's.
    pub authorities: Option<Vec<u8>>,
    /// PEM: our certificate with what leads to its authority behind it, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that a server's certificate must have. `None`: the host that is dialled.
    pub server_name: Option<String>,
}

/// What of a [`Material`] cannot be used; the text goes on after what is referred to: `is no certificate in PEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    Authorities(String),
    Certificate(String),
    Key(String),
    ServerName,
}

/// Checked, and ready to be used. Two are equal if their materials are.
#[derive(Clone)]
pub struct Tls(Arc<Checked>);

struct Checked {
    material: Material,
    roots: Option<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
    server_name: Option<ServerName<'static>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// # Errors
    /// The first part that cannot be used.
    pub fn new(material: Material) -> Result<Self, Wrong> {
        let roots = material.authorities.as_deref().map(roots).transpose()?;
        let identity = material.identity.as_ref().map(|(chain, key)| identity(chain, key)).transpose()?;
        let server_name = material.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = server_name.map_err(|_| Wrong::ServerName)?;
        Ok(Self(Arc::new(Checked { material, roots, identity, server_name, config: OnceLock::new() })))
    }

    /// How a connection is secured.
    ///
    /// # Errors
    /// The system's authorities cannot be read.
    pub fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.0.config.get() {
            return Ok(Arc::clone(config));
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &self.0.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.with_platform_verifier()?,
        };
        let config = match &self.0.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Always(Arc::clone(identity)))),
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::clone(self.0.config.get_or_init(|| Arc::new(config))))
    }

    /// The certificate of each server must have the same name.
    pub fn names_all(&self) -> bool {
        self.0.server_name.is_some()
    }

    /// The name that the certificate of a server must have which is dialled as `host`; `None`: there can be no such name.
    pub fn server_name(&self, host: &str) -> Option<ServerName<'static>> {
        match &self.0.server_name {
            Some(name) => Some(name.clone()),
            None => ServerName::try_from(host.to_owned()).ok(),
        }
    }
}

/// Ours is shown to whoever asks for one, whatever authorities it names.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// The only one that is compiled in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    // As with the system's: one that nobody can read does not spoil the others.
    match roots.add_parsable_certificates(certificates(pem).map_err(Wrong::Authorities)?) {
        (0, _) => Err(Wrong::Authorities("has no certificate of use".into())),
        _ => Ok(roots),
    }
}

fn identity(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Wrong> {
    let chain = certificates(chain).map_err(Wrong::Certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| Wrong::Key("is no unencrypted private key in PEM".into()))?;
    let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Wrong::Key("is not the key of tls.crt".into()),
        rustls::Error::InvalidCertificate(_) => Wrong::Certificate(format!("is of no use: {error}")),
        _ => Wrong::Key(format!("is of no use: {error}")),
    })?;
    Ok(Arc::new(certified))
}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("is no certificate in PEM".into()),
        Err(error) => Err(format!("has a part that is no PEM ({error})")),
    }
}

/// Whom the system trusts, and nobody ourselves.
impl Default for Tls {
    fn default() -> Self {
        let (material, config) = (Material::default(), OnceLock::new());
        Self(Arc::new(Checked { material, roots: None, identity: None, server_name: None, config }))
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.material == other.0.material
    }
}
impl Eq for Tls {}
impl Hash for Tls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.material.hash(state);
    }
}

impl fmt::Debug for Tls {
    /// Nothing of a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.0.material.authorities.is_some())
            .field("identity", &self.0.material.identity.is_some())
            .field("server_name", &self.0.material.server_name)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate that vouches for itself, and its key, in PEM.
    fn made() -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["redis".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn wrong(material: Material) -> Wrong {
        Tls::new(material).unwrap_err()
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (certificate, key) = made();
        let (_, another) = made();
        let authorities = |pem: &[u8]| Material { authorities: Some(pem.to_vec()), ..Material::default() };
        let identity = |chain: &[u8], key: &[u8]| Material {
            identity: Some((chain.to_vec(), key.to_vec())),
            ..Material::default()
        };
        assert_eq!(wrong(authorities(b"")), Wrong::Authorities("is no certificate in PEM".into()));
        assert_eq!(wrong(authorities(&key)), Wrong::Authorities("is no certificate in PEM".into()));
        assert_eq!(wrong(identity(b"x", &key)), Wrong::Certificate("is no certificate in PEM".into()));
        assert_eq!(wrong(identity(&certificate, b"x")), Wrong::Key("is no unencrypted private key in PEM".into()));
        assert_eq!(wrong(identity(&certificate, &another)), Wrong::Key("is not the key of tls.crt".into()));
        let named = Material { server_name: Some("a b".into()), ..Material::default() };
        assert_eq!(wrong(named), Wrong::ServerName);
        assert!(Tls::new(authorities(&certificate)).unwrap().config().is_ok());
        assert!(Tls::new(identity(&certificate, &key)).is_ok());
    }

    #[test]
    fn the_name_is_the_host_that_is_dialled_unless_another_is_given() {
        let name = |given: Option<&str>, host: &str| {
            let material = Material { server_name: given.map(str::to_owned), ..Material::default() };
            Tls::new(material).unwrap().server_name(host).map(|name| name.to_str().into_owned())
        };
        assert_eq!(name(None, "redis-0.shop.svc").as_deref(), Some("redis-0.shop.svc"));
        assert_eq!(name(None, "10.0.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(name(Some("redis.shop.svc"), "10.0.0.1").as_deref(), Some("redis.shop.svc"));
        assert_eq!(name(None, "a b"), None);
    }

    #[test]
    fn two_are_equal_if_made_of_the_same_and_show_no_key() {
        let (certificate, key) = made();
        let material = Material { identity: Some((certificate, key)), ..Material::default() };
        let (one, other) = (Tls::new(material.clone()).unwrap(), Tls::new(material).unwrap());
        assert_eq!(one, other);
        assert_ne!(one, Tls::new(Material::default()).unwrap());
        assert_eq!(format!("{one:?}"), "Tls { authorities: false, identity: true, server_name: None }");
    }
}
