//! Reads keys: those that the file gives, or says where they are fetched.

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

/// The keys of an issuer.
#[derive(Clone, Debug)]
pub(crate) enum KeysConfig {
    /// These, each with its algorithm.
    Given(Vec<KeyConfig>),
    /// Those that it publishes.
    Fetched(JwksSource),
}

/// A key as the file has it.
#[derive(Clone, Debug)]
pub(crate) struct KeyConfig {
    /// What it is used for.
    pub(crate) algorithm: Algorithm,
    /// Its name.
    pub(crate) kid: Option<String>,
    /// A secret, or a public key in PEM.
    pub(crate) material: Secret,
}

/// The allowed algorithms; secrets and public keys are not mixed.
pub(super) fn algorithms(field: &ValueReader<'_>) -> Vec<Algorithm> {
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for item in field.list() {
        let Some(name) = item.text() else { continue };
        match name.parse() {
            Ok(algorithm) => algorithms.push(algorithm),
            Err(_) => {
                let known = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str());
                let help =
                    nearest_name(&name, known).map(|known| format!("did you mean \"{known}\"?"));
                item.error_with_help("unknown_algorithm", "there is no such algorithm", help);
            }
        }
    }
    let symmetric = algorithms
        .iter()
        .filter(|algorithm| algorithm.is_symmetric())
        .count();
    if symmetric != 0 && symmetric != algorithms.len() {
        field.error(
            "mixed_algorithms",
            "algorithms for secrets and for public keys cannot be allowed together",
        );
    }
    algorithms
}

/// The keys; those that are fetched stand alone.
pub(super) fn keys(field: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<KeysConfig> {
    let items = field.list();
    let (published, given): (Vec<_>, Vec<_>) = items.iter().partition(|item| is_published(item));
    let given: Vec<_> = given.iter().map(|item| key(item, algorithms)).collect();
    let fetched: Vec<_> = (published.iter())
        .map(|item| fetched(item, algorithms))
        .collect();
    match (&*published, &*items) {
        ([], _) => {}
        ([_], [_]) => return fetched.into_iter().next()?.map(KeysConfig::Fetched),
        ([first, ..], _) => {
            first.error("mixed_keys", "keys that are fetched stand alone");
            return None;
        }
    }
    let (keys, configs): (Vec<_>, Vec<_>) = given.into_iter().flatten().unzip();
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys)
    {
        field.error("invalid", error);
    }
    Some(KeysConfig::Given(configs))
}

fn is_published(item: &ValueReader<'_>) -> bool {
    matches!(&item.tree.kind, Kind::Map(members) if members.iter().any(|(key, _, _)| key == "jwks"))
}

fn fetched(item: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
    let mut section = item.section();
    let config = section
        .take("jwks")
        .and_then(|field| jwks(&field, algorithms));
    section.finish();
    config
}

/// One key; what is wrong with it is said here, once and for all.
fn key(field: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<(Key, KeyConfig)> {
    let mut section = field.section();
    let kid = section.take("kid").and_then(|field| field.text());
    let declared = section
        .take("algorithm")
        .and_then(|field| declared(&field, allowed));
    let material = material(&mut section);
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
fn declared(field: &ValueReader<'_>, allowed: &[Algorithm]) -> Option<Algorithm> {
    let named = field.text()?.parse().ok();
    let algorithm = named.filter(|algorithm| allowed.contains(algorithm));
    if algorithm.is_none() {
        field.error("invalid", "this algorithm is not among \"algorithms\"");
    }
    algorithm
}

/// The one algorithm that a key is for.
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
    if algorithm.is_symmetric() {
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
    pub(crate) fn key(&self) -> Result<Key, KeyError> {
        let key = make(self.algorithm, &self.material)?;
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid),
            None => key,
        })
    }
}

/// The secret or the PEM of a key, and whether it is a secret.
fn material<'t>(section: &mut MapReader<'t>) -> Option<(Secret, bool, ValueReader<'t>)> {
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
            "a key is a \"secret\", a \"secret_file\", a \"pem_file\" or a \"jwks\"",
        );
        return None;
    };
    let bytes = if is_file {
        file(&field)?
    } else {
        field.text()?.into_bytes()
    };
    let secret = if is_file && is_secret {
        // An editor's last line break is no part of a secret.
        Secret::new(bytes.trim_ascii_end())
    } else {
        Secret::new(bytes)
    };
    Some((secret, is_secret, field))
}
