//! Reads JWT providers: issuers, their keys, and the rules for their tokens.

mod jwks;
mod keys;
mod route;

use indexmap::IndexMap;
use tower_fanout_http::jwt::{JwtConfig, VerifierConfig};

use self::keys::{algorithms, keys};
pub(super) use self::route::route_auth;
pub(crate) use self::{
    jwks::JwksSource,
    keys::{KeysConfig, StaticKey},
    route::RouteAuth,
};
use super::{
    Tier,
    reader::ValueReader,
    value::{duration, known},
};

/// A JWT provider.
#[derive(Clone, Debug)]
pub(crate) struct Jwt {
    /// The verification keys.
    pub(crate) keys: KeysConfig,
    /// Rules for the claims of its tokens.
    pub(crate) verifier: VerifierConfig,
    /// Responses to callers without a valid token. Each route adds the roles and scopes that it needs.
    pub(crate) responses: JwtConfig,
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
    let keys = map.get_required("keys", |reader| keys(reader, &algorithms));
    let mut verifier = VerifierConfig::default();
    verifier.issuers = map.each("issuers", ValueReader::text);
    verifier.audiences = map.each("audiences", ValueReader::text);
    map.set("leeway", &mut verifier.leeway, duration);
    verifier.max_age = map.get("max_age", duration);
    verifier.require_typ = map.get("require_typ", typ);
    verifier.require_jti = map.is_on("require_jti");
    verifier.tiers = tiers.keys().cloned().collect();
    if let Some(lowest) = verifier.tiers.first() {
        verifier.default_tier.clone_from(lowest);
    }
    if let Some(reader) = map.take("tier") {
        let mut map = reader.as_map();
        verifier.tier_claim = map.get_required("claim", ValueReader::text);
        map.set("default", &mut verifier.default_tier, |reader| {
            known(reader, "tier", tiers.keys())
        });
        map.finish();
    }
    if let Some(reader) = map.take("roles") {
        let mut map = reader.as_map();
        let claim = map.get_required("claim", ValueReader::text);
        verifier.roles_claim = claim.unwrap_or_default();
        map.finish();
    }
    let mut responses = JwtConfig::default();
    map.set("realm", &mut responses.realm, ValueReader::text);
    map.set(
        "reveal_expired",
        &mut responses.reveal_expired,
        ValueReader::get,
    );
    map.set(
        "skip_preflight",
        &mut responses.skip_preflight,
        ValueReader::get,
    );
    map.finish();
    reader.check(&verifier);
    reader.check(&responses);
    Jwt {
        // Invalid keys are already reported, so the configuration is rejected anyway.
        keys: keys.unwrap_or(KeysConfig::Given {
            keys: Vec::new(),
            signing: None,
        }),
        verifier,
        responses,
    }
}

fn typ(reader: &ValueReader<'_>) -> Option<String> {
    reader.parse("a token type such as \"at+jwt\"", |typ| {
        let is_valid = !typ.is_empty() && typ.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| typ.to_owned())
    })
}
