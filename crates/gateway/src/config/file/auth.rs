//! The parts `auth`, and `auth` of routes.

use std::{fmt, time::Duration};

use http::HeaderName;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_fanout::layers::config::schema::Limits;
use tower_fanout_http::jwt::{
    Algorithm, JwtConfig, VerifierConfig,
    jwks::{JwksConfig, Start},
};

use super::{
    super::text::{ClaimPath, Parsed, Scope, Size, TokenType, Url, VisibleText, host, port},
    CREDENTIALS, PER_MESSAGE, SMALLEST_BODY, headers_except, names, section,
};

section! {
    /// Authentication of callers.
    #[schemars(extend("required" = ["jwt"]))]
    Auth {
        /// Providers of JSON Web Tokens by name.
        #[schemars(extend("propertyNames" = names()))]
        jwt: IndexMap<String, Jwt> = IndexMap::new(),
    }
}

section! {
    /// A provider of JSON Web Tokens.
    #[schemars(extend("required" = ["algorithms", "keys", "issuers", "audiences"], "x-partial" = true))]
    #[schemars(transform = <VerifierConfig as Limits>::add_limits)]
    Jwt {
        /// Allowed signature algorithms. HMAC and public-key algorithms must not be combined.
        #[schemars(example = ["RS256", "ES256"], length(min = 1))]
        algorithms: Vec<Parsed<Algorithm>> = Vec::new(),
        /// Keys that verify tokens: any number of static keys, or one JWK set.
        #[schemars(length(min = 1), extend(
            "if" = json!({ "contains": { "required": ["jwks"] } }),
            "then" = json!({ "maxItems": 1 })
        ))]
        keys: Vec<Key> = Vec::new(),
        /// Allowed issuers (claim `iss`). At least one.
        #[schemars(example = ["https://idp.example/"], length(min = 1))]
        issuers: Vec<Parsed<VisibleText>> = Vec::new(),
        /// Allowed audiences (claim `aud`). At least one.
        #[schemars(example = ["fanout"], length(min = 1))]
        audiences: Vec<Parsed<VisibleText>> = Vec::new(),
        /// Tolerance for the clocks of other machines.
        leeway: Parsed<Duration> = Parsed(VerifierConfig::default().leeway),
        /// Maximum age of a token since `iat`. By default, only `exp` limits it.
        #[schemars(example = &"12h")]
        max_age: Option<Parsed<Duration>> = None,
        /// Required type (header `typ`), such as `at+jwt`.
        #[schemars(example = &"at+jwt")]
        require_typ: Option<Parsed<TokenType>> = None,
        /// Requires a `jti` claim.
        require_jti: bool = false,
        /// Claim with the tier of the caller.
        tier: Option<TierClaim> = None,
        /// Claim with the roles of the caller.
        roles: Option<RolesClaim> = None,
        /// Realm of the challenge in a 401.
        #[schemars(regex(pattern = r"^[ !#-\[\]-~]*$"))]
        realm: String = JwtConfig::default().realm,
        /// Tells the caller that a token has expired.
        reveal_expired: bool = JwtConfig::default().reveal_expired,
        /// Lets CORS preflight requests pass without a token.
        skip_preflight: bool = JwtConfig::default().skip_preflight,
    }
}

