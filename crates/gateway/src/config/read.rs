//! Reads everything but plans.

use std::{net::SocketAddr, time::Duration};

use http::Uri;
use indexmap::IndexMap;
use serde::Deserialize;
use tower_fanout::{Policy, layers::policy::duration, policy::PolicySettings};
use tower_fanout_http::{
    client,
    jwt::{Algorithm, Key, KeySet, Rules},
};

use super::{
    Config, DownstreamConfig, Jwt, KeyConfig, LogFormat, Logs, Report, Secret, Server, Tier,
    diagnostic::Diagnostic,
    plan,
    reader::{Field, Section, Sink, nearest},
    tree::{Kind, Tree},
};

/// A duration with its unit.
#[derive(Deserialize)]
struct Span(#[serde(with = "duration")] Duration);

/// Reads `text`; what is wrong with it is collected from top to bottom.
pub(super) fn config(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Report> {
    let sink = Sink::default();
    let refuse = |(place, message)| {
        let syntax = Diagnostic::error("syntax", place, message);
        Report::new(name, text, vec![syntax])
    };
    let mut tree = Tree::parse(text).map_err(refuse)?;
    tree.interpolate(env, &mut |place, message| {
        sink.add(Diagnostic::error("variable", place, message));
    });
    let unset = sink.places();
    let config = root(&Field::root(&tree, &sink));
    let mut diagnostics = sink.into_inner();
    // A value whose variable is missing has no other fault.
    diagnostics.retain(|other| other.code == "variable" || !unset.contains(&other.place));
    let report = Report::new(name, text, diagnostics);
    if report.has_errors() {
        return Err(report);
    }
    Ok(Config {
        warnings: report,
        ..config
    })
}

fn root(field: &Field<'_>) -> Config {
    let mut root = field.section();
    if let Some(version) = root.require("version")
        && version.get::<u64>().is_some_and(|version| version != 1)
    {
        version.error("version", "the version of this format is 1");
    }
    let server = server(root.take("server"));
    let logs = telemetry(root.take("telemetry"));
    let tiers = tiers(root.take("tiers"));
    let jwt = auth(root.take("auth"), &tiers);
    let policies = policies(root.take("policies"));
    let downstreams = downstreams(root.take("downstreams"), &policies);
    let names = plan::Names {
        downstreams: &downstreams,
        jwt: &jwt,
        tiers: &tiers,
    };
    let given = root.take("routes");
    let orchestrate = root.take("orchestrate");
    let is_empty = |kind: &Kind| matches!(kind, Kind::List(items) if items.is_empty());
    if matches!(field.tree.kind, Kind::Map(_))
        && orchestrate.is_none()
        && (given.as_ref()).is_none_or(|routes| is_empty(&routes.tree.kind))
    {
        field.error(
            "missing",
            "there is nothing to serve: neither \"routes\" nor \"orchestrate\"",
        );
    }
    let routes = plan::routes(given, &names);
    let orchestrate = orchestrate.map(|field| plan::orchestrate(&field, &names));
    root.finish();
    Config {
        server,
        logs,
        jwt,
        tiers,
        downstreams,
        routes,
        orchestrate: orchestrate.flatten(),
        warnings: Report::new("", "", Vec::new()),
    }
}

pub(super) fn span(field: Option<Field<'_>>, default: Duration) -> Duration {
    field
        .and_then(|field| field.get())
        .map_or(default, |Span(span)| span)
}

/// A size such as `"1MiB"`, in bytes.
fn size(field: Option<Field<'_>>, default: usize) -> usize {
    let Some(field) = field else { return default };
    let Some(text) = field.text() else {
        return default;
    };
    let units = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    let split = units
        .into_iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let bytes =
        split.and_then(|(number, bytes)| number.trim().parse::<usize>().ok()?.checked_mul(bytes));
    match bytes {
        Some(bytes @ 1..) => bytes,
        _ => {
            field.error("invalid", "this is no size such as \"64KiB\" or \"1MiB\"");
            default
        }
    }
}

fn server(field: Option<Field<'_>>) -> Server {
    let mut server = Server {
        listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
        admin: SocketAddr::from(([127, 0, 0, 1], 9901)),
        max_body: 1 << 20,
        drain_delay: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(30),
    };
    let Some(field) = field else { return server };
    let mut section = field.section();
    server.listen = address(section.take("listen"), server.listen);
    let admin = section.take("admin");
    server.admin = address(admin.clone(), server.admin);
    if let Some(admin) = admin {
        if server.admin == server.listen && server.admin.port() != 0 {
            admin.error(
                "invalid",
                format!("listen and admin are both {}", server.admin),
            );
        } else if !server.admin.ip().is_loopback() {
            let message = format!(
                "{} can be reached from outside, and asks for no token",
                server.admin
            );
            admin.warning(
                "open_admin",
                message,
                "listen on 127.0.0.1, or guard it by other means",
            );
        }
    }
    server.max_body = size(section.take("max_body"), server.max_body);
    if let Some(drain) = section.take("drain") {
        let mut drain = drain.section();
        server.drain_delay = span(drain.take("delay"), server.drain_delay);
        server.drain_timeout = span(drain.take("timeout"), server.drain_timeout);
        drain.finish();
    }
    section.finish();
    server
}

fn address(field: Option<Field<'_>>, default: SocketAddr) -> SocketAddr {
    let Some(field) = field else { return default };
    match field.text().map(|text| text.parse()) {
        Some(Ok(address)) => address,
        Some(Err(_)) => {
            field.error("invalid", "this is no address such as \"0.0.0.0:8080\"");
            default
        }
        None => default,
    }
}

fn telemetry(field: Option<Field<'_>>) -> Logs {
    let mut logs = Logs {
        format: LogFormat::Auto,
        level: "info".into(),
    };
    let Some(field) = field else { return logs };
    let mut section = field.section();
    if let Some(field) = section.take("logs") {
        let mut section = field.section();
        logs.format = section
            .take("format")
            .and_then(|field| field.get())
            .unwrap_or_default();
        if let Some(level) = section.take("level").and_then(|field| level(&field)) {
            logs.level = level;
        }
        section.finish();
    }
    section.not_built(&[("tracing", "exporting traces")]);
    if let Some(timing) = section.take("server_timing")
        && timing.get() == Some(true)
    {
        timing.not_built("Server-Timing");
    }
    section.finish();
    logs
}

fn level(field: &Field<'_>) -> Option<String> {
    let level = field.text()?;
    match level.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Some(level),
        Err(_) => {
            field.error("invalid", "this is no level such as \"info\", nor a filter");
            None
        }
    }
}

fn tiers(field: Option<Field<'_>>) -> IndexMap<String, Tier> {
    let members = field.map(|field| field.named()).unwrap_or_default();
    members
        .into_iter()
        .map(|(name, field)| (name, tier(&field)))
        .collect()
}

fn tier(field: &Field<'_>) -> Tier {
    let mut section = field.section();
    section.not_built(&[("rate", "rate limiting"), ("burst", "rate limiting")]);
    let max_concurrency = section
        .take("max_concurrency")
        .and_then(|field| plan::within(&field, 1, 10));
    section.finish();
    Tier { max_concurrency }
}

fn auth(field: Option<Field<'_>>, tiers: &IndexMap<String, Tier>) -> IndexMap<String, Jwt> {
    let Some(field) = field else {
        return IndexMap::new();
    };
    let mut section = field.section();
    let members = section
        .require("jwt")
        .map(|field| field.named())
        .unwrap_or_default();
    section.finish();
    members
        .into_iter()
        .map(|(name, field)| (name, jwt(&field, tiers)))
        .collect()
}

fn jwt(field: &Field<'_>, tiers: &IndexMap<String, Tier>) -> Jwt {
    let mut section = field.section();
    let algorithms = section
        .require("algorithms")
        .map(|field| algorithms(&field))
        .unwrap_or_default();
    let keys = section
        .require("keys")
        .map(|field| keys(&field, &algorithms))
        .unwrap_or_default();
    let issuers = section
        .require("issuers")
        .map(|field| field.texts())
        .unwrap_or_default();
    let audiences = section
        .require("audiences")
        .map(|field| field.texts())
        .unwrap_or_default();
    let leeway_field = section.take("leeway");
    let leeway = span(leeway_field.clone(), Duration::from_secs(30));
    match Rules::new(issuers.clone(), audiences.clone()) {
        Err(error) => field.error("invalid", error),
        Ok(rules) => {
            if let (Some(field), Err(error)) = (leeway_field, rules.leeway(leeway)) {
                field.error("invalid", error);
            }
        }
    }
    let (tier_claim, default_tier) = tier_claim(section.take("tier"), tiers);
    let roles_claim = section.take("roles").and_then(|field| {
        let mut section = field.section();
        let claim = section.require("claim").and_then(|field| field.text());
        section.finish();
        claim
    });
    section.finish();
    Jwt {
        keys,
        issuers,
        audiences,
        leeway,
        tier_claim,
        default_tier,
        roles_claim,
    }
}

fn tier_claim(
    field: Option<Field<'_>>,
    tiers: &IndexMap<String, Tier>,
) -> (Option<String>, String) {
    let lowest = tiers
        .first()
        .map_or_else(|| "default".to_owned(), |(name, _)| name.clone());
    let Some(field) = field else {
        return (None, lowest);
    };
    let mut section = field.section();
    let claim = section.require("claim").and_then(|field| field.text());
    let default = section
        .take("default")
        .and_then(|field| plan::known(&field, "tier", tiers.keys()))
        .unwrap_or(lowest);
    section.finish();
    (claim, default)
}

/// The allowed algorithms; secrets and public keys are not mixed.
fn algorithms(field: &Field<'_>) -> Vec<Algorithm> {
    let known = [
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
        "ES384", "EdDSA",
    ];
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for item in field.list() {
        let Some(name) = item.text() else { continue };
        match name.parse() {
            Ok(algorithm) if known.contains(&name.as_str()) => algorithms.push(algorithm),
            _ => {
                let help = nearest(&name, known).map(|known| format!("did you mean \"{known}\"?"));
                item.error_with_help("unknown_algorithm", "there is no such algorithm", help);
            }
        }
    }
    let symmetric = algorithms
        .iter()
        .filter(|algorithm| is_symmetric(**algorithm))
        .count();
    if symmetric != 0 && symmetric != algorithms.len() {
        field.error(
            "mixed_algorithms",
            "algorithms for secrets and for public keys cannot be allowed together",
        );
    }
    algorithms
}

fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    )
}

