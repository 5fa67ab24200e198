//! Reads whom to believe: issuers and their keys.

use std::time::Duration;

use indexmap::IndexMap;
use tower_fanout_http::jwt::{Algorithm, Key, KeyError, KeySet, Rules};

use super::{
    Jwt, KeyConfig, Secret, Tier,
    reader::{Field, Section, nearest},
    value::{known, span},
};

pub(super) fn auth(
    field: Option<Field<'_>>,
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

fn jwt(field: &Field<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let mut section = field.section();
    let algorithms = section
        .require("algorithms")
        .map(|field| algorithms(&field))
        .unwrap_or_default();
    let keys = section
        .require("keys")
        .map(|field| keys(&field, &algorithms))
        .unwrap_or_default();
    let issuers = section
        .require("issuers")
        .map(|field| field.texts())
        .unwrap_or_default();
    let audiences = section
        .require("audiences")
        .map(|field| field.texts())
        .unwrap_or_default();
    let leeway_field = section.take("leeway");
    let leeway = span(leeway_field.clone(), Duration::from_secs(30));
    match Rules::new(issuers.clone(), audiences.clone()) {
        Err(error) => field.error("invalid", error),
        Ok(rules) => {
            if let (Some(field), Err(error)) = (leeway_field, rules.leeway(leeway)) {
                field.error("invalid", error);
            }
        }
    }
    let (tier_claim, default_tier) = tier_claim(section.take("tier"), tiers);
    let roles_claim = section.take("roles").and_then(|field| roles_claim(&field));
    section.finish();
    Jwt {
        keys,
        issuers,
        audiences,
        leeway,
        tier_claim,
        default_tier,
        roles_claim,
    }
}

fn roles_claim(field: &Field<'_>) -> Option<String> {
    let mut section = field.section();
    let claim = section.require("claim").and_then(|field| field.text());
    section.finish();
    claim
}

fn tier_claim(
    field: Option<Field<'_>>,
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

/// The allowed algorithms; secrets and public keys are not mixed.
fn algorithms(field: &Field<'_>) -> Vec<Algorithm> {
    let known = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "EdDSA",
    ];
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for item in field.list() {
        let Some(name) = item.text() else { continue };
        match name.parse() {
            Ok(algorithm) if known.contains(&name.as_str()) => algorithms.push(algorithm),
            _ => {
                let help = nearest(&name, known).map(|known| format!("did you mean \"{known}\"?"));
                item.error_with_help("unknown_algorithm", "there is no such algorithm", help);
            }
        }
    }
    let symmetric = algorithms
        .iter()
        .filter(|algorithm| is_symmetric(**algorithm))
        .count();
    if symmetric != 0 && symmetric != algorithms.len() {
        field.error(
            "mixed_algorithms",
            "algorithms for secrets and for public keys cannot be allowed together",
        );
    }
    algorithms
}

fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    )
}

fn keys(field: &Field<'_>, algorithms: &[Algorithm]) -> Vec<KeyConfig> {
    let items = field.list();
    let read: Vec<_> = items.iter().map(|item| key(item, algorithms)).collect();
    let (keys, configs): (Vec<_>, Vec<_>) = read.into_iter().flatten().unzip();
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys)
    {
        field.error("invalid", error);
    }
    configs
}

/// One key; what is wrong with it is said here, once and for all.
fn key(field: &Field<'_>, allowed: &[Algorithm]) -> Option<(Key, KeyConfig)> {
    let mut section = field.section();
    let kid = section.take("kid").and_then(|field| field.text());
    let declared = section
        .take("algorithm")
        .and_then(|field| declared(&field, allowed));
    let material = match section.take("jwks") {
        Some(jwks) => {
            jwks.not_built("fetching keys");
            None
        }
        None => material(&mut section),
    };
    section.finish();
    let (material, from_secret, at) = material?;
    let algorithm = match declared {
        Some(declared) => declared,
        None => only_fitting(&at, allowed, &material, from_secret)?,
    };
    let config = KeyConfig {
        algorithm,
        kid,
        material,
    };
    let key = config.key().map_err(|error| at.error("invalid", error));
    Some((key.ok()?, config))
}

/// The algorithm that a key names.
fn declared(field: &Field<'_>, allowed: &[Algorithm]) -> Option<Algorithm> {
    let named = field.text()?.parse().ok();
    let algorithm = named.filter(|algorithm| allowed.contains(algorithm));
    if algorithm.is_none() {
        field.error("invalid", "this algorithm is not among \"algorithms\"");
    }
    algorithm
}

/// The one algorithm that a key is for.
fn only_fitting(
    at: &Field<'_>,
    allowed: &[Algorithm],
    material: &Secret,
    from_secret: bool,
) -> Option<Algorithm> {
    let kind = allowed
        .iter()
        .filter(|algorithm| is_symmetric(**algorithm) == from_secret);
    let tried: Vec<_> = kind
        .map(|algorithm| make(*algorithm, material).map(|_| *algorithm))
        .collect();
    let mut fitting = tried.iter().flatten();
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => return Some(*only),
        (Some(_), Some(_)) => {
            let help = Some("name one with \"algorithm\"".into());
            at.error_with_help("ambiguous_key", "the key fits several algorithms", help);
        }
        (None, _) => match tried.iter().find_map(|tried| tried.as_ref().err()) {
            Some(why) => at.error("invalid", why),
            None => at.error("invalid", "there is no algorithm for it"),
        },
    }
    None
}

/// The key for `algorithm`.
fn make(algorithm: Algorithm, material: &Secret) -> Result<Key, KeyError> {
    if is_symmetric(algorithm) {
        Key::from_secret(algorithm, material.expose())
    } else {
        Key::from_pem(algorithm, material.expose())
    }
}

impl KeyConfig {
    /// The key itself.
    ///
    /// # Errors
    /// It is not one for its algorithm.
    pub fn key(&self) -> Result<Key, KeyError> {
        let key = make(self.algorithm, &self.material)?;
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid),
            None => key,
        })
    }
}

/// The secret or the PEM of a key, and whether it is a secret.
fn material<'t>(section: &mut Section<'t>) -> Option<(Secret, bool, Field<'t>)> {
    let sources = [
        ("secret", true, false),
        ("secret_file", true, true),
        ("pem_file", false, true),
    ];
    let mut given = Vec::new();
    for (key, is_secret, is_file) in sources {
        if let Some(field) = section.take(key) {
            given.push((field, is_secret, is_file));
        }
    }
    if given.len() > 1 {
        section.field.error("invalid", "a key comes from one place");
    }
    let Some((field, is_secret, is_file)) = given.into_iter().next() else {
        section.field.error(
            "missing",
            "a key is a \"secret\", a \"secret_file\" or a \"pem_file\"",
        );
        return None;
    };
    let text = field.text()?;
    if !is_file {
        return Some((Secret::new(text), is_secret, field));
    }
    match std::fs::read(&text) {
        // An editor's last line break is no part of a secret.
        Ok(bytes) if is_secret => Some((Secret::new(bytes.trim_ascii_end()), is_secret, field)),
        Ok(bytes) => Some((Secret::new(bytes), is_secret, field)),
        Err(error) => {
            field.error("unreadable", format!("the file cannot be read: {error}"));
            None
        }
    }
}
