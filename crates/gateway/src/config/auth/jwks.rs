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
    value::{self, file, size, span, word},
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
    config.poll_interval = span(map.take("poll_interval"), config.poll_interval);
    config.cooldown = span(map.take("cooldown"), config.cooldown);
    config.timeout = span(map.take("timeout"), config.timeout);
    config.max_body = size(map.take("max_body"), config.max_body);
    config.max_keys = map
        .take("max_keys")
        .and_then(|reader| reader.get())
        .unwrap_or(config.max_keys);
    config.max_stale = span(map.take("max_stale"), config.max_stale);
    let starts = [("fail", Start::Fail), ("degraded", Start::Degraded)];
    let start = map.take("start").and_then(|reader| word(&reader, &starts));
    config.start = start.unwrap_or(config.start);
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
    let ca = ca_reader.as_ref().map(file);
    let source = JwksSource {
        url: url(url_reader.as_ref()?)?,
        config: valid.then_some(config)?,
        // An unreadable CA file must not become `None`, which trusts the system's CAs.
        ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
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
