//! Which tokens are believed, and what is asked of callers.

use std::time::Duration;

use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

use super::{denylist::DenyList, refusal::quotable};
use crate::bounds::{Bounds, YEAR};

/// The most that clocks may be apart.
pub(super) const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Who a valid token must be from and for, and what is read from it.
///
/// The default names no issuer and no audience, and [`Verifier::new`](super::Verifier::new) refuses it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifierConfig {
    /// Issuers whose tokens are believed; at least one.
    pub issuers: Vec<String>,
    /// Audiences, one of which a token must be for; at least one.
    pub audiences: Vec<String>,
    /// How far clocks may be apart, at most 300 s; 30 s by default.
    pub leeway: Duration,
    /// Maximum age of a token, 1 s to a year. Tokens that do not say when they were issued are refused
    /// then. No maximum by default.
    pub max_age: Option<Duration>,
    /// Required type of a token, such as `at+jwt` for access tokens
    /// ([RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)); any by default. Case does not
    /// count, and neither does `application/` in front.
    pub require_typ: Option<String>,
    /// Requires the claim `jti`; `false` by default.
    pub require_jti: bool,
    /// Refuses tokens whose `jti` is in this list; no list by default. See also
    /// [`require_jti`](field@Self::require_jti): a token without an id is in no list.
    pub deny_list: Option<DenyList>,
    /// Claim with the caller's tier: a path with dots, or a URI as a whole. By default all callers have
    /// the default tier.
    pub tier_claim: Option<String>,
    /// The known tiers.
    pub tiers: Vec<String>,
    /// Tier of a caller whose token names none of `tiers`; `default` by default.
    pub default_tier: String,
    /// Claim with the caller's roles: a path with dots, or a URI as a whole; `roles` by default.
    pub roles_claim: String,
}

setters! {
    without new VerifierConfig {
        leeway: Duration,
        max_age: Option<Duration>,
        require_jti: bool,
        deny_list: Option<DenyList>,
        roles_claim: String,
    }
}

impl VerifierConfig {
    /// Believes tokens of `issuers` for one of `audiences`.
    #[must_use]
    pub fn new<S: Into<String>>(
        issuers: impl IntoIterator<Item = S>,
        audiences: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            issuers: strings(issuers),
            audiences: strings(audiences),
            ..Self::default()
        }
    }

    /// Sets [`require_typ`](field@Self::require_typ).
    #[must_use]
    pub fn require_typ(mut self, typ: impl Into<String>) -> Self {
        self.require_typ = Some(typ.into());
        self
    }

    /// Sets [`tier_claim`](field@Self::tier_claim), [`tiers`](field@Self::tiers) and
    /// [`default_tier`](field@Self::default_tier).
    #[must_use]
    pub fn tier(
        mut self,
        claim: impl Into<String>,
        tiers: impl IntoIterator<Item = impl Into<String>>,
        default: impl Into<String>,
    ) -> Self {
        self.tier_claim = Some(claim.into());
        self.tiers = strings(tiers);
        self.default_tier = default.into();
        self
    }
}

impl Default for VerifierConfig {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            max_age: None,
            require_typ: None,
            require_jti: false,
            deny_list: None,
            tier_claim: None,
            tiers: Vec::new(),
            default_tier: "default".into(),
            roles_claim: "roles".into(),
        }
    }
}

impl Validate for VerifierConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let issuers = !self.issuers.is_empty();
        let audiences = !self.audiences.is_empty();
        let leeway = self.leeway <= MAX_LEEWAY;
        Bounds::default()
            .unless(issuers, "issuers", "at least one issuer must be named")
            .unless(
                audiences,
                "audiences",
                "at least one audience must be named",
            )
            .unless(leeway, "leeway", "the leeway is at most 300 s")
            .time("max_age", self.max_age, Duration::from_secs(1)..=YEAR)
            .unless(
                self.require_typ.as_deref() != Some(""),
                "require_typ",
                "must not be empty",
            )
            .into_vec()
    }
}

/// What a caller with a valid token must have, and what the others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtConfig {
    /// Name of what is protected, in the challenge: printable ASCII without quotes and backslashes;
    /// `fanout` by default.
    pub realm: String,
    /// Roles, one of which a caller must have; none by default.
    pub any_role: Vec<String>,
    /// Scopes, all of which a caller must have; none by default.
    pub all_scopes: Vec<String>,
    /// Lets CORS preflights through without a token, and without claims; `false` by default.
    pub skip_preflight: bool,
    /// Tells a caller that a token, good otherwise, has expired; `true` by default.
    pub reveal_expired: bool,
}

setters! {
    JwtConfig {
        realm: String,
        skip_preflight: bool,
        reveal_expired: bool,
    }
}

impl JwtConfig {
    /// Sets [`any_role`](field@Self::any_role).
    #[must_use]
    pub fn any_role(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.any_role = strings(roles);
        self
    }

    /// Sets [`all_scopes`](field@Self::all_scopes).
    #[must_use]
    pub fn all_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.all_scopes = strings(scopes);
        self
    }
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            realm: "fanout".into(),
            any_role: Vec::new(),
            all_scopes: Vec::new(),
            skip_preflight: false,
            reveal_expired: true,
        }
    }
}

impl Validate for JwtConfig {
    fn errors(&self) -> Vec<ConfigError> {
        check_realm(Bounds::default(), &self.realm).into_vec()
    }
}

/// Expects a realm that can be quoted as it is.
pub(super) fn check_realm(bounds: Bounds, realm: &str) -> Bounds {
    let message = "must be printable ASCII without quotes and backslashes";
    bounds.unless(quotable(realm) == realm, "realm", message)
}

fn strings(all: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    all.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_is_named() {
        let good = || VerifierConfig::new(["a"], ["b"]);
        assert_eq!(good().errors(), []);
        assert_eq!(JwtConfig::default().errors(), []);
        let none: [&str; 0] = [];
        for (config, field) in [
            (VerifierConfig::new(["a"], none), "audiences"),
            (VerifierConfig::default(), "issuers"),
            (good().leeway(Duration::from_secs(301)), "leeway"),
            (good().max_age(Duration::ZERO), "max_age"),
            (good().max_age(2 * YEAR), "max_age"),
            (good().require_typ(""), "require_typ"),
        ] {
            assert_eq!(config.errors()[0].field(), field);
        }
    }
}