fn keys(field: &Field<'_>, algorithms: &[Algorithm]) -> Vec<KeyConfig> {
    let items = field.list();
    let read: Vec<_> = items.iter().map(|item| key(item, algorithms)).collect();
    let (keys, configs): (Vec<_>, Vec<_>) = read.into_iter().flatten().unzip();
    if keys.len() == items.len()
        && let Err(error) = KeySet::new(keys)
    {
        field.error("invalid", error);
    }
    configs
}

/// One key; what is wrong with it is said here, once and for all.
fn key(field: &Field<'_>, algorithms: &[Algorithm]) -> Option<(Key, KeyConfig)> {
    let mut section = field.section();
    let kid = section.take("kid").and_then(|field| field.text());
    let declared = section.take("algorithm").and_then(|field| {
        let name = field.text()?;
        let algorithm = name
            .parse()
            .ok()
            .filter(|algorithm| algorithms.contains(algorithm));
        if algorithm.is_none() {
            field.error("invalid", "this algorithm is not among \"algorithms\"");
        }
        algorithm
    });
    let fetched = section.take("jwks");
    let material = match &fetched {
        Some(jwks) => {
            jwks.not_built("fetching keys");
            None
        }
        None => material(&mut section),
    };
    section.finish();
    let (material, from_secret, at) = material?;
    let fits = |algorithm: &&Algorithm| {
        is_symmetric(**algorithm) == from_secret && make(**algorithm, &material).is_ok()
    };
    let mut fitting = algorithms.iter().filter(fits);
    let algorithm = match (declared, fitting.next(), fitting.next()) {
        (Some(declared), _, _) => declared,
        (None, Some(only), None) => *only,
        (None, Some(_), Some(_)) => {
            at.error_with_help(
                "ambiguous_key",
                "the key fits several algorithms",
                Some("name one with \"algorithm\"".into()),
            );
            return None;
        }
        (None, None, _) => {
            let why = algorithms
                .iter()
                .find_map(|algorithm| make(*algorithm, &material).err());
            at.error(
                "invalid",
                why.map_or_else(
                    || "there is no algorithm for it".to_owned(),
                    |why| why.to_string(),
                ),
            );
            return None;
        }
    };
    let config = KeyConfig {
        algorithm,
        kid,
        material,
    };
    let key = config.key().map_err(|error| at.error("invalid", error));
    Some((key.ok()?, config))
}

