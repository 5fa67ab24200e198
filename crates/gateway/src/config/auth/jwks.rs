//! Reads JWKS sources. Nothing is fetched while the file is read.

use tower_fanout::layers::config::ConfigError;
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
    text::report_url,
    tls::{CertFile, ClientTlsFiles},
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
        .start(file.start);
    let valid = reader.check(&config);
    // The algorithms are a key of the provider, which checks them.
    config.algorithms = algorithms.to_vec();
    let ca = CertFile::load_authorities(reader, "ca_file");
    let at_url = reader.at("url");
    let url = JwksUrl::new(file.url.0.0.clone())
        .map_err(|error| report_url(&at_url, error.message()))
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
    match source.client() {
        Err(error) if source.ca.is_some() => {
            reader.at("ca_file").error("invalid", error.message());
        }
        Err(error) => report_url(&at_url, error.message()),
        Ok(_) => {}
    }
    Some(source)
}
