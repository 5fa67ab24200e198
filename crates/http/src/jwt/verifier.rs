//! Whom to believe: the keys and the rules of each issuer.

use std::{sync::Arc, time::SystemTime};

use tower_fanout_layers::config::ConfigError;

use super::{
    claims::Claims,
    config::VerifierConfig,
    jose::{unverified_issuer, verify_jws},
    keys::{Flight, Keys, Unavailable},
    refusal::{Reason, Refusal},
    rules::Rules,
};

/// Knows whom to believe.
#[derive(Clone, Debug)]
pub struct Verifier {
    trusted: Vec<Trusted>,
    clock: fn() -> SystemTime,
}

/// Keys, and the rules for what is signed with them.
#[derive(Clone, Debug)]
struct Trusted {
    keys: Keys,
    rules: Rules,
}

/// Why a token is not believed.
pub(super) enum VerifyError {
    /// It is wrong.
    Refused(Refusal),
    /// It names a key that is not there, and that a fetch may bring, which ends then.
    NoKeyYet(Flight),
    /// There are no keys to check it with.
    Unavailable(Unavailable),
}

impl From<Refusal> for VerifyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unavailable> for VerifyError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl Verifier {
    /// Believes tokens that are signed with one of `keys` and fit `config`, by the system's clock.
    ///
    /// # Errors
    /// A value of `config` is not valid.
    pub fn new(keys: impl Into<Keys>, config: VerifierConfig) -> Result<Self, ConfigError> {
        let (keys, rules) = (keys.into(), Rules::new(config)?);
        Ok(Self {
            trusted: vec![Trusted { keys, rules }],
            clock: SystemTime::now,
        })
    }

    /// Believes others too, who have their own keys and config. Whose a token is, is decided by the
    /// issuer that it names; then the keys and the config of that issuer alone decide.
    ///
    /// # Errors
    /// A value of `config` is not valid, or an issuer has keys already.
    pub fn or(
        mut self,
        keys: impl Into<Keys>,
        config: VerifierConfig,
    ) -> Result<Self, ConfigError> {
        let (keys, rules) = (keys.into(), Rules::new(config)?);
        if self.trusted.iter().any(|one| one.rules.overlaps(&rules)) {
            let message = "an issuer has two sets of keys and rules";
            return Err(ConfigError::new("issuers", message));
        }
        self.trusted.push(Trusted { keys, rules });
        Ok(self)
    }

    /// Reads the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// What `token` says, if it is believed. Nothing is remembered of it: the next time it is checked
    /// as if it had not been seen.
    ///
    /// For a key that is not there yet a fetch is begun, where keys are fetched; it is not waited for
    /// here.
    ///
    /// # Errors
    /// What is wrong with it; or that there are [no keys](Reason::Unavailable) to check it with.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        self.check(token).map_err(|failure| match failure {
            VerifyError::Refused(refusal) => refusal,
            VerifyError::NoKeyYet(_) => Refusal(Reason::Kid),
            VerifyError::Unavailable(_) => Refusal(Reason::Unavailable),
        })
    }

    /// [`verify`](Self::verify), with what can be done about it if it fails.
    pub(super) fn check(&self, token: &str) -> Result<Claims, VerifyError> {
        let trusted = self.trusted_for(token)?;
        let mut keys = trusted.keys.current()?;
        loop {
            match verify_jws(token, &keys) {
                Err(Refusal(Reason::Kid)) => {}
                verified => return Ok(trusted.rules.check(&verified?, (self.clock)())?),
            }
            if let Some(flight) = trusted.keys.flight() {
                return Err(VerifyError::NoKeyYet(flight));
            }
            let newer = trusted.keys.current()?;
            if Arc::ptr_eq(&keys, &newer) {
                return Err(Refusal(Reason::Kid).into());
            }
            keys = newer;
        }
    }

    /// Who is asked about `token`. Where there is one only, the token need not be read for it.
    fn trusted_for(&self, token: &str) -> Result<&Trusted, Refusal> {
        if let [only] = &*self.trusted {
            return Ok(only);
        }
        let issuer = unverified_issuer(token)?;
        self.trusted
            .iter()
            .find(|one| one.rules.is_issuer(&issuer))
            .ok_or(Refusal(Reason::Issuer))
    }
}
