//! Reads where the keys of an issuer are fetched, and how. Nothing is fetched here.

use http::Uri;
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
    value::{file, size, span, word},
};

/// Keys that an issuer publishes.
#[derive(Clone, Debug)]
pub(crate) struct JwksSource {
    /// Where they are.
    pub(crate) url: JwksUrl,
    /// How they are fetched.
    pub(crate) config: JwksConfig,
    /// Certificates to believe there, in PEM, in place of those of the system.
    pub(crate) ca: Option<Vec<u8>>,
}

impl JwksSource {
    /// What fetches them.
    ///
    /// # Errors
    /// The address cannot be asked, or the certificates cannot be used.
    pub(crate) fn client(&self) -> Result<Client, ConfigError> {
        let mut config = ClientConfig::default().max_response(self.config.max_body);
        config.tls.ca.clone_from(&self.ca);
        Client::new(&self.url.endpoint(), config)
    }
}

pub(super) fn jwks(field: &ValueReader<'_>, algorithms: &[Algorithm]) -> Option<JwksSource> {
    let mut section = field.section();
    let url_field = section.require("url");
    let mut settings = JwksConfig::default();
    settings.algorithms = algorithms.to_vec();
    settings.poll_interval = span(section.take("poll_interval"), settings.poll_interval);
    settings.cooldown = span(section.take("cooldown"), settings.cooldown);
    settings.timeout = span(section.take("timeout"), settings.timeout);
    settings.max_body = size(section.take("max_body"), settings.max_body);
    settings.max_keys = section
        .take("max_keys")
        .and_then(|field| field.get())
        .unwrap_or(settings.max_keys);
    settings.max_stale = span(section.take("max_stale"), settings.max_stale);
    let starts = [("fail", Start::Fail), ("degraded", Start::Degraded)];
    let start = section
        .take("start")
        .and_then(|field| word(&field, &starts));
    settings.start = start.unwrap_or(settings.start);
    let ca_field = section.take("ca_file");
    section.finish();
    let valid = check(field, &settings);
    let ca = ca_field.as_ref().map(file);
    let source = JwksSource {
        url: url(url_field.as_ref()?)?,
        config: valid.then_some(settings)?,
        // One that could not be read must not become none.
        ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
    };
    if let Err(error) = source.client() {
        ca_field.or(url_field)?.error("invalid", error.message());
    }
    Some(source)
}

fn url(field: &ValueReader<'_>) -> Option<JwksUrl> {
    let Ok(url) = field.text()?.parse::<Uri>() else {
        field.error("invalid", "this is no address");
        return None;
    };
    JwksUrl::new(url)
        .map_err(|error| field.error("invalid", error))
        .ok()
}

/// Complains about all that is wrong with `settings`; the algorithms stand elsewhere. Returns `true` if
/// nothing is wrong.
fn check(field: &ValueReader<'_>, settings: &JwksConfig) -> bool {
    let problems = settings.errors();
    for problem in &problems {
        match problem.field() {
            "algorithms" => field.error("invalid", format!("algorithms: {}", problem.message())),
            key => field.at(key).error("invalid", problem.message()),
        }
    }
    problems.is_empty()
}
