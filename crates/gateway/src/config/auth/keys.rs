//! Reads verification keys: static keys, or the JWKS they are fetched from.

use std::error::Error;

use tower_fanout_http::jwt::{Algorithm, Key, KeySet};

use super::{
    super::{
        Secret,
        reader::{MapReader, ValueReader},
        tls::NamedFile,
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
        keys: Vec<StaticKey>,
        /// Algorithm and material of the first key, which signs the tokens of `fanout token`.
        signing: Option<(Algorithm, Secret)>,
    },
    /// Keys fetched from the JWKS of the issuer.
    Fetched(Box<JwksSource>),
}

/// A static key, and the file that it is loaded from.
#[derive(Clone, Debug)]
pub(crate) struct StaticKey {
    key: Key,
    /// `None` if the key is in the configuration itself.
    file: Option<KeyFile>,
}

#[derive(Clone, Debug)]
struct KeyFile {
    file: NamedFile,
    is_secret: bool,
    kid: Option<String>,
    /// The algorithms of which exactly one must fit the key.
    candidates: Vec<Algorithm>,
}

impl StaticKey {
    /// Returns the key as it was loaded with the configuration.
    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    /// Returns `true` if the key is in a file.
    pub(crate) const fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file of the key. A key in the configuration itself is returned as it is.
    ///
    /// # Errors
    /// Returns an error if the file is unreadable or holds no key of an allowed algorithm.
    pub(crate) fn read(&self) -> Result<Key, Box<dyn Error + Send + Sync>> {
        let Some(key) = &self.file else {
            return Ok(self.key.clone());
        };
        let material = trimmed(key.file.read()?, key.is_secret);
        let fitting = only_fitting(&key.candidates, &material);
        let (fitting, _) = fitting.map_err(|misfit| key.file.error(misfit.message))?;
        Ok(with_kid(fitting, key.kid.as_ref()))
    }
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
        ([_], [_]) => {
            return fetched
                .into_iter()
                .next()?
                .map(Box::new)
                .map(KeysConfig::Fetched);
        }
        ([first, ..], _) => {
            first.error("mixed_keys", "\"jwks\" must be the only entry of \"keys\"");
            return None;
        }
    }
    let (keys, materials): (Vec<_>, Vec<_>) = given.into_iter().flatten().unzip();
    // Errors of single keys are already reported.
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys.iter().map(|one| one.key.clone()))
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
fn key(
    reader: &ValueReader<'_>,
    allowed: &[Algorithm],
) -> Option<(StaticKey, (Algorithm, Secret))> {
    let mut map = reader.as_map();
    let kid = map.get("kid", ValueReader::text);
    let declared = map.get("algorithm", |reader| declared(reader, allowed));
    let material = material(&mut map);
    map.finish();
    let Material {
        secret,
        is_secret,
        file,
        at,
    } = material?;
    let candidates: Vec<_> = match declared {
        Some(declared) => vec![declared],
        None => (allowed.iter().copied())
            .filter(|algorithm| algorithm.is_symmetric() == is_secret)
            .collect(),
    };
    let fitting = only_fitting(&candidates, &secret);
    let fitting = fitting.map_err(|misfit| {
        at.error_with_help(misfit.code, misfit.message, misfit.help.map(str::to_owned));
    });
    let (key, algorithm) = fitting.ok()?;
    let key = StaticKey {
        key: with_kid(key, kid.as_ref()),
        file: file.map(|file| KeyFile {
            file,
            is_secret,
            kid,
            candidates,
        }),
    };
    Some((key, (algorithm, secret)))
}

fn with_kid(key: Key, kid: Option<&String>) -> Key {
    match kid {
        Some(kid) => key.with_kid(kid.clone()),
        None => key,
    }
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

/// The reason why a key has no algorithm.
struct Misfit {
    code: &'static str,
    message: String,
    help: Option<&'static str>,
}

/// Returns the key for the only one of `candidates` that fits its material.
///
/// # Errors
/// Returns an error if none or several fit.
fn only_fitting(candidates: &[Algorithm], material: &Secret) -> Result<(Key, Algorithm), Misfit> {
    let misfit = |code, message: String, help| Misfit {
        code,
        message,
        help,
    };
    let tried = candidates.iter().map(|&algorithm| {
        let create = if algorithm.is_symmetric() {
            Key::from_secret
        } else {
            Key::from_pem
        };
        create(algorithm, material.expose()).map(|key| (key, algorithm))
    });
    let (fitting, errors): (Vec<_>, Vec<_>) = tried.partition(Result::is_ok);
    let mut fitting = fitting.into_iter().flatten();
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(misfit(
            "ambiguous_key",
            "the key fits several of the allowed algorithms".into(),
            Some("set \"algorithm\" of the key"),
        )),
        (None, _) => {
            let other_type = "none of the allowed algorithms is for this type of key";
            let error = errors.into_iter().find_map(Result::err);
            let message = error.map_or_else(|| other_type.into(), |error| error.to_string());
            Err(misfit("invalid", message, None))
        }
    }
}

/// The secret or the PEM of a key.
struct Material<'t> {
    secret: Secret,
    is_secret: bool,
    /// The file that holds it, if it is in a file.
    file: Option<NamedFile>,
    at: ValueReader<'t>,
}

fn material<'t>(map: &mut MapReader<'t>) -> Option<Material<'t>> {
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
    let named = if is_file {
        Some(NamedFile::new(&reader)?)
    } else {
        None
    };
    Some(Material {
        secret: trimmed(bytes, is_file && is_secret),
        is_secret,
        file: named,
        at: reader,
    })
}

/// Returns the secret in `bytes`. Editors end files with a line break, which is not part of a secret and is
/// removed with `trim`.
fn trimmed(bytes: Vec<u8>, trim: bool) -> Secret {
    if trim {
        Secret::new(bytes.trim_ascii_end())
    } else {
        Secret::new(bytes)
    }
}
