//! The parts `auth`, and `auth` of routes.

use std::{fmt, time::Duration};

use http::HeaderName;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_fanout_http::jwt::{
    Algorithm, JwtConfig, VerifierConfig,
    jwks::{JwksConfig, Start},
};

use super::{
    super::text::{Parsed, Scope, Size, TokenType, Url},
    section,
};

section! {
    /// Authentication of callers.
    #[schemars(extend("required" = ["jwt"]))]
    Auth {
        /// Providers of JSON Web Tokens by name.
        jwt: IndexMap<String, Jwt> = IndexMap::new(),
    }
}

section! {
    /// A provider of JSON Web Tokens.
    #[schemars(extend("required" = ["algorithms", "keys"], "x-partial" = true))]
    Jwt {
        /// Allowed signature algorithms. HMAC and public-key algorithms must not be combined.
        algorithms: Vec<Parsed<Algorithm>> = Vec::new(),
        /// Keys that verify tokens: any number of static keys, or one JWK set.
        keys: Vec<Key> = Vec::new(),
        /// Allowed issuers (claim `iss`). At least one.
        issuers: Vec<String> = Vec::new(),
        /// Allowed audiences (claim `aud`). At least one.
        audiences: Vec<String> = Vec::new(),
        /// Tolerance for the clocks of other machines.
        leeway: Parsed<Duration> = Parsed(VerifierConfig::default().leeway),
        /// Maximum age of a token since `iat`. By default, only `exp` limits it.
        max_age: Option<Parsed<Duration>> = None,
        /// Required type (header `typ`), such as `at+jwt`.
        require_typ: Option<Parsed<TokenType>> = None,
        /// Requires a `jti` claim.
        require_jti: bool = false,
        /// Claim with the tier of the caller.
        tier: Option<TierClaim> = None,
        /// Claim with the roles of the caller.
        roles: Option<RolesClaim> = None,
        /// Realm of the challenge in a 401.
        realm: String = JwtConfig::default().realm,
        /// Tells the caller that a token has expired.
        reveal_expired: bool = JwtConfig::default().reveal_expired,
        /// Lets CORS preflight requests pass without a token.
        skip_preflight: bool = JwtConfig::default().skip_preflight,
    }
}

section! {
    /// Keys that verify tokens: one of `secret`, `secret_file`, `pem_file` and `jwks`.
    Key {
        /// Id of the key (`kid`).
        kid: Option<String> = None,
        /// Algorithm of the key. Only needed if several of the allowed ones fit the key.
        algorithm: Option<Parsed<Algorithm>> = None,
        /// Secret of an HMAC algorithm. Use a variable, such as `${JWT_SECRET:?}`.
        secret: Option<SecretText> = None,
        /// File with the secret of an HMAC algorithm.
        secret_file: Option<String> = None,
        /// File with a public key, in PEM.
        pem_file: Option<String> = None,
        /// JWK set that the issuer publishes.
        jwks: Option<Jwks> = None,
    }
}

/// The text of a secret. `Debug` prints `***`.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(in crate::config) struct SecretText(pub(in crate::config) String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

section! {
    /// A JWK set that the issuer publishes.
    #[schemars(extend("required" = ["url"]))]
    Jwks {
        /// URL of the JWK set, which must begin with `https://`.
        url: Parsed<Url> = Parsed::default(),
        /// Time between two fetches.
        poll_interval: Parsed<Duration> = Parsed(JwksConfig::default().poll_interval),
        /// Minimum time from the start of one fetch to the next.
        cooldown: Parsed<Duration> = Parsed(JwksConfig::default().cooldown),
        /// Maximum time of a fetch.
        timeout: Parsed<Duration> = Parsed(JwksConfig::default().timeout),
        /// Maximum size of the JWK set.
        max_body: Parsed<Size> = Parsed(Size(JwksConfig::default().max_body)),
        /// Maximum number of keys.
        max_keys: usize = JwksConfig::default().max_keys,
        /// Time for which keys are used although they cannot be fetched.
        max_stale: Parsed<Duration> = Parsed(JwksConfig::default().max_stale),
        /// Start of the process if the keys cannot be fetched.
        start: JwksStart = JwksStart::default(),
        /// File with the CA certificates to trust, in PEM. By default, those of the system are trusted.
        ca_file: Option<String> = None,
    }
}

/// Start of the process if keys cannot be fetched.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum JwksStart {
    /// The process exits with code 78.
    #[default]
    Fail,
    /// Requests get a 503 until the keys arrive.
    Degraded,
}

impl From<JwksStart> for Start {
    fn from(start: JwksStart) -> Self {
        match start {
            JwksStart::Fail => Self::Fail,
            JwksStart::Degraded => Self::Degraded,
        }
    }
}

section! {
    /// Claim with the tier of the caller.
    #[schemars(extend("required" = ["claim"]))]
    TierClaim {
        /// Path of the claim, such as `tier`.
        claim: String = String::new(),
        /// Tier of a caller whose token lacks the claim. Defaults to the lowest.
        default: Option<String> = None,
    }
}

section! {
    /// Claim with the roles of the caller.
    #[schemars(extend("required" = ["claim"]))]
    RolesClaim {
        /// Path of the claim, such as `realm_access.roles`.
        claim: String = String::new(),
    }
}

section! {
    /// Authentication and authorization of a route.
    #[schemars(extend("required" = ["jwt"]))]
    RouteAuth {
        /// Name of a provider under `auth.jwt`, or a list of names.
        jwt: OneOrMany = OneOrMany::Many(Vec::new()),
        /// Roles of which the caller needs at least one.
        #[schemars(length(min = 1))]
        any_role: Option<Vec<String>> = None,
        /// Scopes that the caller needs, all of them.
        #[schemars(length(min = 1))]
        all_scopes: Option<Vec<Parsed<Scope>>> = None,
        /// Claims that are sent to services as headers. The headers of callers with these names are removed.
        propagate_claims: Vec<PropagatedClaim> = Vec::new(),
    }
}

/// One name, or a list of names.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum OneOrMany {
    /// One name.
    One(String),
    /// A list of names.
    Many(#[schemars(length(min = 1))] Vec<String>),
}

/// A claim that is sent to services as a header.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PropagatedClaim {
    /// Path of the claim.
    pub(in crate::config) claim: String,
    /// Name of the header.
    pub(in crate::config) header: Parsed<HeaderName>,
    /// Percent-encodes the value, so that a claim may have any characters.
    #[serde(default)]
    pub(in crate::config) encode: bool,
}
