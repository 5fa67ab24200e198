//! The keys and the rules of each trusted issuer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_fanout_layers::config::ConfigError;

use super::{
    claims::Claims,
    config::VerifierConfig,
    jose::{BUFFER, unverified_issuer, verify},
    keys::{Flight, Keys, Unavailable},
    reason::Reason,
    rules::Rules,
};

/// Checks tokens with the keys and the rules of one or more issuers.
#[derive(Clone, Debug)]
pub struct Verifier {
    trusted: Vec<Trusted>,
    clock: fn() -> SystemTime,
}

/// Keys, and the rules for the tokens that are signed with them.
#[derive(Clone, Debug)]
struct Trusted {
    keys: Keys,
    rules: Rules,
}

/// Reason for which [`Verifier::check`] did not return claims.
pub(super) enum VerifyError {
    /// The token is invalid, or no usable keys exist and a retry may succeed after the time.
    Refused(Reason, Option<Duration>),
    /// The token's key is unknown, but a fetch that is due or running may return it. Completes with that
    /// fetch.
    NoKeyYet(Flight),
}

impl From<Reason> for VerifyError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason, None)
    }
}

impl From<Unavailable> for VerifyError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Refused(Reason::Unavailable, Some(unavailable.retry_after))
    }
}

impl Verifier {
    /// Creates a verifier that accepts tokens that are signed with one of `keys` and satisfy `config`.
    /// The time is that of [`SystemTime::now`].
    ///
    /// # Errors
    /// Returns the first invalid value of `config`.
    pub fn new(keys: impl Into<Keys>, config: VerifierConfig) -> Result<Self, ConfigError> {
        let (keys, rules) = (keys.into(), Rules::new(config)?);
        Ok(Self {
            trusted: vec![Trusted { keys, rules }],
            clock: SystemTime::now,
        })
    }

    /// Adds other issuers with their own keys and config.
    ///
    /// The unverified `iss` of a token selects the entry. The token is then checked only with the keys and
    /// the config of that entry, including its deny list.
    ///
    /// # Errors
    /// Returns the first invalid value of `config`, or an error if an earlier entry has one of its issuers.
    pub fn or(
        mut self,
        keys: impl Into<Keys>,
        config: VerifierConfig,
    ) -> Result<Self, ConfigError> {
        let (keys, rules) = (keys.into(), Rules::new(config)?);
        if self.trusted.iter().any(|one| one.rules.overlaps(&rules)) {
            let message = "each issuer must have only one set of keys and rules";
            return Err(ConfigError::new("issuers", message).of("VerifierConfig"));
        }
        self.trusted.push(Trusted { keys, rules });
        Ok(self)
    }

    /// Replaces the source of the current time.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Returns the claims of `token` if it is valid. The result is not cached.
    ///
    /// If the token's key is unknown and the keys are fetched, a fetch is requested. This method does
    /// not wait for the fetch.
    ///
    /// # Errors
    /// Returns the reason for which the token is invalid, or [`Reason::Unavailable`] if no keys exist
    /// to check it with.
    pub fn verify(&self, token: &str) -> Result<Claims, Reason> {
        self.check(token).map_err(|failure| match failure {
            VerifyError::Refused(reason, _) => reason,
            VerifyError::NoKeyYet(_) => Reason::Kid,
        })
    }

    /// Checks like [`verify`](Self::verify), and returns the fetch to wait for if the key is unknown.
    pub(super) fn check(&self, token: &str) -> Result<Claims, VerifyError> {
        let trusted = self.trusted_for(token)?;
        let mut keys = trusted.keys.current()?;
        let mut buffer = [0; BUFFER];
        // Keys can be replaced while the token is checked. The loop tries each newer set once.
        loop {
            match verify(token, &keys, &mut buffer) {
                Err(Reason::Kid) => {}
                verified => return Ok(trusted.rules.check(verified?, (self.clock)())?),
            }
            if let Some(flight) = trusted.keys.flight() {
                return Err(VerifyError::NoKeyYet(flight));
            }
            let newer = trusted.keys.current()?;
            if Arc::ptr_eq(&keys, &newer) {
                return Err(Reason::Kid.into());
            }
            keys = newer;
        }
    }

    /// Returns the entry for the issuer of `token`. A single entry is returned without parsing the
    /// token.
    fn trusted_for(&self, token: &str) -> Result<&Trusted, Reason> {
        if let [only] = &*self.trusted {
            return Ok(only);
        }
        let issuer = unverified_issuer(token)?;
        self.trusted
            .iter()
            .find(|one| one.rules.is_issuer(&issuer))
            .ok_or(Reason::Issuer)
    }
}