/// The key for `algorithm`.
fn make(algorithm: Algorithm, material: &Secret) -> Result<Key, tower_fanout_http::jwt::KeyError> {
    if is_symmetric(algorithm) {
        Key::from_secret(algorithm, material.expose())
    } else {
        Key::from_pem(algorithm, material.expose())
    }
}

impl KeyConfig {
    /// The key itself.
    ///
    /// # Errors
    /// It is not one for its algorithm.
    pub fn key(&self) -> Result<Key, tower_fanout_http::jwt::KeyError> {
        let key = make(self.algorithm, &self.material)?;
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid),
            None => key,
        })
    }
}

/// The secret or the PEM of a key, and whether it is a secret.
fn material<'t>(section: &mut Section<'t>) -> Option<(Secret, bool, Field<'t>)> {
    let sources = [
        ("secret", true, false),
        ("secret_file", true, true),
        ("pem_file", false, true),
    ];
    let mut given = Vec::new();
    for (key, is_secret, is_file) in sources {
        if let Some(field) = section.take(key) {
            given.push((field, is_secret, is_file));
        }
    }
    if given.len() > 1 {
        section.field.error("invalid", "a key comes from one place");
    }
    let Some((field, is_secret, is_file)) = given.into_iter().next() else {
        section.field.error(
            "missing",
            "a key is a \"secret\", a \"secret_file\" or a \"pem_file\"",
        );
        return None;
    };
    let text = field.text()?;
    if !is_file {
        return Some((Secret::new(text), is_secret, field));
    }
    match std::fs::read(&text) {
        // An editor's last line break is no part of a secret.
        Ok(bytes) if is_secret => Some((Secret::new(bytes.trim_ascii_end()), is_secret, field)),
        Ok(bytes) => Some((Secret::new(bytes), is_secret, field)),
        Err(error) => {
            field.error("unreadable", format!("the file cannot be read: {error}"));
            None
        }
    }
}

