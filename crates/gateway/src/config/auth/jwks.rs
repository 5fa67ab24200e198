//! Reads where the keys of an issuer are fetched, and how. Nothing is fetched here.

use http::Uri;
use tower_fanout::layers::config::Validate;
use tower_fanout_http::{
    client::{BadEndpoint, Client, ClientSettings},
    jwt::{
        Algorithm,
        jwks::{JwksPolicy, JwksSettings, JwksUrl, Start},
    },
};

use super::super::{
    reader::Field,
    value::{file, size, span, word},
};

/// Keys that an issuer publishes.
#[derive(Clone, Debug)]
pub struct JwksConfig {
    /// Where they are.
    pub url: JwksUrl,
    /// How they are fetched.
    pub policy: JwksPolicy,
    /// Certificates to believe there, in PEM, in place of those of the system.
    pub ca: Option<Vec<u8>>,
}

impl JwksConfig {
    /// What fetches them.
    ///
    /// # Errors
    /// The address cannot be asked, or the certificates cannot be used.
    pub fn client(&self) -> Result<Client, BadEndpoint> {
        let mut settings = ClientSettings::default();
        settings.max_response = self.policy.max_body;
        settings.tls.ca.clone_from(&self.ca);
        Client::new(&self.url.endpoint(), &settings)
    }
}

pub(super) fn jwks(field: &Field<'_>, algorithms: &[Algorithm]) -> Option<JwksConfig> {
    let mut section = field.section();
    let url_field = section.require("url");
    let mut settings = JwksSettings::default();
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
    check(field, &settings);
    let ca = ca_field.as_ref().map(file);
    let config = JwksConfig {
        url: url(url_field.as_ref()?)?,
        policy: JwksPolicy::new(settings).ok()?,
        // One that could not be read must not become none.
        ca: ca.map_or(Some(None), |ca| ca.map(Some))?,
    };
    if let Err(error) = config.client() {
        ca_field.or(url_field)?.error("invalid", error);
    }
    Some(config)
}

fn url(field: &Field<'_>) -> Option<JwksUrl> {
    let Ok(url) = field.text()?.parse::<Uri>() else {
        field.error("invalid", "this is no address");
        return None;
    };
    JwksUrl::new(url)
        .map_err(|error| field.error("invalid", error))
        .ok()
}

/// Complains about all that is wrong with `settings`; the algorithms stand elsewhere.
fn check(field: &Field<'_>, settings: &JwksSettings) {
    for problem in settings.errors() {
        match problem.field() {
            "algorithms" => field.error("invalid", format!("algorithms: {}", problem.message())),
            key => field.at(key).error("invalid", problem.message()),
        }
    }
}
