//! Whom to believe: the keys and the rules of each issuer.

use std::time::SystemTime;

use super::{
    claims::Claims,
    jose::{unverified_issuer, verify_jws},
    keys::KeySet,
    refusal::{Reason, Refusal},
    rules::{InvalidRules, Rules},
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
    keys: KeySet,
    rules: Rules,
}

impl Verifier {
    /// Believes tokens that are signed with one of `keys` and fit `rules`, by the system's clock.
    #[must_use]
    pub fn new(keys: KeySet, rules: Rules) -> Self {
        Self {
            trusted: vec![Trusted { keys, rules }],
            clock: SystemTime::now,
        }
    }

    /// Believes others too, who have their own keys and rules. Whose a token is, is decided by the
    /// issuer that it names; then the keys and the rules of that issuer alone decide.
    ///
    /// # Errors
    /// An issuer has keys and rules already.
    pub fn or(mut self, keys: KeySet, rules: Rules) -> Result<Self, InvalidRules> {
        if self.trusted.iter().any(|one| one.rules.overlaps(&rules)) {
            return Err(InvalidRules("an issuer has two sets of keys and rules"));
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
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let trusted = self.trusted_for(token)?;
        let verified = verify_jws(token, &trusted.keys)?;
        trusted.rules.check(&verified, (self.clock)())
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