fn policies(field: Option<Field<'_>>) -> IndexMap<String, Policy> {
    let members = field.map(|field| field.named()).unwrap_or_default();
    members
        .into_iter()
        .map(|(name, field)| (name, policy(&field)))
        .collect()
}

fn policy(field: &Field<'_>) -> Policy {
    let mut settings = PolicySettings::default();
    let mut section = field.section();
    if let Some(field) = section.take("total_timeout") {
        settings.total_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("attempt_timeout") {
        settings.attempt_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("retry") {
        settings.retry = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("circuit_breaker") {
        settings.circuit_breaker = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("concurrency") {
        settings.concurrency = unless_off(&field, Field::settings);
    }
    section.finish();
    if field.check(&settings) {
        Policy::new(settings).unwrap_or_default()
    } else {
        Policy::default()
    }
}

/// A part of a policy, which the word `off` turns off.
fn unless_off<'t, T>(field: &Field<'t>, read: impl FnOnce(&Field<'t>) -> Option<T>) -> Option<T> {
    (!field.is_word("off")).then(|| read(field)).flatten()
}

fn downstreams(
    field: Option<Field<'_>>,
    policies: &IndexMap<String, Policy>,
) -> IndexMap<String, DownstreamConfig> {
    let members = field.map(|field| field.named()).unwrap_or_default();
    let read = members
        .into_iter()
        .map(|(name, field)| (name, downstream(&field, policies)));
    read.collect()
}

fn downstream(field: &Field<'_>, policies: &IndexMap<String, Policy>) -> DownstreamConfig {
    let mut section = field.section();
    let endpoint = section
        .require("endpoints")
        .and_then(|field| endpoint(&field))
        .unwrap_or_default();
    let policy = section
        .take("policy")
        .and_then(|field| plan::known(&field, "policy", policies.keys()));
    let config = DownstreamConfig {
        endpoint,
        policy: policy
            .map(|name| policies[&name].clone())
            .unwrap_or_default(),
        max_response: size(section.take("max_response"), 2 << 20),
        connect_timeout: span(section.take("connect_timeout"), Duration::from_secs(1)),
    };
    section.not_built(&[
        ("health_check", "checking health"),
        ("tls", "TLS to downstreams"),
    ]);
    section.finish();
    config
}

fn endpoint(field: &Field<'_>) -> Option<Uri> {
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
        Ok(Err(error)) => url.error("invalid", error),
        Err(error) => url.error("invalid", error),
    }
    None
}
