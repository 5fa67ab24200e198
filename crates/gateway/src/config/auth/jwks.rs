//! Reads JWKS sources. Nothing is fetched while the file is read.

use tower_fanout::layers::config::{ConfigError, Validate};
use tower_fanout_http::{
    client::{Client, ClientConfig},
    jwt::{
        Algorithm,
        jwks::{JwksConfig, JwksUrl},
    },
};

use super::super::{
    file,
    reader::ValueReader,
    tls::{CertFile, CertKind, ClientTlsFiles},
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

pub(super) fn jwks(
    file: &file::Jwks,
    reader: &ValueReader<'_>,
    algorithms: &[Algorithm],
) -> Option<JwksSource> {
    let mut config = JwksConfig::default()
        .poll_interval(file.poll_interval.0)
        .cooldown(file.cooldown.0)
        .timeout(file.timeout.0)
        .max_body(file.max_body.0.0)
        .max_keys(file.max_keys)
        .max_stale(file.max_stale.0)
        .start(file.start.into());
    let mut valid = reader.check(&config);
    config.algorithms = algorithms.to_vec();
    let errors = config.errors();
    if let Some(error) = errors.iter().find(|error| error.field() == "algorithms") {
        // The algorithms are a key of the issuer, so the error is not at a key of the JWKS.
        reader.error("invalid", format!("algorithms: {}", error.message()));
        valid = false;
    }
    let ca = file
        .ca_file
        .as_ref()
        .map(|_| CertFile::load(&reader.at("ca_file"), CertKind::Authorities));
    // An unreadable CA file must not become `None`, which trusts the system's CAs.
    let ca = ca.map_or(Some(None), |ca| ca.map(Some));
    let at_url = reader.at("url");
    let url = JwksUrl::new(file.url.0.0.clone())
        .map_err(|error| at_url.error("invalid", error.message()))
        .ok()?;
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
        let at = if source.ca.is_some() {
            reader.at("ca_file")
        } else {
            at_url
        };
        at.error("invalid", error.message());
    }
    Some(source)
}
