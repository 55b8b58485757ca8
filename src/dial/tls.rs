//! What to do about a connection that could not be secured. Pure.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::{
    made_of,
    stream::{HungUp, NoHandshake},
};

/// Whose connection it is: their fields have other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Webhook,
    /// The watched Redis, or the store's.
    Redis,
    /// Those of one of them.
    Sentinels,
}

impl For {
    fn field(self) -> &'static str {
        match self {
            Self::Webhook => "spec.webhook.tls",
            Self::Redis => "tls",
            Self::Sentinels => "sentinel.tls",
        }
    }
    /// Where that stands, where the field alone would not tell.
    fn place(self) -> &'static str {
        if self == Self::Webhook { "" } else { " beside the addresses" }
    }
}

/// What an error of a connection says, and what to do about it where that is known.
pub fn advised(error: &(dyn Error + 'static), whose: For) -> String {
    match advice(error, whose) {
        Some(fix) => format!("{error}; {fix}"),
        None => error.to_string(),
    }
}

/// How a connection that could not be made goes on, after what it says of itself; `None` where nothing more is known.
pub fn advice(error: &(dyn Error + 'static), whose: For) -> Option<String> {
    for error in made_of(error) {
        if let Some(error) = error.downcast_ref::<TlsError>() {
            return of(error, whose);
        }
        if error.is::<NoHandshake>() {
            return no_tls(whose);
        }
        match error.downcast_ref::<HungUp>() {
            Some(HungUp { secured: true, .. }) => return Some(ours(whose)),
            Some(_) => return Some(format!("if its port wants TLS, set {}{}", whose.field(), whose.place())),
            None => {}
        }
    }
    None
}

fn of(error: &TlsError, whose: For) -> Option<String> {
    match error {
        TlsError::InvalidCertificate(error) => Some(of_certificate(error, whose)),
        TlsError::AlertReceived(alert) if about_ours(*alert) => Some(ours(whose)),
        TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. } => no_tls(whose),
        _ => None,
    }
}

/// What to do where a server does not take our certificate, or would have one.
pub fn ours(whose: For) -> String {
    let (field, place) = (whose.field(), whose.place());
    format!(
        "it may not believe our certificate, or want one, or have no cipher in common with us: see \
         {field}.clientCertSecretRef{place}"
    )
}

fn no_tls(whose: For) -> Option<String> {
    let (field, place) = (whose.field(), whose.place());
    let fix = "if its port speaks no TLS, use the servers' tls-port in the addresses, or remove";
    (whose != For::Webhook).then(|| format!("{fix} {field}{place}"))
}

fn of_certificate(error: &CertificateError, whose: For) -> String {
    let (field, place) = (whose.field(), whose.place());
    let who = if whose == For::Webhook { "receiver" } else { "server" };
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => match whose {
            For::Webhook => "use a host name that the certificate has in spec.webhook.url, or a certificate that has \
                             this one"
                .to_owned(),
            For::Redis | For::Sentinels => format!(
                "set {field}.serverName{place} to a name that the certificate has (as subjectAltName), or use one that \
                 has this"
            ),
        },
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("renew the {who}'s certificate, and compare the clocks")
        }
        CertificateError::Revoked => format!("give the {who} another certificate"),
        // By far the most: nobody vouches for it, or it vouches for itself.
        _ => {
            let trusted = ", or have it signed by an authority that is trusted here already";
            let or = if whose == For::Webhook { trusted } else { "" };
            format!("name who has signed it in {field}.caRef{place}{or}")
        }
    }
}

/// What a server says of a client's certificate, or of its having none.
fn about_ours(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    )
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn each_sort_of_certificate_has_what_to_do_about_it() {
        let told = |error, whose| advice(&TlsError::InvalidCertificate(error), whose).unwrap();
        assert!(told(CertificateError::UnknownIssuer, For::Webhook).contains("spec.webhook.tls.caRef"));
        assert!(told(CertificateError::UnknownIssuer, For::Redis).contains("tls.caRef"));
        assert!(told(CertificateError::NotValidForName, For::Webhook).contains("spec.webhook.url"));
        assert!(told(CertificateError::NotValidForName, For::Redis).contains("tls.serverName"));
        assert!(told(CertificateError::UnknownIssuer, For::Sentinels).contains("sentinel.tls.caRef"));
        for whose in [For::Webhook, For::Redis] {
            assert!(told(CertificateError::Expired, whose).contains("renew"));
        }
    }

    #[test]
    fn what_a_server_says_of_ours_is_told_from_a_port_without_tls() {
        let required = TlsError::AlertReceived(AlertDescription::CertificateRequired);
        assert!(advice(&required, For::Redis).unwrap().contains("tls.clientCertSecretRef"));
        let plain = TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert!(advice(&plain, For::Redis).unwrap().contains("remove tls"));
        let hung_up = io::Error::other(HungUp { why: "closed".into(), secured: false });
        assert_eq!(
            advised(&hung_up, For::Sentinels),
            "closed; if its port wants TLS, set sentinel.tls beside the addresses"
        );
    }

    #[test]
    fn it_is_found_within_an_io_error_and_nothing_else_is_about_certificates() {
        let within = io::Error::other(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(advice(&within, For::Webhook).is_some());
        assert_eq!(advice(&io::Error::other(TlsError::HandshakeNotComplete), For::Redis), None);
        assert_eq!(advice(&io::Error::from(io::ErrorKind::ConnectionRefused), For::Redis), None);
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(within);
        assert!(advice(&io::Error::other(shared), For::Redis).is_some());
    }
}
