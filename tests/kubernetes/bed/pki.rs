//! Who the API server believes: one authority for the whole test binary, and what it has signed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Everything is PEM.
pub struct Pki {
    pub ca: String,
    /// The client certificate of a member of `system:masters`, whom RBAC does not hold back.
    pub admin: Pair,
    /// As the files that the API server is given.
    pub files: Files,
}

pub struct Pair {
    pub certificate: String,
    pub key: String,
}

pub struct Files {
    pub ca: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    /// Signs the tokens of service accounts and checks them: the public half is in it.
    pub service_accounts: PathBuf,
    pub service_accounts_public: PathBuf,
}

impl Pki {
    /// Makes the keys and lays the server's files into `directory`.
    pub fn make(directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "kubernetes of the tests");
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);

        let mut server = CertificateParams::new(["kubernetes.default.svc".into(), "localhost".into()]).unwrap();
        server.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server = sign(server, ExtendedKeyUsagePurpose::ServerAuth, &issuer);
        let mut admin = CertificateParams::default();
        admin.distinguished_name.push(DnType::CommonName, "admin");
        admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let admin = sign(admin, ExtendedKeyUsagePurpose::ClientAuth, &issuer);

        fs::create_dir(directory).unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let accounts = KeyPair::generate().unwrap();
        let files = Files {
            ca: write("ca.crt", &ca),
            server: write("server.crt", &server.certificate),
            server_key: write("server.key", &server.key),
            service_accounts: write("sa.key", &accounts.serialize_pem()),
            service_accounts_public: write("sa.pub", &accounts.public_key_pem()),
        };
        Self { ca, admin, files }
    }
}

fn sign(mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, issuer: &Issuer<'_, KeyPair>) -> Pair {
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.signed_by(&key, issuer).unwrap().pem(), key: key.serialize_pem() }
}
