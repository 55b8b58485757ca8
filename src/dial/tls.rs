//! What to do about a certificate that is not believed. Pure.

use std::error::Error;

use rustls::{CertificateError, Error as TlsError};

use super::within;

/// How a failure of TLS goes on, after what it says of itself; `None` where it says nothing of a certificate.
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut made_of = Some(error);
    while let Some(error) = made_of {
        if let Some(error) = error.downcast_ref::<TlsError>() {
            return of(error);
        }
        made_of = within(error);
    }
    None
}

fn of(error: &TlsError) -> Option<&'static str> {
    let TlsError::InvalidCertificate(error) = error else { return None };
    Some(match error {
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
            "have it signed by an authority that is trusted here: those of the system, or of the file that SSL_CERT_FILE \
             names (spec.webhook.tls.caRef is not enforced by this version yet)"
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;

    #[test]
    fn each_sort_of_certificate_has_what_to_do_about_it() {
        let told = |error| advice(&TlsError::InvalidCertificate(error)).unwrap();
        assert!(told(CertificateError::UnknownIssuer).contains("SSL_CERT_FILE"));
        assert!(told(CertificateError::NotValidForName).contains("spec.webhook.url"));
        assert!(told(CertificateError::Expired).contains("renew"));
    }

    #[test]
    fn it_is_found_within_an_io_error_and_nothing_else_is_about_certificates() {
        let within = io::Error::other(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(advice(&within).is_some());
        assert_eq!(advice(&io::Error::other(TlsError::HandshakeNotComplete)), None);
        assert_eq!(advice(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(within);
        assert!(advice(&io::Error::other(shared)).is_some());
    }
}
