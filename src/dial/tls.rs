//! What to do about a connection that could not be secured. Pure.

use std::error::Error;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::{stream::NoHandshake, within};

/// Whose connection it is: their fields have other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    Webhook,
    /// The watched Redis, sentinels, or the store's.
    Redis,
}

/// What an error of a connection says, and what to do about it where that is known.
pub fn advised(error: &(dyn Error + 'static), whose: For) -> String {
    match advice(error, whose) {
        Some(fix) => format!("{error}; {fix}"),
        None => error.to_string(),
    }
}

/// How a failure of TLS goes on, after what it says of itself; `None` where nothing more is known.
pub fn advice(error: &(dyn Error + 'static), whose: For) -> Option<&'static str> {
    let mut made_of = Some(error);
    while let Some(error) = made_of {
        if let Some(error) = error.downcast_ref::<TlsError>() {
            return of(error, whose);
        }
        if error.is::<NoHandshake>() && whose == For::Redis {
            return Some(NO_TLS);
        }
        made_of = within(error);
    }
    None
}

const NO_TLS: &str = "if its port speaks no TLS, use the servers' tls-port in the addresses, or remove tls";

fn of(error: &TlsError, whose: For) -> Option<&'static str> {
    Some(match (error, whose) {
        (TlsError::InvalidCertificate(error), For::Webhook) => of_webhook(error),
        (TlsError::InvalidCertificate(error), For::Redis) => of_redis(error),
        (TlsError::AlertReceived(alert), whose) if about_ours(*alert) => match whose {
            For::Webhook => "it does not believe our certificate: see spec.webhook.tls.clientCertSecretRef",
            For::Redis => {
                "it does not believe our certificate, or wants one: see tls.clientCertSecretRef beside the addresses"
            }
        },
        (TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. }, For::Redis) => NO_TLS,
        _ => return None,
    })
}

fn of_webhook(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use a host name that the certificate has in spec.webhook.url, or a certificate that has this one"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew the receiver's certificate, and compare the clocks",
        CertificateError::Revoked => "give the receiver another certificate",
        // By far the most: nobody vouches for it, or it vouches for itself.
        _ => {
            "name who has signed it in spec.webhook.tls.caRef, or have it signed by an authority that is trusted here already"
        }
    }
}

fn of_redis(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "set tls.serverName beside the addresses to a name that the certificate has, or use a certificate that has this one"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew the server's certificate, and compare the clocks",
        CertificateError::Revoked => "give the server another certificate",
        _ => "name who has signed it in tls.caRef beside the addresses",
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
