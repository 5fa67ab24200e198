//! Configuration of the token checks and of the authorization of callers.

use std::time::Duration;

use tower_fanout_layers::{
    config,
    config::{ConfigError, ConfigErrors, Validate},
};

use super::{denylist::DenyList, reason::quotable};
use crate::bounds::YEAR;

/// Maximum of [`VerifierConfig::leeway`].
pub(super) const MAX_LEEWAY: Duration = Duration::from_secs(300);

config! {
    /// Rules for the claims of a token: accepted issuers, audiences and times, and the claims to read.
    ///
    /// The default has no issuer and no audience, and [`Verifier::new`](super::Verifier::new) rejects it.
    #[derive(Clone, Debug)]
    pub struct VerifierConfig {
        /// Accepted values of the claim `iss`; at least one.
        pub issuers: Vec<String> = Vec::new(),
        /// Accepted values of the claim `aud`; at least one. A token must contain one of them.
        pub audiences: Vec<String> = Vec::new(),
        /// Tolerance for clock skew when `exp`, `nbf` and `iat` are checked, at most 300 s. Defaults to
        /// 30 s.
        pub leeway: Duration = Duration::from_secs(30),
        /// Maximum age of a token by its `iat`, from 1 s to a year. Tokens without `iat` are then refused.
        /// `None`, the default, sets no maximum.
        pub max_age: Option<Duration> = None,
        /// Required `typ` of the token's header, such as `at+jwt` for access tokens
        /// ([RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)). The comparison ignores case and
        /// the prefix `application/`. `None`, the default, accepts any type.
        pub require_typ: Option<String> = None,
        /// Requires the claim `jti`; `false` by default.
        pub require_jti: bool = false,
        /// List of revoked `jti`s, whose tokens are refused. `None`, the default, checks no list. A token
        /// without `jti` passes every list, unless [`require_jti`](field@Self::require_jti) is set.
        ///
        /// The list applies to the issuers of this config only. Clones of one [`DenyList`] in several
        /// configs refuse an id for all of them, so give issuers with colliding ids separate lists.
        pub deny_list: Option<DenyList> = None,
        /// Claim that holds the caller's tier, a string: a path of names separated by dots, or a URI (with
        /// `://`) as a single name. `None`, the default, gives every caller
        /// [`default_tier`](field@Self::default_tier).
        pub tier_claim: Option<String> = None,
        /// Known tiers. Empty by default, which gives every caller [`default_tier`](field@Self::default_tier).
        pub tiers: Vec<String> = Vec::new(),
        /// Tier of a caller whose token has none of [`tiers`](field@Self::tiers). Defaults to `default`.
        pub default_tier: String = "default".into(),
        /// Claim that holds the caller's roles, in the form that [`Claims::roles`](super::Claims::roles)
        /// describes: a path of names separated by dots, or a URI (with `://`) as a single name. Defaults
        /// to `roles`.
        pub roles_claim: String = "roles".into(),
    }
    limits {
        leeway: within(Duration::ZERO..=MAX_LEEWAY),
        max_age: within(Duration::from_secs(1)..=YEAR),
    }
}

impl Validate for VerifierConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let issuers = !self.issuers.is_empty();
        let audiences = !self.audiences.is_empty();
        self.check_limits()
            .unless(issuers, "issuers", "expected at least one issuer, got none")
            .unless(
                audiences,
                "audiences",
                "expected at least one audience, got none",
            )
            .unless(
                self.require_typ.as_deref() != Some(""),
                "require_typ",
                "must not be empty",
            )
            .into_vec()
    }
}

config! {
    /// Authorization of callers with a valid token, and the responses to all others.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct JwtConfig {
        /// Protection space in the `Bearer` challenge: printable ASCII without quotes and backslashes.
        /// Defaults to `fanout`.
        pub realm: String = "fanout".into(),
        /// Accepted roles; a caller must have at least one of them. Empty by default, which requires no
        /// role.
        pub any_role: Vec<String> = Vec::new(),
        /// Required scopes; a caller must have all of them. Empty by default.
        pub all_scopes: Vec<String> = Vec::new(),
        /// Passes CORS preflight requests on without a token and without claims. Defaults to `false`.
        ///
        /// Set it if a service below this layer responds to preflight requests. It is not needed if
        /// `CorsLayer` is above this layer, because that layer responds to every `OPTIONS` request itself.
        pub skip_preflight: bool = false,
        /// Adds the detail "the token has expired" to the response if the token is otherwise valid.
        /// Defaults to `true`.
        pub reveal_expired: bool = true,
    }
}

impl Validate for JwtConfig {
    fn errors(&self) -> Vec<ConfigError> {
        check_realm(ConfigErrors::default(), &self.realm).into_vec()
    }
}

/// Requires `realm` to fit into a quoted string without escapes.
pub(super) fn check_realm(errors: ConfigErrors, realm: &str) -> ConfigErrors {
    let message = format!("must be printable ASCII without quotes and backslashes, got {realm:?}");
    errors.unless(quotable(realm) == realm, "realm", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_the_field_of_an_invalid_value() {
        let good = || VerifierConfig::new().issuers(["a"]).audiences(["b"]);
        assert_eq!(good().errors(), []);
        assert_eq!(JwtConfig::default().errors(), []);
        let none: [&str; 0] = [];
        for (config, field) in [
            (
                VerifierConfig::new().issuers(["a"]).audiences(none),
                "audiences",
            ),
            (VerifierConfig::default(), "issuers"),
            (good().leeway(Duration::from_secs(301)), "leeway"),
            (good().max_age(Duration::ZERO), "max_age"),
            (good().max_age(2 * YEAR), "max_age"),
            (good().require_typ("".to_owned()), "require_typ"),
        ] {
            assert_eq!(config.errors()[0].field(), field);
        }
    }
}
