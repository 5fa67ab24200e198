//! Reads downstream services.

use http::{Uri, uri::Scheme};
use indexmap::IndexMap;
use tower_fanout::{Policy, layers::config::Validate};
use tower_fanout_http::{
    client::{
        self, AddressPolicy, Client, ClientConfig, ClientTlsConfig, Http2, Identity, TlsVersion,
        Verify,
    },
    forward::{ForwardConfig, ForwardHeaders},
};

use super::{
    reader::{MapReader, ValueReader},
    tls::{CertFile, CertKind, ClientTlsFiles, PairFiles},
    value::{self, duration, head_size, header_name, known, size, within, word},
};

/// A downstream service.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamConfig {
    /// Its base URL.
    pub(crate) endpoint: Uri,
    /// Timeouts, retries and the other resilience settings.
    pub(crate) policy: Policy,
    /// Connection settings and response limits.
    pub(crate) client: ClientConfig,
    /// The files of the certificates in `client`.
    pub(crate) tls_files: ClientTlsFiles,
    /// Headers of the caller that are forwarded to the service.
    pub(crate) forward: ForwardHeaders,
}

pub(super) fn downstreams(
    members: Vec<(String, ValueReader<'_>)>,
    policies: &IndexMap<String, Policy>,
) -> IndexMap<String, DownstreamConfig> {
    let read = members
        .into_iter()
        .map(|(name, reader)| (name, downstream(&reader, policies)));
    read.collect()
}

fn downstream(reader: &ValueReader<'_>, policies: &IndexMap<String, Policy>) -> DownstreamConfig {
    let mut map = reader.as_map();
    let endpoint = map.get_required("endpoints", endpoint).unwrap_or_default();
    let policy = map.get("policy", |reader| known(reader, "policy", policies.keys()));
    let (client, tls_files) = client(&mut map, &endpoint);
    let config = DownstreamConfig {
        policy: policy
            .map(|name| policies[&name].clone())
            .unwrap_or_default(),
        client,
        tls_files,
        forward: forward(&mut map),
        endpoint,
    };
    reader.check(&config.client);
    map.not_built(&[("health_check", "health checking")]);
    map.finish();
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

/// Reads the connection settings and response limits of the service at `endpoint`, and the files of its
/// certificates.
fn client(map: &mut MapReader<'_>, endpoint: &Uri) -> (ClientConfig, ClientTlsFiles) {
    let (mut client, mut files) = (ClientConfig::default(), ClientTlsFiles::default());
    map.set("max_response", &mut client.max_response, size);
    map.set("max_head", &mut client.max_head, head_size);
    map.set("connect_timeout", &mut client.connect_timeout, duration);
    map.set("idle_timeout", &mut client.idle_timeout, duration);
    client.max_connections = map.get("max_connections", |reader| within(reader, 1, 1_000_000));
    let words = [
        ("public", AddressPolicy::Public),
        ("private", AddressPolicy::Private),
        ("link_local", AddressPolicy::LinkLocal),
    ];
    map.set("allow_addresses", &mut client.allow_addresses, |reader| {
        word(reader, &words)
    });
    let plain = !is_https(endpoint);
    if let Some(reader) = map.take("tls") {
        (client.tls, files) = tls(&reader);
        if plain {
            reader.error(
                "invalid",
                "tls requires an endpoint that begins with https://",
            );
        }
    }
    client.http2 = http2(map, plain);
    (client, files)
}

/// Reads the HTTP/2 mode. Without TLS (`plain`), ALPN is an error, as it is part of the TLS handshake.
fn http2(map: &mut MapReader<'_>, plain: bool) -> Http2 {
    let connections = map.take("http2_connections");
    let given = connections.is_some();
    let connections = connections
        .and_then(|reader| within(&reader, 1, 64))
        .unwrap_or(1);
    let words = [
        ("off", Http2::Off),
        ("prior_knowledge", Http2::PriorKnowledge { connections }),
        ("alpn", Http2::Alpn { connections }),
    ];
    let reader = map.take("http2");
    let http2 = reader.as_ref().and_then(|reader| word(reader, &words));
    let http2 = http2.unwrap_or_default();
    if let (Some(reader), Http2::Alpn { .. }, true) = (reader, http2, plain) {
        reader.error_with_help(
            "invalid",
            "http2: alpn requires TLS",
            Some("set http2: prior_knowledge, or an endpoint that begins with https://".into()),
        );
    } else if given && http2 == Http2::Off {
        map.reader.at("http2_connections").warning(
            "no_effect",
            "http2_connections has no effect with http2: off",
            "set http2, or remove http2_connections",
        );
    }
    http2
}

/// Reads the trusted CA, the client certificate and the other TLS options.
fn tls(reader: &ValueReader<'_>) -> (ClientTlsConfig, ClientTlsFiles) {
    let mut tls = ClientTlsConfig::default();
    let mut map = reader.as_map();
    let ca = map.get("ca_file", |reader| {
        let loaded = CertFile::load(reader, CertKind::Authorities);
        loaded.filter(|(_, pem)| is_ca(reader, pem))
    });
    let pair = match (map.take("cert_file"), map.take("key_file")) {
        (Some(cert), Some(key)) => PairFiles::load(&cert, &key),
        (None, None) => None,
        _ => {
            reader.error(
                "missing",
                "\"cert_file\" and \"key_file\" must be set together",
            );
            None
        }
    };
    tls.server_name = map.get("server_name", ValueReader::text);
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    map.set("min_version", &mut tls.min_version, |reader| {
        word(reader, &versions)
    });
    map.set("verify", &mut tls.verify, verify);
    map.finish();
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

fn verify(reader: &ValueReader<'_>) -> Option<Verify> {
    let words = [
        ("full", Verify::Full),
        ("dangerously_skip", Verify::DangerouslySkip),
    ];
    let verify = word(reader, &words);
    if verify == Some(Verify::DangerouslySkip) {
        reader.warning(
            "not_verified",
            "certificates are not verified: an attacker on the network can read and change the traffic",
            "remove this key, and set ca_file to the CA to trust",
        );
    }
    verify
}

/// Reads the caller's headers to forward. Credentials are listed under a key of their own.
fn forward(map: &mut MapReader<'_>) -> ForwardHeaders {
    let mut forward = ForwardConfig::default();
    for (key, is_credential) in [("forward_headers", false), ("forward_credentials", true)] {
        for (reader, name) in map.each(key, |reader| Some((reader.clone(), header_name(reader)?))) {
            // Adds the headers one by one, so that an error is reported at the header that causes it.
            let mut with = forward.clone();
            if is_credential {
                with.credentials.push(name);
            } else {
                with.headers.push(name);
            }
            match with.errors().first() {
                None => forward = with,
                Some(problem) => reader.error("invalid", problem.message()),
            }
        }
    }
    ForwardHeaders::new(forward).unwrap_or_default()
}

fn endpoint(reader: &ValueReader<'_>) -> Option<Uri> {
    let endpoints = reader.list();
    match endpoints.as_slice() {
        [] => reader.error("missing", "expected one endpoint, got none"),
        [_] => {}
        [_, second, ..] => second.not_built("load balancing between several endpoints"),
    }
    let mut map = endpoints.first()?.as_map();
    if let Some(weight) = map.take("weight") {
        weight.not_built("endpoint weighting");
    }
    let url = map.require("url");
    map.finish();
    let reader = url?;
    let uri = value::url(&reader, "http://users:8080")?;
    // A well-formed URL may have parts that an endpoint must not have.
    client::validate_endpoint(&uri)
        .map_err(|error| value::bad_url(&reader, error.message()))
        .ok()?;
    Some(uri)
}
