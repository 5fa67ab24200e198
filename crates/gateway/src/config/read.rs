//! Reads the file as a whole, and its top-level parts.

use indexmap::IndexMap;
use tower_fanout_http::trace::TraceLayer;
use tracing_subscriber::EnvFilter;

use super::{
    Config, LogFormat, Logs, Report, Tier, auth,
    diagnostic::Diagnostic,
    downstream, plan, policy,
    reader::{Diagnostics, ValueReader},
    server,
    tree::{Kind, Tree},
    value::{is_on_unless_off, within},
};

/// Parses and validates `text`.
///
/// # Errors
/// Returns all diagnostics if at least one is an error.
pub(super) fn config(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Report> {
    let diagnostics = Diagnostics::default();
    let refuse = |(position, message)| {
        let syntax = Diagnostic::error("syntax", position, message);
        Report::new(name, text, vec![syntax])
    };
    let mut tree = Tree::parse(text).map_err(refuse)?;
    tree.interpolate(env, &mut |position, message| {
        diagnostics.add(Diagnostic::error("variable", position, message));
    });
    let unset = diagnostics.positions();
    let config = root(&ValueReader::root(&tree, &diagnostics));
    let mut diagnostics = diagnostics.into_inner();
    // Errors of a value whose variable is missing are consequences of that.
    diagnostics.retain(|other| other.code == "variable" || !unset.contains(&other.position));
    let report = Report::new(name, text, diagnostics);
    if report.has_errors() {
        return Err(report);
    }
    Ok(Config {
        warnings: report,
        ..config
    })
}

fn root(reader: &ValueReader<'_>) -> Config {
    let mut root = reader.as_map();
    if let Some(version) = root.require("version")
        && version.get::<u64>().is_some_and(|version| version != 1)
    {
        version.error(
            "version",
            format!("expected version 1, got {}", version.tree.as_written()),
        );
    }
    let server = server::server(root.take("server"));
    let (logs, trace, server_timing) = telemetry(root.take("telemetry"));
    let tiers = tiers(root.members("tiers"));
    let jwt = auth::auth(root.take("auth"), &tiers);
    let policies = policy::policies(root.members("policies"));
    let downstreams = downstream::downstreams(root.members("downstreams"), &policies);
    let names = plan::Names {
        downstreams: &downstreams,
        jwt: &jwt,
        tiers: &tiers,
        sound: ["policies", "downstreams"]
            .iter()
            .all(|key| reader.at(key).is_sound()),
    };
    let given = root.take("routes");
    let orchestrate = root.take("orchestrate");
    let is_empty = |kind: &Kind| matches!(kind, Kind::List(items) if items.is_empty());
    if matches!(reader.tree.kind, Kind::Map(_))
        && orchestrate.is_none()
        // An empty list of routes serves nothing either.
        && (given.as_ref()).is_none_or(|routes| is_empty(&routes.tree.kind))
    {
        reader.error(
            "missing",
            "nothing to serve: expected \"routes\" or \"orchestrate\"",
        );
    }
    let routes = plan::routes(given, &names);
    let orchestrate = orchestrate.map(|reader| plan::orchestrate(&reader, &names));
    root.finish();
    Config {
        server,
        logs,
        trace,
        server_timing,
        jwt,
        tiers,
        downstreams,
        routes,
        orchestrate: orchestrate.flatten(),
        warnings: Report::new("", "", Vec::new()),
    }
}

/// Reads the `telemetry` part: logs, trace propagation, and the `server_timing` switch.
fn telemetry(reader: Option<ValueReader<'_>>) -> (Logs, TraceLayer, bool) {
    let mut logs = Logs {
        format: LogFormat::Auto,
        level: "info".into(),
    };
    let mut trace = TraceLayer::new();
    let Some(reader) = reader else {
        return (logs, trace, false);
    };
    let mut map = reader.as_map();
    if let Some(reader) = map.take("logs") {
        let mut map = reader.as_map();
        logs.format = map
            .take("format")
            .and_then(|reader| reader.get())
            .unwrap_or_default();
        if let Some(level) = map.take("level").and_then(|reader| level(&reader)) {
            logs.level = level;
        }
        map.finish();
    }
    if let Some(reader) = map.take("tracing") {
        trace = tracing(&reader);
    }
    let server_timing = map.is_on("server_timing");
    map.finish();
    (logs, trace, server_timing)
}

fn tracing(reader: &ValueReader<'_>) -> TraceLayer {
    let mut map = reader.as_map();
    let trust = is_on_unless_off(map.take("trust"));
    let baggage = map.take("baggage");
    map.not_built(&[("otlp", "trace export"), ("sample", "trace export")]);
    map.finish();
    let layer = TraceLayer::new().trust(trust);
    // Without trust, all incoming context is ignored, and so is the list of baggage keys.
    match baggage.filter(|_| trust) {
        Some(baggage) => layer.baggage(baggage.texts()),
        None => layer,
    }
}

fn level(reader: &ValueReader<'_>) -> Option<String> {
    reader.parse("a level such as \"info\", or a filter", |level| {
        level.parse::<EnvFilter>().ok().map(|_| level.to_owned())
    })
}

fn tiers(members: Vec<(String, ValueReader<'_>)>) -> IndexMap<String, Tier> {
    members
        .into_iter()
        .map(|(name, reader)| (name, tier(&reader)))
        .collect()
}

fn tier(reader: &ValueReader<'_>) -> Tier {
    let mut map = reader.as_map();
    map.not_built(&[("rate", "rate limiting"), ("burst", "rate limiting")]);
    let max_concurrency = map
        .take("max_concurrency")
        .and_then(|reader| within(&reader, 1, 10));
    map.finish();
    Tier { max_concurrency }
}
