//! Kinds of failed TLS handshakes, for both sides.

use tower_fanout_layers::labels;

labels! {
    /// The reason why a TLS handshake failed.
    ///
    /// The client for downstreams reports the certificate of the downstream. The server reports the certificate
    /// of the client.
    pub enum TlsErrorKind {
        /// The certificate of the peer does not lead to a trusted CA, or is the certificate of a CA itself.
        /// Self-signed certificates have one of the two reasons.
        UntrustedIssuer = "tls_untrusted_issuer",
        /// The certificate of the peer is not valid for the name of the downstream.
        WrongName = "tls_wrong_name",
        /// The certificate of the peer has expired or is not valid yet.
        Expired = "tls_expired",
        /// The two sides have no TLS version, cipher suite or application protocol in common.
        Protocol = "tls_protocol",
        /// The downstream requires a client certificate, or rejects the one that was sent. On the server:
        /// the client sent no certificate.
        ClientCertRequired = "tls_client_cert_required",
        /// The peer does not use TLS on this port.
        NotTls = "tls_not_tls",
        /// The handshake failed for another reason, such as a closed connection or a timeout.
        Failed = "tls_failed",
    }
}

impl TlsErrorKind {
    #[cfg(feature = "client")]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::UntrustedIssuer => "the certificate of the service has no trusted issuer",
            Self::WrongName => "the certificate of the service is for another name",
            Self::Expired => "the certificate of the service has expired or is not valid yet",
            Self::Protocol => "the service supports no common TLS version or cipher suite",
            Self::ClientCertRequired => "the service requires another client certificate",
            Self::NotTls => "the service does not use TLS",
            Self::Failed => "the TLS handshake failed",
        }
    }
}

#[cfg(feature = "tls")]
mod rustls_error {
    use std::io;

    use rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};

    use super::TlsErrorKind;

    impl TlsErrorKind {
        /// Returns the kind of an error of a handshake.
        pub(crate) fn of_io(error: &io::Error) -> Self {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            inner.map_or(Self::Failed, Self::of)
        }

        fn of(error: &Error) -> Self {
            match error {
                Error::InvalidCertificate(error) => of_certificate(error),
                Error::NoCertificatesPresented => Self::ClientCertRequired,
                Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Protocol,
                Error::AlertReceived(
                    Alert::ProtocolVersion
                    | Alert::HandshakeFailure
                    | Alert::InsufficientSecurity
                    | Alert::NoApplicationProtocol
                    | Alert::InappropriateFallback,
                ) => Self::Protocol,
                // The first bytes are no TLS record.
                Error::InvalidMessage(
                    InvalidMessage::InvalidContentType
                    | InvalidMessage::UnknownProtocolVersion
                    | InvalidMessage::MessageTooLarge
                    | InvalidMessage::InvalidEmptyPayload,
                ) => Self::NotTls,
                _ => Self::Failed,
            }
        }
    }

    fn of_certificate(error: &CertificateError) -> TlsErrorKind {
        match error {
            CertificateError::UnknownIssuer => TlsErrorKind::UntrustedIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsErrorKind::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsErrorKind::Expired,
            // A self-signed certificate of a CA, as `openssl req -x509` makes it. rustls hides the type of
            // this error, so only its text tells it from others.
            CertificateError::Other(error) if error.0.to_string() == "CaUsedAsEndEntity" => {
                TlsErrorKind::UntrustedIssuer
            }
            _ => TlsErrorKind::Failed,
        }
    }
}