section! {
    /// Keys that verify tokens: one of `secret`, `secret_file`, `pem_file` and `jwks`.
    #[schemars(extend(
        "x-exactly-one" = ["secret", "secret_file", "pem_file", "jwks"],
        "dependencies" = json!({ "jwks": { "not": { "anyOf": [{ "required": ["kid"] }, { "required": ["algorithm"] }] } } })
    ))]
    Key {
        /// Id of the key (`kid`).
        #[schemars(example = &"2026-01")]
        kid: Option<Parsed<VisibleText>> = None,
        /// Algorithm of the key. Only needed if several of the allowed ones fit the key.
        #[schemars(example = &"HS256")]
        algorithm: Option<Parsed<Algorithm>> = None,
        /// Secret of an HMAC algorithm. Use a variable, such as `${JWT_SECRET:?}`.
        #[schemars(example = &"${JWT_SECRET:?}")]
        secret: Option<SecretText> = None,
        /// File with the secret of an HMAC algorithm.
        #[schemars(example = &"/run/secrets/jwt")]
        secret_file: Option<String> = None,
        /// File with a public key, in PEM.
        #[schemars(example = &"/etc/fanout/idp.pem")]
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

/// Regular expression of the URL of a JWK set: `https`, or `http` on a loopback host.
const KEYS_URL: &str = concat!(
    "^([Hh][Tt][Tt][Pp][Ss]://",
    host!(),
    r"|[Hh][Tt][Tt][Pp]://([Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]|127(\.[0-9]{1,3}){3}|\[[0:]*1\]))",
    "(:",
    port!(),
    r")?(/([^#{}?%\\]|%[0-9A-Fa-f]{2})*)?(\?[^#\x00-\x20]*)?$"
);

section! {
    /// A JWK set that the issuer publishes.
    #[schemars(extend("required" = ["url"]), transform = <JwksConfig as Limits>::add_limits)]
    Jwks {
        /// URL of the JWK set, which must begin with `https://`.
        #[schemars(example = &"https://idp.example/jwks.json", regex(pattern = KEYS_URL))]
        url: Parsed<Url> = Parsed::default(),
        /// Time between two fetches.
        poll_interval: Parsed<Duration> = Parsed(JwksConfig::default().poll_interval),
        /// Minimum time from the start of one fetch to the next. At most `poll_interval`.
        cooldown: Parsed<Duration> = Parsed(JwksConfig::default().cooldown),
        /// Maximum time of a fetch. At most `cooldown`.
        timeout: Parsed<Duration> = Parsed(JwksConfig::default().timeout),
        /// Maximum size of the JWK set.
        #[schemars(extend("x-minimum" = SMALLEST_BODY))]
        max_body: Parsed<Size> = Parsed(Size(JwksConfig::default().max_body)),
        /// Maximum number of keys.
        max_keys: usize = JwksConfig::default().max_keys,
        /// Time for which keys are used although they cannot be fetched. At least twice `poll_interval`.
        max_stale: Parsed<Duration> = Parsed(JwksConfig::default().max_stale),
        /// Start of the process if the keys cannot be fetched. A start that fails ends the process with code 78, and
        /// without keys, requests get a 503.
        start: Start = Start::default(),
        /// File with the CA certificates to trust, in PEM. By default, those of the system are trusted.
        #[schemars(example = &"/etc/fanout/ca.pem")]
        ca_file: Option<String> = None,
    }
}

section! {
    /// Claim with the tier of the caller.
    #[schemars(extend("required" = ["claim"]))]
    TierClaim {
        /// Path of the claim, such as `tier`.
        #[schemars(example = &"tier")]
        claim: Parsed<ClaimPath> = Parsed::default(),
        /// Tier of a caller whose token lacks the claim. Defaults to the lowest.
        #[schemars(example = &"free")]
        default: Option<String> = None,
    }
}

section! {
    /// Claim with the roles of the caller.
    #[schemars(extend("required" = ["claim"]))]
    RolesClaim {
        /// Path of the claim, such as `realm_access.roles`.
        #[schemars(example = &"realm_access.roles")]
        claim: Parsed<ClaimPath> = Parsed::default(),
    }
}

section! {
    /// Authentication and authorization of a route.
    #[schemars(extend("required" = ["jwt"]))]
    RouteAuth {
        /// Name of a provider under `auth.jwt`, or a list of names.
        #[schemars(example = &"main")]
        jwt: OneOrMany = OneOrMany::Many(Vec::new()),
        /// Roles of which the caller needs at least one.
        #[schemars(length(min = 1))]
        #[schemars(example = ["reader"])]
        any_role: Option<Vec<Parsed<VisibleText>>> = None,
        /// Scopes that the caller needs, all of them.
        #[schemars(length(min = 1))]
        #[schemars(example = ["read:users"])]
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
    Many(#[schemars(length(min = 1), extend("uniqueItems" = true))] Vec<String>),
}

/// Returns the schema of the headers that can carry a claim.
fn carriers() -> serde_json::Value {
    let reserved = PER_MESSAGE.into_iter().chain(CREDENTIALS);
    headers_except(reserved.chain(["content-type"]))
}

/// A claim that is sent to services as a header.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PropagatedClaim {
    /// Path of the claim.
    #[schemars(example = &"sub")]
    pub(in crate::config) claim: Parsed<ClaimPath>,
    /// Name of the header.
    #[schemars(example = &"x-user", extend("pattern" = carriers()["pattern"].clone()))]
    pub(in crate::config) header: Parsed<HeaderName>,
    /// Percent-encodes the value, so that a claim may have any characters.
    #[serde(default)]
    pub(in crate::config) encode: bool,
}
