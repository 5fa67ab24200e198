//! Reads JWT providers: issuers, their keys, and the rules for their tokens.

mod jwks;
mod keys;
mod route;

use std::time::Duration;

use indexmap::IndexMap;
use tower_fanout::layers::config::Validate;
use tower_fanout_http::jwt::VerifierConfig;

use self::keys::{algorithms, keys};
pub(super) use self::route::route_auth;
pub(crate) use self::{
    jwks::JwksSource,
    keys::{KeyConfig, KeysConfig},
    route::RouteAuth,
};
use super::{
    Tier,
    reader::{MapReader, ValueReader},
    value::{Span, in_range, is_on_unless_off, known, span},
};

/// Maximum of `max_age`.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A JWT provider.
#[derive(Clone, Debug)]
pub(crate) struct Jwt {
    /// The verification keys.
    pub(crate) keys: KeysConfig,
    /// The accepted issuers.
    pub(crate) issuers: Vec<String>,
    /// The accepted audiences.
    pub(crate) audiences: Vec<String>,
    /// Tolerated clock skew. Defaults to 30 s.
    pub(crate) leeway: Duration,
    /// Maximum age of a token since its `iat`. `None` accepts any age.
    pub(crate) max_age: Option<Duration>,
    /// Required `typ` of a token, such as `at+jwt`. `None` accepts any type.
    pub(crate) require_typ: Option<String>,
    /// `true` to require a `jti` claim. Defaults to `false`.
    pub(crate) require_jti: bool,
    /// Dotted path of the claim with the tier. `None` gives every caller the default tier.
    pub(crate) tier_claim: Option<String>,
    /// Tier of a token without a known tier. Defaults to the lowest tier.
    pub(crate) default_tier: String,
    /// Dotted path of the claim with the roles.
    pub(crate) roles_claim: Option<String>,
    /// The `realm` of `www-authenticate` challenges. Defaults to `fanout`.
    pub(crate) realm: String,
    /// `true` to report to the caller that an otherwise valid token has expired. Defaults to `true`.
    pub(crate) reveal_expired: bool,
    /// `true` to admit CORS preflights without a token. Defaults to `false`. Matters only for routes that
    /// match OPTIONS themselves.
    pub(crate) skip_preflight: bool,
}

pub(super) fn auth(
    reader: Option<ValueReader<'_>>,
    tiers: &IndexMap<String, Tier>,
) -> IndexMap<String, Jwt> {
    let Some(reader) = reader else {
        return IndexMap::new();
    };
    let mut map = reader.as_map();
    let members = map
        .require("jwt")
        .map(|reader| reader.named())
        .unwrap_or_default();
    map.finish();
    members
        .into_iter()
        .map(|(name, reader)| (name, jwt(&reader, tiers)))
        .collect()
}

fn jwt(reader: &ValueReader<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let mut map = reader.as_map();
    let algorithms = map
        .require("algorithms")
        .map(|reader| algorithms(&reader))
        .unwrap_or_default();
    let keys = map
        .require("keys")
        .and_then(|reader| keys(&reader, &algorithms));
    let (issuers, audiences, leeway) = parties(&mut map);
    let (tier_claim, default_tier) = tier_claim(map.take("tier"), tiers);
    let jwt = Jwt {
        // Invalid keys are already reported, so the configuration is rejected anyway.
        keys: keys.unwrap_or(KeysConfig::Given(Vec::new())),
        issuers,
        audiences,
        leeway,
        max_age: map.take("max_age").and_then(|reader| max_age(&reader)),
        require_typ: map.take("require_typ").and_then(|reader| typ(&reader)),
        require_jti: map.is_on("require_jti"),
        tier_claim,
        default_tier,
        roles_claim: map.take("roles").and_then(|reader| roles_claim(&reader)),
        realm: map
            .take("realm")
            .and_then(|reader| realm(&reader))
            .unwrap_or_else(|| "fanout".into()),
        reveal_expired: is_on_unless_off(map.take("reveal_expired")),
        skip_preflight: map.is_on("skip_preflight"),
    };
    map.finish();
    jwt
}

/// Reads the accepted issuers and audiences, and the tolerated clock skew.
fn parties(map: &mut MapReader<'_>) -> (Vec<String>, Vec<String>, Duration) {
    let mut names = |key| {
        let reader = map.require(key);
        reader.map(|reader| reader.texts()).unwrap_or_default()
    };
    let (issuers, audiences) = (names("issuers"), names("audiences"));
    let leeway_reader = map.take("leeway");
    let leeway = span(leeway_reader.clone(), Duration::from_secs(30));
    let config = VerifierConfig::new(issuers.clone(), audiences.clone()).leeway(leeway);
    if let Some(problem) = config.errors().first() {
        // Issuers and audiences are reported at the provider, because either may be missing.
        let leeway_reader = leeway_reader.filter(|_| problem.field() == "leeway");
        let reader = leeway_reader.as_ref().unwrap_or(&map.reader);
        reader.error("invalid", reader.tree.quote_in(problem.message()));
    }
    (issuers, audiences, leeway)
}

fn max_age(reader: &ValueReader<'_>) -> Option<Duration> {
    let Span(age) = reader.get()?;
    in_range(reader, age, Duration::from_secs(1), YEAR)
}

fn typ(reader: &ValueReader<'_>) -> Option<String> {
    let typ = reader.text()?;
    if typ.is_empty() || !typ.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("expected a token type such as \"at+jwt\", got \"{typ}\"");
        reader.error("invalid", message);
    }
    Some(typ)
}

fn realm(reader: &ValueReader<'_>) -> Option<String> {
    let realm = reader.text()?;
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !realm.bytes().all(fits) {
        reader.error(
            "invalid",
            "must consist of printable ASCII characters except quotes and backslashes",
        );
    }
    Some(realm)
}

fn roles_claim(reader: &ValueReader<'_>) -> Option<String> {
    let mut map = reader.as_map();
    let claim = map.require("claim").and_then(|reader| reader.text());
    map.finish();
    claim
}

fn tier_claim(
    reader: Option<ValueReader<'_>>,
    tiers: &IndexMap<String, Tier>,
) -> (Option<String>, String) {
    let lowest = tiers
        .first()
        .map_or_else(|| "default".to_owned(), |(name, _)| name.clone());
    let Some(reader) = reader else {
        return (None, lowest);
    };
    let mut map = reader.as_map();
    let claim = map.require("claim").and_then(|reader| reader.text());
    let default = map
        .take("default")
        .and_then(|reader| known(&reader, "tier", tiers.keys()))
        .unwrap_or(lowest);
    map.finish();
    (claim, default)
}
