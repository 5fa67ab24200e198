//! Reads downstream services.

use http::{HeaderName, Uri, uri::Scheme};
use indexmap::IndexMap;
use tower_fanout::{
    Policy,
    layers::{ConcurrencyConfig, config::Validate},
};
use tower_fanout_http::{
    client::{self, Client, ClientConfig, ClientTlsConfig, Http2, Identity, Verify},
    forward::{ForwardConfig, ForwardHeaders},
};

use super::{
    KeyTemplate, file,
    policy::KeyedPolicy,
    reader::{ValueReader, split_advice},
    text::report_url,
    tls::{CertFile, CertKind, ClientTlsFiles, PairFiles},
    value::{known, named},
};

/// A downstream service.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamConfig {
    /// Its base URL.
    pub(crate) endpoint: Uri,
    /// Name of its policy. `None` is the default policy.
    pub(crate) policy_name: Option<String>,
    /// Timeouts, retries and the other resilience settings.
    pub(crate) policy: Policy,
    /// The key of its calls. `None` if its policy has no limits per key.
    pub(crate) key: Option<KeyTemplate>,
    /// Connection settings and response limits.
    pub(crate) client: ClientConfig,
    /// The files of the certificates in `client`.
    pub(crate) tls_files: ClientTlsFiles,
    /// Headers of the caller that are forwarded to the service.
    pub(crate) forward: ForwardHeaders,
}

/// Reads the services by name.
pub(super) fn downstreams(
    files: IndexMap<String, file::Downstream>,
    reader: &ValueReader<'_>,
    policies: &IndexMap<String, KeyedPolicy>,
) -> IndexMap<String, DownstreamConfig> {
    named(reader, "downstreams", files, |file, reader| {
        downstream(file, reader, policies)
    })
}

fn downstream(
    file: file::Downstream,
    reader: &ValueReader<'_>,
    policies: &IndexMap<String, KeyedPolicy>,
) -> DownstreamConfig {
    let endpoint = endpoint(&file.endpoints, reader).unwrap_or_default();
    let policy_name = file.policy.as_ref().and_then(|_| {
        let kind = ("policy", "policies");
        known(&reader.at("policy"), kind, policies)
    });
    let policy = policy_name
        .as_ref()
        .and_then(|name| policies.get(name).cloned());
    let KeyedPolicy { policy, key } = policy.unwrap_or_default();
    let (client, tls_files) = client(&file, reader, &endpoint);
    let config = DownstreamConfig {
        policy_name,
        policy,
        key,
        client,
        tls_files,
        forward: forward(reader),
        endpoint,
    };
    reader.check(&config.client);
    check_connections_of_keys(reader, &config);
    // Building a client checks the TLS options together. That is useful only if each of them is valid.
    if is_https(&config.endpoint)
        && reader.is_sound()
        && let Err(error) = Client::new(&config.endpoint, config.client.clone())
    {
        // The other TLS options are already checked one by one.
        let named = config.client.tls.server_name.is_some();
        let at = if named {
            "tls.server_name"
        } else {
            "endpoints"
        };
        reader.at(at).library_error("invalid", error.message());
    }
    config
}

/// Reports a number of connections with which the calls of one key could keep those of others waiting: calls wait for a
/// connection within their attempt timeout, which counts as a failure of the service.
fn check_connections_of_keys(reader: &ValueReader<'_>, config: &DownstreamConfig) {
    let connections = limited_connections(&config.client);
    let (Some(per_key), Some(connections)) = (&config.policy.per_key, connections) else {
        return;
    };
    let reader = reader.at("max_connections");
    let refuse = |rule: String, help: &str| {
        let message = format!("must be {rule}, got {}", reader.shown());
        reader.error_with_help("range", message, Some(help.to_owned()));
    };
    let all = config.policy.concurrency.as_ref().map(highest);
    if let Some((name, highest)) = per_key.concurrency.as_ref().map(highest)
        && highest >= connections
    {
        refuse(
            format!("> per_key.{name} of the policy ({highest})"),
            "otherwise, one key can take all connections",
        );
    } else if per_key.circuit_breaker.is_some()
        && all.is_none_or(|(_, highest)| highest > connections)
    {
        let rule = match all {
            Some((name, highest)) => format!(">= {name} of the policy ({highest})"),
            None => ">= a concurrency.max of the policy, which is off".to_owned(),
        };
        refuse(
            rule,
            "otherwise, a wait for connections that one key holds opens the circuits of other keys",
        );
    }
}

/// Returns the name and the value of the highest limit.
pub(super) fn highest(limit: &ConcurrencyConfig) -> (&'static str, usize) {
    let name = match limit.adaptive {
        None => "concurrency.max",
        Some(_) => "concurrency.adaptive.max",
    };
    (name, *limit.bounds().end() as usize)
}

/// Returns the number of connections that bounds the calls in flight, or `None` if nothing does. Without negotiation, a
/// connection of HTTP/2 carries many calls.
pub(super) fn limited_connections(client: &ClientConfig) -> Option<usize> {
    let is_limited = !matches!(client.http2, Http2::PriorKnowledge { .. });
    client.max_connections.filter(|_| is_limited)
}

fn is_https(endpoint: &Uri) -> bool {
    endpoint.scheme() == Some(&Scheme::HTTPS)
}

