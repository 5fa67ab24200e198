//! Reads whom to believe: issuers, their keys, and the rules for their tokens.

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

/// The greatest age that can be asked for.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Whom to believe.
#[derive(Clone, Debug)]
pub(crate) struct Jwt {
    /// The keys.
    pub(crate) keys: KeysConfig,
    /// The accepted issuers.
    pub(crate) issuers: Vec<String>,
    /// The accepted audiences.
    pub(crate) audiences: Vec<String>,
    /// How far clocks may be apart; 30 s by default.
    pub(crate) leeway: Duration,
    /// How old a token may be; any age will do if none.
    pub(crate) max_age: Option<Duration>,
    /// The type that a token must be of, such as `at+jwt`; any will do if none.
    pub(crate) require_typ: Option<String>,
    /// Whether a token must have an id; no by default.
    pub(crate) require_jti: bool,
    /// Where the tier stands in a token, as a path with dots.
    pub(crate) tier_claim: Option<String>,
    /// The tier of a token that names none that is known.
    pub(crate) default_tier: String,
    /// Where the roles stand in a token.
    pub(crate) roles_claim: Option<String>,
    /// What a challenge says is protected; `fanout` by default.
    pub(crate) realm: String,
    /// Whether a caller is told that a token, good otherwise, has expired; yes by default.
    pub(crate) reveal_expired: bool,
    /// Whether CORS preflights are let through without a token; no by default. It matters where a route
    /// answers OPTIONS itself.
    pub(crate) skip_preflight: bool,
}

pub(super) fn auth(
    field: Option<ValueReader<'_>>,
    tiers: &IndexMap<String, Tier>,
) -> IndexMap<String, Jwt> {
    let Some(field) = field else {
        return IndexMap::new();
    };
    let mut section = field.section();
    let members = section
        .require("jwt")
        .map(|field| field.named())
        .unwrap_or_default();
    section.finish();
    members
        .into_iter()
        .map(|(name, field)| (name, jwt(&field, tiers)))
        .collect()
}

fn jwt(field: &ValueReader<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let mut section = field.section();
    let algorithms = section
        .require("algorithms")
        .map(|field| algorithms(&field))
        .unwrap_or_default();
    let keys = section
        .require("keys")
        .and_then(|field| keys(&field, &algorithms));
    let (issuers, audiences, leeway) = parties(&mut section);
    let (tier_claim, default_tier) = tier_claim(section.take("tier"), tiers);
    let jwt = Jwt {
        // What could not be read was complained about.
        keys: keys.unwrap_or(KeysConfig::Given(Vec::new())),
        issuers,
        audiences,
        leeway,
        max_age: section.take("max_age").and_then(|field| max_age(&field)),
        require_typ: section.take("require_typ").and_then(|field| typ(&field)),
        require_jti: section.is_on("require_jti"),
        tier_claim,
        default_tier,
        roles_claim: section.take("roles").and_then(|field| roles_claim(&field)),
        realm: section
            .take("realm")
            .and_then(|field| realm(&field))
            .unwrap_or_else(|| "fanout".into()),
        reveal_expired: is_on_unless_off(section.take("reveal_expired")),
        skip_preflight: section.is_on("skip_preflight"),
    };
    section.finish();
    jwt
}

/// From and for whom tokens are, and how far clocks may be apart.
fn parties(section: &mut MapReader<'_>) -> (Vec<String>, Vec<String>, Duration) {
    let mut names = |key| {
        let field = section.require(key);
        field.map(|field| field.texts()).unwrap_or_default()
    };
    let (issuers, audiences) = (names("issuers"), names("audiences"));
    let leeway_field = section.take("leeway");
    let leeway = span(leeway_field.clone(), Duration::from_secs(30));
    let config = VerifierConfig::new(issuers.clone(), audiences.clone()).leeway(leeway);
    if let Some(problem) = config.errors().first() {
        let leeway_field = leeway_field.filter(|_| problem.field() == "leeway");
        let field = leeway_field.as_ref().unwrap_or(&section.field);
        field.error("invalid", problem.message());
    }
    (issuers, audiences, leeway)
}

fn max_age(field: &ValueReader<'_>) -> Option<Duration> {
    let Span(age) = field.get()?;
    in_range(field, age, Duration::from_secs(1), YEAR)
}

fn typ(field: &ValueReader<'_>) -> Option<String> {
    let typ = field.text()?;
    if typ.is_empty() || !typ.bytes().all(|byte| byte.is_ascii_graphic()) {
        field.error("invalid", "this is no type such as \"at+jwt\"");
    }
    Some(typ)
}

fn realm(field: &ValueReader<'_>) -> Option<String> {
    let realm = field.text()?;
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !realm.bytes().all(fits) {
        field.error(
            "invalid",
            "a realm is printable ASCII without quotes and backslashes",
        );
    }
    Some(realm)
}

fn roles_claim(field: &ValueReader<'_>) -> Option<String> {
    let mut section = field.section();
    let claim = section.require("claim").and_then(|field| field.text());
    section.finish();
    claim
}

fn tier_claim(
    field: Option<ValueReader<'_>>,
    tiers: &IndexMap<String, Tier>,
) -> (Option<String>, String) {
    let lowest = tiers
        .first()
        .map_or_else(|| "default".to_owned(), |(name, _)| name.clone());
    let Some(field) = field else {
        return (None, lowest);
    };
    let mut section = field.section();
    let claim = section.require("claim").and_then(|field| field.text());
    let default = section
        .take("default")
        .and_then(|field| known(&field, "tier", tiers.keys()))
        .unwrap_or(lowest);
    section.finish();
    (claim, default)
}
