//! The validity of certificates.

use std::time::{Duration, SystemTime};

use x509_parser::pem::Pem;

use super::tls::CertKind;

/// The time within which the certificates of a file are valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    not_before: i64,
    /// End of the validity.
    pub(super) not_after: i64,
}

impl Validity {
    /// Returns the validity of the certificates in `pem`: of a chain the time within which all are valid, of
    /// CA certificates that of the last to expire. Returns `None` if `pem` has no readable certificate.
    pub(super) fn of(pem: &[u8], kind: CertKind) -> Option<Self> {
        let all = Pem::iter_from_buffer(pem).filter_map(|block| {
            let block = block.ok()?;
            let validity = block.parse_x509().ok()?.validity().clone();
            Some(Self {
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            })
        });
        match kind {
            CertKind::Chain => all.reduce(|one, other| Self {
                not_before: one.not_before.max(other.not_before),
                not_after: one.not_after.min(other.not_after),
            }),
            CertKind::Authorities => all.max_by_key(|one| one.not_after),
        }
    }

    /// Returns a warning if `now` is not within the validity.
    pub(super) fn warning(self, now: SystemTime) -> Option<String> {
        let (from, to) = (time(self.not_before), time(self.not_after));
        let text = |time| humantime::format_rfc3339_seconds(time).to_string();
        if now < from {
            Some(format!(
                "the certificate is not valid before {}",
                text(from)
            ))
        } else if now > to {
            Some(format!("the certificate expired at {}", text(to)))
        } else {
            None
        }
    }
}

/// Converts seconds since 1970. Earlier times become the start of 1970.
fn time(seconds: i64) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // The last year of a certificate is 9999.
    SystemTime::UNIX_EPOCH + seconds
}

#[cfg(test)]
mod tests {
    use tower_fanout_testkit::fault_server::tls::CertificateAuthority;

    use super::*;

    #[test]
    fn fault_j25_warns_before_and_after_the_validity() {
        let (from, to) = (1_000_000_000, 2_000_000_000);
        let validity = Validity {
            not_before: from,
            not_after: to,
        };
        let warning = |seconds| validity.warning(time(seconds));
        let early = "the certificate is not valid before 2001-09-09T01:46:40Z";
        assert_eq!(warning(from - 1).as_deref(), Some(early));
        assert_eq!((warning(from), warning(to)), (None, None));
        let late = "the certificate expired at 2033-05-18T03:33:20Z";
        assert_eq!(warning(to + 1).as_deref(), Some(late));
    }

    #[test]
    fn fault_j25_one_certificate_ends_a_chain_and_the_last_ends_a_bundle() {
        let authority = CertificateAuthority::new();
        let (valid, expired) = (authority.issue(&["a"]), authority.issue_expired(&["a"]));
        let both = valid.chain_pem.clone() + &expired.chain_pem;
        let of = |pem: &str, kind| Validity::of(pem.as_bytes(), kind).unwrap().not_after;
        let [good, bad] = [&valid, &expired].map(|one| of(&one.chain_pem, CertKind::Chain));
        assert!(bad < good);
        assert_eq!(of(&both, CertKind::Chain), bad);
        assert_eq!(of(&both, CertKind::Authorities), good);
        assert_eq!(Validity::of(b"nothing", CertKind::Chain), None);
    }
}
