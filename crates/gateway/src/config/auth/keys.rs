//! Reads verification keys: static keys, or the JWKS they are fetched from.

use std::error::Error;

use tower_fanout_http::jwt::{Algorithm, Key, KeySet};

use super::{
    super::{Secret, file, reader::ValueReader, tls::NamedFile, value::read_file},
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

/// Reports a mix of HMAC and public-key algorithms, which would let an attacker use a public key as an HMAC
/// secret.
pub(super) fn check_algorithms(algorithms: &[Algorithm], reader: &ValueReader<'_>) {
    let of_kind = |is_symmetric| {
        let mut algorithms = algorithms.iter();
        algorithms.find(move |algorithm| algorithm.is_symmetric() == is_symmetric)
    };
    if let (Some(hmac), Some(public)) = (of_kind(true), of_kind(false)) {
        let message = format!(
            "expected only HMAC or only public-key algorithms, got \"{}\" (HMAC) and \"{}\"",
            hmac.as_str(),
            public.as_str()
        );
        let help = "use a provider for each kind".to_owned();
        reader.error_with_help("mixed_algorithms", message, Some(help));
    }
}

/// Reports HMAC algorithms, whose keys are secrets and cannot be published. `reader` reads the provider.
fn check_published(algorithms: &[Algorithm], reader: &ValueReader<'_>) {
    // A mix is reported already.
    if !algorithms.iter().all(|algorithm| algorithm.is_symmetric()) {
        return;
    }
    if let Some(first) = algorithms.first() {
        let message = format!(
            "\"{}\" needs a secret, and cannot be used with jwks",
            first.as_str()
        );
        let help = "use RS256, ES256 or EdDSA".to_owned();
        reader
            .item("algorithms", 0)
            .error_with_help("invalid", message, Some(help));
    }
}

/// Returns the keys: any number of static ones, or exactly one JWKS. `reader` reads their provider.
pub(super) fn keys(
    file: &[file::Key],
    reader: &ValueReader<'_>,
    algorithms: &[Algorithm],
) -> Option<KeysConfig> {
    let items = reader.items("keys");
    // An invalid key is reported, and left out of the struct. The others cannot be found by their index then.
    // Nor can keys be checked if an allowed algorithm is missing.
    let is_known = reader.items("algorithms").len() == algorithms.len() && !algorithms.is_empty();
    if items.len() != file.len() || !reader.has("keys") || !is_known {
        return None;
    }
    let all = || file.iter().zip(&items);
    let given = all().filter(|(file, _)| file.jwks.is_none());
    let given: Vec<_> = given
        .map(|(file, item)| key(file, item, algorithms))
        .collect();
    let published = all().filter_map(|(key, item)| Some((key, key.jwks.as_ref()?, item)));
    let published: Vec<_> = (published)
        .map(|(key, jwks, item)| {
            check_alone(key, item);
            check_published(algorithms, reader);
            (item, self::jwks(jwks, &item.at("jwks"), algorithms))
        })
        .collect();
    if let Some((first, _)) = published.first().filter(|_| items.len() > 1) {
        first.error("mixed_keys", "\"jwks\" must be the only entry of \"keys\"");
        return None;
    }
    if let Some((_, source)) = published.into_iter().next() {
        return Some(KeysConfig::Fetched(Box::new(source?)));
    }
    let (keys, materials): (Vec<StaticKey>, Vec<_>) = given.into_iter().flatten().unzip();
    // Errors of single keys, and of the list itself, are already reported.
    if keys.len() == items.len()
        && reader.at("keys").is_sound()
        && let Err(error) = KeySet::new(keys.iter().map(|one| one.key.clone()))
    {
        let keys = reader.at("keys");
        keys.library_error("invalid", &error.to_string());
    }
    let signing = materials.into_iter().next();
    Some(KeysConfig::Given { keys, signing })
}

/// Reports keys beside `jwks`, which says everything about its keys itself. Another source of a key is reported already.
fn check_alone(key: &file::Key, reader: &ValueReader<'_>) {
    let others = [
        ("kid", key.kid.is_some()),
        ("algorithm", key.algorithm.is_some()),
    ];
    for (name, _) in others.into_iter().filter(|(_, is_given)| *is_given) {
        let message = format!("\"{name}\" must not be set beside \"jwks\"");
        reader.at(name).error("invalid", message);
    }
}

/// Returns one static key, with its algorithm and material. Returns `None` after reporting its errors.
fn key(
    file: &file::Key,
    reader: &ValueReader<'_>,
    allowed: &[Algorithm],
) -> Option<(StaticKey, (Algorithm, Secret))> {
    let declared = file.algorithm.map(|algorithm| algorithm.0);
    if declared.is_some_and(|declared| !allowed.contains(&declared)) {
        let reader = reader.at("algorithm");
        reader.error("invalid", "expected one of the allowed \"algorithms\"");
    }
    let Material {
        secret,
        is_secret,
        file: named,
        at,
    } = material(file, reader)?;
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
    let kid = file.kid.as_ref().map(|kid| &kid.0.0);
    let key = StaticKey {
        key: with_kid(key, kid),
        file: named.map(|named| KeyFile {
            file: named,
            is_secret,
            kid: kid.cloned(),
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

fn material<'t>(key: &file::Key, reader: &ValueReader<'t>) -> Option<Material<'t>> {
    let sources = [
        ("secret", true, key.secret.is_some()),
        ("secret_file", true, key.secret_file.is_some()),
        ("pem_file", false, key.pem_file.is_some()),
    ];
    // No source, several ones and an invalid one are reported already.
    let mut given = sources.into_iter().filter(|(_, _, is_given)| *is_given);
    let (name, is_secret, _) = given.next()?;
    let at = reader.at(name);
    let (bytes, named) = match &key.secret {
        Some(secret) => (secret.0.clone().into_bytes(), None),
        None => (read_file(&at)?, Some(NamedFile::new(&at)?)),
    };
    Some(Material {
        secret: trimmed(bytes, named.is_some() && is_secret),
        is_secret,
        file: named,
        at,
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
