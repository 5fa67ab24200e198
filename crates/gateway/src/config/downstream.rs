//! Reads downstream services.

use http::{Uri, uri::Scheme};
use indexmap::IndexMap;
use tower_fanout::{Policy, layers::config::Validate};
use tower_fanout_http::{
    client::{self, Client, ClientConfig, ClientTlsConfig, Http2, Identity, TlsVersion, Verify},
    forward::{ForwardConfig, ForwardHeaders},
};

use super::{
    KeyTemplate, file,
    policy::KeyedPolicy,
    reader::ValueReader,
    text::bad_url,
    tls::{CertFile, CertKind, ClientTlsFiles, PairFiles},
    value::known,
};

/// A downstream service.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamConfig {
    /// Its base URL.
    pub(crate) endpoint: Uri,
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

/// Reads the services by name. One with an error has defaults, so that references to it are valid.
pub(super) fn downstreams(
    mut read: IndexMap<String, file::Downstream>,
    reader: &ValueReader<'_>,
    policies: &IndexMap<String, KeyedPolicy>,
) -> IndexMap<String, DownstreamConfig> {
    let named = reader
        .members("downstreams")
        .into_iter()
        .map(|(name, reader)| {
            let file = read.swap_remove(&name).unwrap_or_default();
            (name, downstream(file, &reader, policies))
        });
    named.collect()
}

fn downstream(
    file: file::Downstream,
    reader: &ValueReader<'_>,
    policies: &IndexMap<String, KeyedPolicy>,
) -> DownstreamConfig {
    let endpoint = endpoint(&file.endpoints, reader).unwrap_or_default();
    let policy = file.policy.as_ref().and_then(|_| {
        let name = known(&reader.at("policy"), "policy", policies.keys())?;
        policies.get(&name).cloned()
    });
    let KeyedPolicy { policy, key } = policy.unwrap_or_default();
    let (client, tls_files) = client(&file, reader, &endpoint);
    let config = DownstreamConfig {
        policy,
        key,
        client,
        tls_files,
        forward: forward(reader),
        endpoint,
    };
    reader.check(&config.client);
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
        reader.at(at).error("invalid", error.message());
    }
    config
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
        .max_connections(file.max_connections)
        .allow_addresses(file.allow_addresses.into());
    let mut files = ClientTlsFiles::default();
    if let Some(tls) = &file.tls {
        let reader = reader.at("tls");
        (client.tls, files) = self::tls(tls, &reader);
        if !is_https(endpoint) {
            let message = "tls requires an endpoint that begins with https://";
            reader.error("invalid", message);
        }
    }
    client.http2 = http2(file, reader, !is_https(endpoint));
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
        (None, None) => None,
        _ => {
            let message = "\"cert_file\" and \"key_file\" must be set together";
            reader.error("missing", message);
            None
        }
    };
    let mut tls = ClientTlsConfig::default()
        .server_name(file.server_name.clone())
        .min_version(match file.min_version {
            file::TlsVersion::V1_2 => TlsVersion::V1_2,
            file::TlsVersion::V1_3 => TlsVersion::V1_3,
        });
    if file.verify == file::Verify::DangerouslySkip {
        tls.verify = Verify::DangerouslySkip;
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
    for (key, is_credential) in [("forward_headers", false), ("forward_credentials", true)] {
        for item in reader.items(key) {
            // An invalid name is reported already.
            let Some(name) = item.tree.as_text().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Adds the headers one by one, so that an error is reported at the header that causes it.
            let mut with = forward.clone();
            if is_credential {
                with.credentials.push(name);
            } else {
                with.headers.push(name);
            }
            match with.errors().first() {
                None => forward = with,
                Some(error) => item.error("invalid", error.message()),
            }
        }
    }
    ForwardHeaders::new(forward).unwrap_or_default()
}

/// Returns the only endpoint.
fn endpoint(endpoints: &[file::Endpoint], reader: &ValueReader<'_>) -> Option<Uri> {
    let written = reader.items("endpoints");
    match written.as_slice() {
        [] if reader.has("endpoints") && reader.at("endpoints").is_sound() => {
            let reader = reader.at("endpoints");
            reader.error("missing", "expected one endpoint, got none");
        }
        [] | [_] => {}
        [_, second, ..] => second.not_built("load balancing between several endpoints"),
    }
    let uri = &endpoints.first()?.url.0.0;
    // A well-formed URL may have parts that an endpoint must not have.
    if let Err(error) = client::validate_endpoint(uri) {
        let reader = written.first()?.at("url");
        let fault = bad_url(&reader.tree.as_written(), error.message());
        reader.error(fault.code, fault.message);
        return None;
    }
    Some(uri.clone())
}
