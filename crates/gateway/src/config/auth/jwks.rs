//! Reads JWKS sources. Nothing is fetched while the file is read.

use tower_fanout::layers::config::{ConfigError, Validate};
use tower_fanout_http::{
    client::{Client, ClientConfig},
    jwt::{
        Algorithm,
        jwks::{JwksConfig, JwksUrl, Start},
    },
};

use super::super::{
    reader::ValueReader,
    tls::{CertFile, CertKind, ClientTlsFiles},
    value::{self, duration, size, word},
};

/// A JWK set that an issuer publishes.
#[derive(Clone, Debug)]
pub(crate) struct JwksSource {
    /// URL of the JWK set.
    pub(crate) url: JwksUrl,
    /// Polling, limits and startup behavior.
    pub(crate) config: JwksConfig,
    /// CA certificates in PEM for the URL, in place of the system's. `None` uses the system's.
    pub(crate) ca: Option<Vec<u8>>,
    /// The file of `ca`.
    pub(crate) tls_files: ClientTlsFiles,
}

impl JwksSource {
    /// Creates the client that fetches the JWK set.
    ///
    /// # Errors
    /// Returns an error if the URL is not usable or the CA certificates are invalid.
    pub(crate) fn client(&self) -> Result<Client, ConfigError> {
        let mut config = ClientConfig::default().max_response(self.config.max_body);
        config.tls.ca.clone_from(&self.ca);
        Client::new(&self.url.endpoint(), config)
    }
}

pub(super) fn jwks(reader: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
    let mut map = reader.as_map();
    let url_reader = map.require("url");
    let mut config = JwksConfig::default();
    map.set("poll_interval", &mut config.poll_interval, duration);
    map.set("cooldown", &mut config.cooldown, duration);
    map.set("timeout", &mut config.timeout, duration);
    map.set("max_body", &mut config.max_body, size);
    map.set("max_keys", &mut config.max_keys, ValueReader::get);
    map.set("max_stale", &mut config.max_stale, duration);
    let starts = [("fail", Start::Fail), ("degraded", Start::Degraded)];
    map.set("start", &mut config.start, |reader| word(reader, &starts));
    let ca_reader = map.take("ca_file");
    map.finish();
    let mut valid = reader.check(&config);
    config.algorithms = algorithms.to_vec();
    let errors = config.errors();
    if let Some(error) = errors.iter().find(|error| error.field() == "algorithms") {
        // The algorithms are a key of the issuer, so the error is not at a key of the JWKS.
        reader.error("invalid", format!("algorithms: {}", error.message()));
        valid = false;
    }
    let ca = ca_reader
        .as_ref()
        .map(|reader| CertFile::load(reader, CertKind::Authorities));
    // An unreadable CA file must not become `None`, which trusts the system's CAs.
    let ca = ca.map_or(Some(None), |ca| ca.map(Some));
    let url = url(url_reader.as_ref()?)?;
    let (file, ca) = ca?.unzip();
    let source = JwksSource {
        url,
        config: valid.then_some(config)?,
        ca,
        tls_files: ClientTlsFiles {
            ca: file,
            pair: None,
        },
    };
    if let Err(error) = source.client() {
        ca_reader.or(url_reader)?.error("invalid", error.message());
    }
    Some(source)
}

fn url(reader: &ValueReader<'_>) -> Option<JwksUrl> {
    JwksUrl::new(value::url(reader, "https://idp.example/jwks.json")?)
        .map_err(|error| reader.error("invalid", error.message()))
        .ok()
}
