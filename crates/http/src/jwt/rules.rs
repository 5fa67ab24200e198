//! Validation of the claims of a token.

use std::{sync::Arc, time::SystemTime};

use serde_json::{Map, Value};
use tower_fanout_layers::config::{ConfigError, Validate};

use super::{
    claims::{Claims, Shared, find, path, words},
    config::VerifierConfig,
    jose::Verified,
    object::object,
    reason::Reason,
};

/// Latest accepted time: the end of the year 9999, in seconds since 1970.
const LATEST: f64 = 253_402_300_799.0;
/// Maximum nesting of a payload.
const MAX_DEPTH: usize = 32;
/// Maximum number of top-level claims in a payload.
const MAX_CLAIMS: usize = 64;

/// A valid [`VerifierConfig`], prepared for checking tokens.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    config: VerifierConfig,
    tier_claim: Option<Vec<String>>,
    default_tier: Arc<str>,
    roles_claim: Vec<String>,
}

impl Rules {
    /// Prepares `config` for checking tokens.
    ///
    /// # Errors
    /// Returns the first invalid value of `config`.
    pub(super) fn new(config: VerifierConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        Ok(Self {
            tier_claim: config.tier_claim.as_deref().map(path),
            default_tier: config.default_tier.as_str().into(),
            roles_claim: path(&config.roles_claim),
            config,
        })
    }

    /// Returns `true` if these rules accept tokens of `issuer`.
    pub(super) fn is_issuer(&self, issuer: &str) -> bool {
        self.config
            .issuers
            .iter()
            .any(|accepted| accepted == issuer)
    }

    /// Returns `true` if an issuer is listed both here and in `other`.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.config
            .issuers
            .iter()
            .any(|issuer| other.is_issuer(issuer))
    }

    /// Returns the claims of `verified` if they are valid at `now`.
    ///
    /// Expiration is checked last, because a caller may learn of it only if the token is otherwise
    /// valid.
    ///
    /// # Errors
    /// Returns the first rule that the token violates.
    pub(super) fn check(&self, verified: &Verified, now: SystemTime) -> Result<Claims, Reason> {
        self.check_type(&verified.header)?;
        // The strict parser runs only on a payload whose signature is valid.
        let members = object(&verified.payload, MAX_DEPTH);
        let members = members
            .filter(|members| members.len() <= MAX_CLAIMS)
            .ok_or(Reason::Claims)?;
        // A clock before 1970 is read as 1970.
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let expires = self.check_times(&members, since_1970)?;
        match members.get("iss") {
            Some(Value::String(issuer)) if self.is_issuer(issuer) => {}
            _ => return Err(Reason::Issuer),
        }
        if !self.is_audience(members.get("aud")) {
            return Err(Reason::Audience);
        }
        self.check_names(&members, now)?;
        if since_1970 > expires + self.config.leeway.as_secs_f64() {
            return Err(Reason::Expired);
        }
        Ok(self.read(members))
    }

    fn check_type(&self, header: &Map<String, Value>) -> Result<(), Reason> {
        let Some(required) = &self.config.require_typ else {
            return Ok(());
        };
        match header.get("typ") {
            Some(Value::String(typ))
                if bare_type(typ).eq_ignore_ascii_case(bare_type(required)) =>
            {
                Ok(())
            }
            _ => Err(Reason::Type),
        }
    }

    /// Checks `exp`, `nbf` and `iat`. Returns `exp`, which the caller compares with the time.
    fn check_times(&self, members: &Map<String, Value>, now: f64) -> Result<f64, Reason> {
        let leeway = self.config.leeway.as_secs_f64();
        let time = |name, reason| match members.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                // The range also excludes numbers that are too large for later sums.
                Some(time) if (0.0..=LATEST).contains(&time) => Ok(Some(time)),
                _ => Err(reason),
            },
        };
        let expires = time("exp", Reason::Expiry)?.ok_or(Reason::Expiry)?;
        if time("nbf", Reason::NotBefore)?.is_some_and(|from| now + leeway < from) {
            return Err(Reason::NotBefore);
        }
        let issued = time("iat", Reason::IssuedAt)?;
        let in_future = issued.is_some_and(|issued| now + leeway < issued);
        let too_old = self.config.max_age.is_some_and(|max_age| {
            let oldest = now - leeway - max_age.as_secs_f64();
            // Without `iat` the age is unknown.
            issued.is_none_or(|issued| issued < oldest)
        });
        if in_future || too_old {
            return Err(Reason::IssuedAt);
        }
        Ok(expires)
    }

    fn is_audience(&self, claim: Option<&Value>) -> bool {
        let accepted = |audience: &String| self.config.audiences.contains(audience);
        match claim {
            Some(Value::String(audience)) => accepted(audience),
            Some(Value::Array(all)) => {
                // One value of another type makes the whole claim invalid.
                all.iter().all(Value::is_string)
                    && all
                        .iter()
                        .any(|one| matches!(one, Value::String(one) if accepted(one)))
            }
            _ => false,
        }
    }

    /// Checks `sub` and `jti`, which must be strings if present
    /// ([RFC 7519 §4.1](https://www.rfc-editor.org/rfc/rfc7519#section-4.1)).
    fn check_names(&self, members: &Map<String, Value>, now: SystemTime) -> Result<(), Reason> {
        let name = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(Reason::Claims),
        };
        name("sub")?;
        match (name("jti")?, &self.config.deny_list) {
            (None, _) if self.config.require_jti => Err(Reason::Claims),
            (Some(id), Some(list)) if list.contains(id, now) => Err(Reason::Revoked),
            _ => Ok(()),
        }
    }

    fn read(&self, members: Map<String, Value>) -> Claims {
        let roles = find(&members, &self.roles_claim).map(words);
        // Some issuers send `scp` in place of `scope`.
        let scopes = members.get("scope").or_else(|| members.get("scp"));
        let scopes = scopes.map(words);
        Claims::new(Shared {
            tier: self.tier_of(&members),
            roles: roles.unwrap_or_default(),
            scopes: scopes.unwrap_or_default(),
            members,
        })
    }

    fn tier_of(&self, members: &Map<String, Value>) -> Arc<str> {
        let claim = self.tier_claim.as_ref();
        match claim.and_then(|claim| find(members, claim)) {
            Some(Value::String(tier)) if self.config.tiers.contains(tier) => tier.as_str().into(),
            claimed => {
                if claimed.is_some() {
                    tracing::debug!("the token's tier is unknown, using the default tier");
                }
                Arc::clone(&self.default_tier)
            }
        }
    }
}

/// Strips `application/` from a media type, where the prefix is optional
/// ([RFC 7515 §4.1.9](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9)).
fn bare_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    }
}
