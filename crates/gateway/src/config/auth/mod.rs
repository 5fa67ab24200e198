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
use super::{
    Tier, file,
    reader::ValueReader,
    value::{known, named},
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

/// Reads the providers by name.
pub(super) fn auth(
    file: Option<file::Auth>,
    reader: &ValueReader<'_>,
    tiers: &IndexMap<String, Tier>,
) -> IndexMap<String, Jwt> {
    let files = file.unwrap_or_default().jwt;
    named(reader, "auth.jwt", files, |file, reader| {
        jwt(file, reader, tiers)
    })
}

fn jwt(file: file::Jwt, reader: &ValueReader<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let algorithms: Vec<_> = file
        .algorithms
        .iter()
        .map(|algorithm| algorithm.0)
        .collect();
    check_algorithms(&algorithms, &reader.at("algorithms"));
    let keys = keys(&file.keys, reader, &algorithms);
    let responses = JwtConfig::default()
        .realm(file.realm.clone())
        .reveal_expired(file.reveal_expired)
        .skip_preflight(file.skip_preflight);
    let verifier = verifier(file, reader, tiers);
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

/// Returns the rules for the claims of tokens.
fn verifier(
    file: file::Jwt,
    reader: &ValueReader<'_>,
    tiers: &IndexMap<String, Tier>,
) -> VerifierConfig {
    let mut verifier = VerifierConfig::default()
        .issuers(file.issuers.into_iter().map(|issuer| issuer.0.0))
        .audiences(file.audiences.into_iter().map(|audience| audience.0.0))
        .leeway(file.leeway.0)
        .max_age(file.max_age.map(|age| age.0))
        .require_typ(file.require_typ.map(|typ| typ.0.0))
        .require_jti(file.require_jti)
        .tiers(tiers.keys());
    for required in [&mut verifier.issuers, &mut verifier.audiences] {
        if required.is_empty() {
            // Reported already. No other provider has this text, so nothing else is.
            required.push(reader.path.clone());
        }
    }
    if let Some(lowest) = verifier.tiers.first() {
        verifier.default_tier.clone_from(lowest);
    }
    if let Some(tier) = file.tier {
        verifier.tier_claim = Some(tier.claim.0.0);
        let default = tier
            .default
            .and_then(|_| known(&reader.at("tier.default"), ("tier", "tiers"), tiers));
        verifier.default_tier = default.unwrap_or(verifier.default_tier);
    }
    if let Some(roles) = file.roles {
        verifier.roles_claim = roles.claim.0.0;
    }
    verifier
}
