//! Reads verification keys: static keys, or the JWKS they are fetched from.

use tower_fanout_http::jwt::{Algorithm, Key, KeySet};

use super::{
    super::{
        Secret,
        reader::{MapReader, ValueReader},
        value::{did_you_mean, file},
    },
    jwks::{JwksSource, jwks},
};

/// The verification keys of an issuer.
#[derive(Clone, Debug)]
pub(crate) enum KeysConfig {
    /// Static keys.
    Given {
        /// The keys, each with its algorithm.
        keys: Vec<Key>,
        /// Algorithm and material of the first key, which signs the tokens of `fanout token`.
        signing: Option<(Algorithm, Secret)>,
    },
    /// Keys fetched from the JWKS of the issuer.
    Fetched(JwksSource),
}

/// Reads the allowed algorithms. Reports a mix of HMAC and public-key algorithms, which would let an
/// attacker use a public key as an HMAC secret.
pub(super) fn algorithms(reader: &ValueReader<'_>) -> Vec<Algorithm> {
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for item in reader.list() {
        let Some(name) = item.text() else { continue };
        match Algorithm::parse(&name) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let known = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str());
                let message = format!("unknown algorithm \"{name}\"");
                item.error_with_help("unknown_algorithm", message, did_you_mean(&name, known));
            }
        }
    }
    let symmetric = algorithms
        .iter()
        .filter(|algorithm| algorithm.is_symmetric())
        .count();
    if symmetric != 0 && symmetric != algorithms.len() {
        reader.error(
            "mixed_algorithms",
            "HMAC and public-key algorithms must not be combined",
        );
    }
    algorithms
}

/// Reads the keys: any number of static ones, or exactly one JWKS.
pub(super) fn keys(reader: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<KeysConfig> {
    let items = reader.list();
    let (published, given): (Vec<_>, Vec<_>) = items.iter().partition(|item| is_published(item));
    let given: Vec<_> = given.iter().map(|item| key(item, algorithms)).collect();
    let fetched: Vec<_> = (published.iter())
        .map(|item| fetched(item, algorithms))
        .collect();
    match (&*published, &*items) {
        ([], _) => {}
        ([_], [_]) => return fetched.into_iter().next()?.map(KeysConfig::Fetched),
        ([first, ..], _) => {
            first.error("mixed_keys", "\"jwks\" must be the only entry of \"keys\"");
            return None;
        }
    }
    let (keys, materials): (Vec<_>, Vec<_>) = given.into_iter().flatten().unzip();
    // Errors of single keys are already reported.
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys.clone())
    {
        reader.error("invalid", error);
    }
    let signing = materials.into_iter().next();
    Some(KeysConfig::Given { keys, signing })
}

fn is_published(item: &ValueReader<'_>) -> bool {
    let members = item.tree.members();
    members.is_some_and(|members| members.contains_key("jwks"))
}

fn fetched(item: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
    let mut map = item.as_map();
    let config = map.get("jwks", |reader| jwks(reader, algorithms));
    map.finish();
    config
}

/// Reads one static key, with its algorithm and material. Returns `None` after reporting its errors.
fn key(reader: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<(Key, (Algorithm, Secret))> {
    let mut map = reader.as_map();
    let kid = map.get("kid", ValueReader::text);
    let declared = map.get("algorithm", |reader| declared(reader, allowed));
    let material = material(&mut map);
    map.finish();
    let (material, from_secret, at) = material?;
    let candidates: Vec<_> = match declared {
        Some(declared) => vec![declared],
        None => (allowed.iter().copied())
            .filter(|algorithm| algorithm.is_symmetric() == from_secret)
            .collect(),
    };
    let (key, algorithm) = only_fitting(&at, &candidates, &material)?;
    let key = match kid {
        Some(kid) => key.with_kid(kid),
        None => key,
    };
    Some((key, (algorithm, material)))
}

/// Reads the algorithm of a key, which must be one of `allowed`.
fn declared(reader: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<Algorithm> {
    let named = Algorithm::parse(&reader.text()?);
    let algorithm = named.filter(|algorithm| allowed.contains(algorithm));
    if algorithm.is_none() {
        reader.error("invalid", "expected one of the allowed \"algorithms\"");
    }
    algorithm
}

/// Returns the key for the only one of `candidates` that fits its material. Reports an error if none or
/// several fit.
fn only_fitting(
    at: &ValueReader<'_>,
    candidates: &[Algorithm],
    material: &Secret,
) -> Option<(Key, Algorithm)> {
    let tried = candidates.iter().map(|&algorithm| {
        let create = if algorithm.is_symmetric() {
            Key::from_secret
        } else {
            Key::from_pem
        };
        create(algorithm, material.expose()).map(|key| (key, algorithm))
    });
    let (mut fitting, errors): (Vec<_>, Vec<_>) = tried.partition(Result::is_ok);
    match (fitting.len(), errors.into_iter().find_map(Result::err)) {
        (1, _) => return fitting.pop()?.ok(),
        (0, Some(error)) => at.error("invalid", error),
        (0, None) => at.error(
            "invalid",
            "none of the allowed algorithms is for this type of key",
        ),
        _ => at.error_with_help(
            "ambiguous_key",
            "the key fits several of the allowed algorithms",
            Some("set \"algorithm\" of the key".into()),
        ),
    }
    None
}

/// Reads the secret or the PEM of a key, whether it is a secret, and its reader.
fn material<'t>(map: &mut MapReader<'t>) -> Option<(Secret, bool, ValueReader<'t>)> {
    let sources = [
        ("secret", true, false),
        ("secret_file", true, true),
        ("pem_file", false, true),
    ];
    let given = sources.map(|(key, is_secret, is_file)| Some((map.take(key)?, is_secret, is_file)));
    let given: Vec<_> = given.into_iter().flatten().collect();
    if given.len() > 1 {
        map.reader.error(
            "invalid",
            "expected only one of \"secret\", \"secret_file\" and \"pem_file\"",
        );
    }
    let Some((reader, is_secret, is_file)) = given.into_iter().next() else {
        map.reader.error(
            "missing",
            "expected one of \"secret\", \"secret_file\", \"pem_file\", \"jwks\"",
        );
        return None;
    };
    let bytes = if is_file {
        file(&reader)?
    } else {
        reader.text()?.into_bytes()
    };
    let secret = if is_file && is_secret {
        // Editors end files with a line break, which is not part of the secret.
        Secret::new(bytes.trim_ascii_end())
    } else {
        Secret::new(bytes)
    };
    Some((secret, is_secret, reader))
}
