//! Reads verification keys: static keys, or the JWKS they are fetched from.

use tower_fanout::nearest_name;
use tower_fanout_http::jwt::{Algorithm, Key, KeyError, KeySet};

use super::{
    super::{
        Secret,
        reader::{MapReader, ValueReader},
        tree::Kind,
        value::file,
    },
    jwks::{JwksSource, jwks},
};

/// The verification keys of an issuer.
#[derive(Clone, Debug)]
pub(crate) enum KeysConfig {
    /// Static keys, each with its algorithm.
    Given(Vec<KeyConfig>),
    /// Keys fetched from the JWKS of the issuer.
    Fetched(JwksSource),
}

/// A static key as the file defines it.
#[derive(Clone, Debug)]
pub(crate) struct KeyConfig {
    /// The signature algorithm.
    pub(crate) algorithm: Algorithm,
    /// The key id. `None` for a key without one.
    pub(crate) kid: Option<String>,
    /// The HMAC secret, or the public key in PEM.
    pub(crate) material: Secret,
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
                let help =
                    nearest_name(&name, known).map(|known| format!("did you mean \"{known}\"?"));
                let message = format!("unknown algorithm \"{name}\"");
                item.error_with_help("unknown_algorithm", message, help);
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
    let (keys, configs): (Vec<_>, Vec<_>) = given.into_iter().flatten().unzip();
    // Errors of single keys are already reported.
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys)
    {
        reader.error("invalid", error);
    }
    Some(KeysConfig::Given(configs))
}

fn is_published(item: &ValueReader<'_>) -> bool {
    matches!(&item.tree.kind, Kind::Map(members) if members.iter().any(|(key, _, _)| key == "jwks"))
}

fn fetched(item: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
    let mut map = item.as_map();
    let config = map
        .take("jwks")
        .and_then(|reader| jwks(&reader, algorithms));
    map.finish();
    config
}

/// Reads one static key. Returns `None` after reporting its errors.
fn key(reader: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<(Key, KeyConfig)> {
    let mut map = reader.as_map();
    let kid = map.take("kid").and_then(|reader| reader.text());
    let declared = map
        .take("algorithm")
        .and_then(|reader| declared(&reader, allowed));
    let material = material(&mut map);
    map.finish();
    let (material, from_secret, at) = material?;
    let algorithm = match declared {
        Some(declared) => declared,
        // Tries each allowed algorithm of the right type with the key.
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

/// Reads the algorithm of a key, which must be one of `allowed`.
fn declared(reader: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<Algorithm> {
    let named = Algorithm::parse(&reader.text()?);
    let algorithm = named.filter(|algorithm| allowed.contains(algorithm));
    if algorithm.is_none() {
        reader.error("invalid", "expected one of the allowed \"algorithms\"");
    }
    algorithm
}

/// Returns the only algorithm in `allowed` that fits the key. Reports an error if none or several fit.
fn only_fitting(
    at: &ValueReader<'_>,
    allowed: &[Algorithm],
    material: &Secret,
    from_secret: bool,
) -> Option<Algorithm> {
    let kind = allowed
        .iter()
        .filter(|algorithm| algorithm.is_symmetric() == from_secret);
    let tried: Vec<_> = kind
        .map(|algorithm| make(*algorithm, material).map(|_| *algorithm))
        .collect();
    let mut fitting = tried.iter().flatten();
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => return Some(*only),
        (Some(_), Some(_)) => {
            let help = Some("set \"algorithm\" of the key".into());
            at.error_with_help(
                "ambiguous_key",
                "the key fits several of the allowed algorithms",
                help,
            );
        }
        (None, _) => match tried.iter().find_map(|tried| tried.as_ref().err()) {
            Some(why) => at.error("invalid", why),
            None => at.error(
                "invalid",
                "none of the allowed algorithms is for this type of key",
            ),
        },
    }
    None
}

/// Creates the key for `algorithm` from its secret or its PEM.
fn make(algorithm: Algorithm, material: &Secret) -> Result<Key, KeyError> {
    if algorithm.is_symmetric() {
        Key::from_secret(algorithm, material.expose())
    } else {
        Key::from_pem(algorithm, material.expose())
    }
}

impl KeyConfig {
    /// Creates the verification key.
    ///
    /// # Errors
    /// Returns an error if the material does not fit the algorithm.
    pub(crate) fn key(&self) -> Result<Key, KeyError> {
        let key = make(self.algorithm, &self.material)?;
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid),
            None => key,
        })
    }
}

/// Reads the secret or the PEM of a key, whether it is a secret, and its reader.
fn material<'t>(map: &mut MapReader<'t>) -> Option<(Secret, bool, ValueReader<'t>)> {
    let sources = [
        ("secret", true, false),
        ("secret_file", true, true),
        ("pem_file", false, true),
    ];
    let mut given = Vec::new();
    for (key, is_secret, is_file) in sources {
        if let Some(reader) = map.take(key) {
            given.push((reader, is_secret, is_file));
        }
    }
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
