//! Reads JWT providers: issuers, their keys, and the rules for their tokens.

mod jwks;
mod keys;
mod route;

use indexmap::IndexMap;
use tower_fanout_http::jwt::{JwtConfig, VerifierConfig};

use self::keys::{check_algorithms, keys};
pub(super) use self::route::route_auth;
pub(crate) use self::{
    jwks::JwksSource,
    keys::{KeysConfig, StaticKey},
    route::RouteAuth,
};
use super::{Tier, file, reader::ValueReader, value::known};

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

/// Reads the providers by name. One with an error has defaults, so that references to it are valid.
pub(super) fn auth(
    file: Option<file::Auth>,
    reader: &ValueReader<'_>,
    tiers: &IndexMap<String, Tier>,
) -> IndexMap<String, Jwt> {
    let mut read = file.unwrap_or_default().jwt;
    let named = reader.members("auth.jwt").into_iter();
    let named = named.map(|(name, reader)| {
        let file = read.swap_remove(&name).unwrap_or_default();
        (name, jwt(file, &reader, tiers))
    });
    named.collect()
}

fn jwt(file: file::Jwt, reader: &ValueReader<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let algorithms: Vec<_> = file
        .algorithms
        .iter()
        .map(|algorithm| algorithm.0)
        .collect();
    check_algorithms(&algorithms, &reader.at("algorithms"));
    let keys = keys(&file.keys, reader, &algorithms);
    let mut verifier = VerifierConfig::default()
        .issuers(file.issuers)
        .audiences(file.audiences)
        .leeway(file.leeway.0)
        .max_age(file.max_age.map(|age| age.0))
        .require_typ(file.require_typ.map(|typ| typ.0.0))
        .require_jti(file.require_jti)
        .tiers(tiers.keys());
    if let Some(lowest) = verifier.tiers.first() {
        verifier.default_tier.clone_from(lowest);
    }
    if let Some(tier) = file.tier {
        verifier.tier_claim = Some(tier.claim);
        let default = tier
            .default
            .and_then(|_| known(&reader.at("tier.default"), "tier", tiers.keys()));
        verifier.default_tier = default.unwrap_or(verifier.default_tier);
    }
    if let Some(roles) = file.roles {
        verifier.roles_claim = roles.claim;
    }
    let responses = JwtConfig::default()
        .realm(file.realm)
        .reveal_expired(file.reveal_expired)
        .skip_preflight(file.skip_preflight);
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
