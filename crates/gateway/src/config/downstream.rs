//! Reads the services that are asked.

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
    tls::pair,
    value::{file, header_name, known, size, size_from, span, within, word},
};

/// The least that a head may be given, in bytes.
const MIN_HEAD: usize = 8 << 10;

/// A service that is asked.
#[derive(Clone, Debug)]
pub(crate) struct DownstreamConfig {
    /// Where it is.
    pub(crate) endpoint: Uri,
    /// How it is treated.
    pub(crate) policy: Policy,
    /// How it is connected to, and what it may send.
    pub(crate) client: ClientConfig,
    /// Which headers of a caller it sees.
    pub(crate) forward: ForwardHeaders,
}

pub(super) fn downstreams(
    members: Vec<(String, ValueReader<'_>)>,
    policies: &IndexMap<String, Policy>,
) -> IndexMap<String, DownstreamConfig> {
    let read = members
        .into_iter()
        .map(|(name, field)| (name, downstream(&field, policies)));
    read.collect()
}

fn downstream(field: &ValueReader<'_>, policies: &IndexMap<String, Policy>) -> DownstreamConfig {
    let mut section = field.section();
    let endpoint = section
        .require("endpoints")
        .and_then(|field| endpoint(&field))
        .unwrap_or_default();
    let policy = section
        .take("policy")
        .and_then(|field| known(&field, "policy", policies.keys()));
    let config = DownstreamConfig {
        policy: policy
            .map(|name| policies[&name].clone())
            .unwrap_or_default(),
        client: client(&mut section, &endpoint),
        forward: forward(&mut section),
        endpoint,
    };
    field.check(&config.client);
    section.not_built(&[("health_check", "checking health")]);
    section.finish();
    if is_https(&config.endpoint)
        && field.is_sound()
        && let Err(error) = Client::new(&config.endpoint, config.client.clone())
    {
        // All else that is given for TLS was looked at by itself.
        let named = config.client.tls.server_name.is_some();
        let at = if named {
            "tls.server_name"
        } else {
            "endpoints"
        };
        field.at(at).error("invalid", error.message());
    }
    config
}

fn is_https(endpoint: &Uri) -> bool {
    endpoint.scheme() == Some(&Scheme::HTTPS)
}

/// How the service at `endpoint` is connected to, and what it may send.
fn client(section: &mut MapReader<'_>, endpoint: &Uri) -> ClientConfig {
    let mut client = ClientConfig::default();
    client.max_response = size(section.take("max_response"), client.max_response);
    client.max_head = size_from(section.take("max_head"), MIN_HEAD, client.max_head);
    client.connect_timeout = span(section.take("connect_timeout"), client.connect_timeout);
    client.idle_timeout = span(section.take("idle_timeout"), client.idle_timeout);
    client.max_connections = section
        .take("max_connections")
        .and_then(|field| within(&field, 1, 1_000_000));
    let words = [
        ("public", AddressPolicy::Public),
        ("private", AddressPolicy::Private),
        ("link_local", AddressPolicy::LinkLocal),
    ];
    if let Some(allow_addresses) = section
        .take("allow_addresses")
        .and_then(|field| word(&field, &words))
    {
        client.allow_addresses = allow_addresses;
    }
    let plain = !is_https(endpoint);
    if let Some(field) = section.take("tls") {
        client.tls = tls(&field);
        if plain {
            field.error("invalid", "an endpoint with TLS begins with https://");
        }
    }
    client.http2 = http2(section, plain);
    client
}

/// Whether HTTP/2 is spoken; to a service without TLS only if nobody has to be asked.
fn http2(section: &mut MapReader<'_>, plain: bool) -> Http2 {
    let connections = section.take("http2_connections");
    let given = connections.is_some();
    let connections = connections
        .and_then(|field| within(&field, 1, 64))
        .unwrap_or(1);
    let words = [
        ("off", Http2::Off),
        ("prior_knowledge", Http2::PriorKnowledge { connections }),
        ("alpn", Http2::Alpn { connections }),
    ];
    let field = section.take("http2");
    let http2 = field.as_ref().and_then(|field| word(field, &words));
    let http2 = http2.unwrap_or_default();
    if let (Some(field), Http2::Alpn { .. }, true) = (field, http2, plain) {
        field.error_with_help(
            "invalid",
            "what is spoken can only be asked with TLS",
            Some("take prior_knowledge, or an endpoint that begins with https://".into()),
        );
    } else if given && http2 == Http2::Off {
        section.field.at("http2_connections").warning(
            "no_effect",
            "connections of HTTP/2 are counted only where it is spoken",
            "set http2, or leave out http2_connections",
        );
    }
    http2
}

/// Whom to believe, and who we are.
fn tls(field: &ValueReader<'_>) -> ClientTlsConfig {
    let mut tls = ClientTlsConfig::default();
    let mut section = field.section();
    if let Some(field) = section.take("ca_file") {
        tls.ca = file(&field).filter(|pem| is_ca(&field, pem));
    }
    tls.identity = match (section.take("cert_file"), section.take("key_file")) {
        (Some(cert), Some(key)) => pair(&cert, &key).map(|(chain, key)| Identity::new(chain, key)),
        (None, None) => None,
        _ => {
            field.error("missing", "\"cert_file\" and \"key_file\" go together");
            None
        }
    };
    tls.server_name = section.take("server_name").and_then(|field| field.text());
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let version = section.take("min_version");
    tls.min_version = version
        .and_then(|field| word(&field, &versions))
        .unwrap_or_default();
    if let Some(field) = section.take("verify") {
        tls.verify = verify(&field);
    }
    section.finish();
    tls
}

/// Whether `pem` are certificates that can be believed.
fn is_ca(field: &ValueReader<'_>, pem: &[u8]) -> bool {
    let mut config = ClientConfig::default();
    config.tls.ca = Some(pem.to_vec());
    let client = Client::new(&Uri::from_static("https://localhost"), config);
    client
        .map_err(|error| field.error("invalid", error.message()))
        .is_ok()
}

fn verify(field: &ValueReader<'_>) -> Verify {
    let words = [
        ("full", Verify::Full),
        ("dangerously_skip", Verify::DangerouslySkip),
    ];
    let verify = word(field, &words).unwrap_or_default();
    if verify == Verify::DangerouslySkip {
        field.warning(
            "not_verified",
            "whoever is in between can read and change everything",
            "name the certificates to believe with ca_file",
        );
    }
    verify
}

/// The headers of a caller that are listed, those that are credentials by their own word.
fn forward(section: &mut MapReader<'_>) -> ForwardHeaders {
    let mut forward = ForwardConfig::default();
    for (key, is_credential) in [("forward_headers", false), ("forward_credentials", true)] {
        for field in section.items(key) {
            let Some(name) = header_name(&field) else {
                continue;
            };
            let mut with = forward.clone();
            if is_credential {
                with.credentials.push(name);
            } else {
                with.headers.push(name);
            }
            match with.errors().first() {
                None => forward = with,
                Some(problem) => field.error("invalid", problem.message()),
            }
        }
    }
    ForwardHeaders::new(forward).unwrap_or_default()
}

fn endpoint(field: &ValueReader<'_>) -> Option<Uri> {
    let endpoints = field.list();
    match endpoints.as_slice() {
        [] => field.error("missing", "a downstream has an endpoint"),
        [_] => {}
        [_, second, ..] => second.not_built("balancing between several endpoints"),
    }
    let mut section = endpoints.first()?.section();
    if let Some(weight) = section.take("weight") {
        weight.not_built("weighing endpoints");
    }
    let url = section.require("url");
    section.finish();
    let url = url?;
    let uri = url.text()?.parse::<Uri>();
    match uri
        .as_ref()
        .map_err(|_| "this is no address such as \"http://users:8080\"".to_owned())
        .map(client::check)
    {
        Ok(Ok(_)) => return uri.ok(),
        Ok(Err(error)) => url.error("invalid", error.message()),
        Err(error) => url.error("invalid", error),
    }
    None
}
