//! An authority of one's own, and what it vouches for, as PEM files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis_expiry_operator::commands::demo::cluster::TlsFiles;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate and its key.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL holds what is called as its issuer is for self-signed.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", rand::random::<u64>()));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For that name or address, and for servers and clients alike.
    pub fn vouch_for(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Files for redis-servers that are called `name`.
    #[allow(dead_code, reason = "most start no servers")]
    pub fn files(&self, directory: &Path, name: &str) -> TlsFiles {
        let Certificate { certificate, key } = self.vouch_for(name);
        let write = |name: &str, text: &str| -> PathBuf {
            let path = directory.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            authority: write("authority.pem", &self.pem),
            certificate: write("server.pem", &certificate),
            key: write("server.key", &key),
        }
    }
}