/// Returns the connection settings and response limits of the service at `endpoint`, and the files of its
/// certificates.
fn client(
    file: &file::Downstream,
    reader: &ValueReader<'_>,
    endpoint: &Uri,
) -> (ClientConfig, ClientTlsFiles) {
    let mut client = ClientConfig::default()
        .max_response(file.max_response.0.0)
        .max_head(file.max_head.0.0)
        .connect_timeout(file.connect_timeout.0)
        .idle_timeout(file.idle_timeout.0)
        .max_age(file.max_age.as_ref().map(|age| age.0))
        .max_connections(file.max_connections)
        .allow_addresses(file.allow_addresses);
    let mut files = ClientTlsFiles::default();
    // Nothing is known of an endpoint that is missing or not valid.
    let is_known = reader.has("endpoints") && reader.at("endpoints").is_sound();
    let is_plain = is_known && !is_https(endpoint);
    if let Some(tls) = &file.tls {
        let reader = reader.at("tls");
        (client.tls, files) = self::tls(tls, &reader);
        if is_plain {
            let message = "tls requires an endpoint that begins with https://";
            reader.error("invalid", message);
        }
    }
    client.http2 = http2(file, reader, is_plain);
    (client, files)
}

/// Returns the HTTP/2 mode. Without TLS (`plain`), ALPN is an error, as it is part of the TLS handshake.
fn http2(file: &file::Downstream, reader: &ValueReader<'_>, plain: bool) -> Http2 {
    let connections = file.http2_connections.unwrap_or(1).into();
    if file.http2 == file::Http2::Alpn && plain {
        reader.at("http2").error_with_help(
            "invalid",
            "http2: alpn requires TLS",
            Some("set http2: prior_knowledge, or an endpoint that begins with https://".into()),
        );
    } else if file.http2_connections.is_some() && file.http2 == file::Http2::Off {
        reader.at("http2_connections").warning(
            "no_effect",
            "http2_connections has no effect with http2: off",
            "set http2, or remove http2_connections",
        );
    }
    match file.http2 {
        file::Http2::Off => Http2::Off,
        file::Http2::PriorKnowledge => Http2::PriorKnowledge { connections },
        file::Http2::Alpn => Http2::Alpn { connections },
    }
}

/// Reads the trusted CA and the client certificate, and returns the TLS options.
fn tls(file: &file::ClientTls, reader: &ValueReader<'_>) -> (ClientTlsConfig, ClientTlsFiles) {
    let ca = file.ca_file.as_ref().and_then(|_| {
        let reader = reader.at("ca_file");
        let loaded = CertFile::load(&reader, CertKind::Authorities);
        loaded.filter(|(_, pem)| is_ca(&reader, pem))
    });
    let pair = match (&file.cert_file, &file.key_file) {
        (Some(_), Some(_)) => PairFiles::load(&reader.at("cert_file"), &reader.at("key_file")),
        // One without the other is reported already.
        _ => None,
    };
    let mut tls = ClientTlsConfig::default()
        .server_name(file.server_name.clone())
        .min_version(file.min_version)
        .verify(file.verify);
    if file.verify == Verify::DangerouslySkip {
        reader.at("verify").warning(
            "not_verified",
            "certificates are not verified: an attacker on the network can read and change the traffic",
            "remove this key, and set ca_file to the CA to trust",
        );
    }
    let mut files = ClientTlsFiles::default();
    if let Some((file, pem)) = ca {
        (files.ca, tls.ca) = (Some(file), Some(pem));
    }
    if let Some((pair, chain, key)) = pair {
        (files.pair, tls.identity) = (Some(pair), Some(Identity::new(chain, key)));
    }
    (tls, files)
}

/// Returns `true` if `pem` holds certificates that can serve as trust anchors.
fn is_ca(reader: &ValueReader<'_>, pem: &[u8]) -> bool {
    let mut config = ClientConfig::default();
    config.tls.ca = Some(pem.to_vec());
    let client = Client::new(&Uri::from_static("https://localhost"), config);
    client
        .map_err(|error| reader.error("invalid", error.message()))
        .is_ok()
}

/// Reads the caller's headers to forward. Credentials are listed under a key of their own.
fn forward(reader: &ValueReader<'_>) -> ForwardHeaders {
    let mut forward = ForwardConfig::default();
    let [headers, credentials] = ["forward_headers", CREDENTIALS];
    for (key, other) in [(headers, credentials), (credentials, headers)] {
        for item in reader.items(key) {
            // An invalid name is reported already.
            let Some(name) = item.tree.as_text().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Adds the headers one by one, so that an error is reported at the header that causes it.
            let with = with_header(&forward, key, &name);
            let Some(error) = with.errors().into_iter().next() else {
                forward = with;
                continue;
            };
            let (message, advice) = split_advice(error.message());
            let fits = with_header(&forward, other, &name).errors().is_empty();
            let help = if fits {
                Some(format!("list it in {other}"))
            } else {
                advice.map(str::to_owned)
            };
            item.error_with_help("invalid", item.masked(message), help);
        }
    }
    ForwardHeaders::new(forward).unwrap_or_default()
}

/// Key of the headers with credentials.
const CREDENTIALS: &str = "forward_credentials";

/// Returns `forward` with the header `name` in the list `key`.
fn with_header(forward: &ForwardConfig, key: &str, name: &HeaderName) -> ForwardConfig {
    let mut forward = forward.clone();
    let list = match key {
        CREDENTIALS => &mut forward.credentials,
        _ => &mut forward.headers,
    };
    list.push(name.clone());
    forward
}

/// Returns the only endpoint.
fn endpoint(endpoints: &[file::Endpoint], reader: &ValueReader<'_>) -> Option<Uri> {
    let written = reader.items("endpoints");
    match written.as_slice() {
        [] | [_] => {}
        [_, second, ..] => second.not_built("load balancing between several endpoints"),
    }
    let uri = &endpoints.first()?.url.0.0;
    // A well-formed URL may have parts that an endpoint must not have.
    if let Err(error) = client::validate_endpoint(uri) {
        let reader = written.first()?.at("url");
        report_url(&reader, error.message());
        return None;
    }
    Some(uri.clone())
}
