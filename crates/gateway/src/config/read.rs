//! Reads the file as a whole, and its top-level parts.

use indexmap::IndexMap;
use tower_fanout_http::trace::TraceLayer;
use tracing_subscriber::EnvFilter;

use super::{
    Config, LogFormat, Logs, Report, Tier, auth,
    diagnostic::{Diagnostic, Severity},
    downstream, plan, policy,
    reader::{Diagnostics, ValueReader},
    server,
    tree::{Kind, Tree},
    validate::reach::check_unused,
    value::{within, word},
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
        let variable = Diagnostic::error("variable", position, message);
        diagnostics.borrow_mut().push(variable);
    });
    let unset: Vec<_> = (diagnostics.borrow().iter())
        .map(|variable| variable.position)
        .collect();
    let reader = ValueReader::root(&tree, &diagnostics);
    reader.report_duplicates();
    let config = root(&reader);
    let is_error = |one: &Diagnostic| one.severity == Severity::Error;
    // Errors leave out nodes, and what those use.
    if !diagnostics.borrow().iter().any(is_error) {
        check_unused(&reader, &config);
    }
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
    let server = root.take("server").as_ref().map(server::server);
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
        has_cors: (server.as_ref()).is_some_and(|server| server.cors.is_some()),
    };
    let given = root.take("routes");
    let orchestrate = root.take("orchestrate");
    let is_empty = |kind: &Kind| matches!(kind, Kind::List(items) if items.is_empty());
    if reader.tree.members().is_some()
        && orchestrate.is_none()
        // An empty list of routes serves nothing either.
        && (given.as_ref()).is_none_or(|routes| is_empty(&routes.tree.kind))
    {
        reader.error(
            "missing",
            "nothing to serve: expected \"routes\" or \"orchestrate\"",
        );
    }
    let (routes, table) = plan::routes(given, &names, orchestrate.is_some());
    let orchestrate = orchestrate.map(|reader| plan::orchestrate(&reader, &names));
    root.finish();
    Config {
        server: server.unwrap_or_default(),
        logs,
        trace,
        server_timing,
        jwt,
        tiers,
        downstreams,
        routes,
        table,
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
        map.set("format", &mut logs.format, ValueReader::get);
        map.set("level", &mut logs.level, level);
        map.finish();
    }
    map.set("tracing", &mut trace, |reader| Some(tracing(reader)));
    let server_timing = map.is_on("server_timing");
    map.finish();
    (logs, trace, server_timing)
}

fn tracing(reader: &ValueReader<'_>) -> TraceLayer {
    let mut map = reader.as_map();
    let trust = map.get("trust", ValueReader::get).unwrap_or(true);
    let baggage = map.get("baggage", |reader| Some(reader.each(ValueReader::text)));
    map.not_built(&[("otlp", "trace export"), ("sample", "trace export")]);
    map.finish();
    let layer = TraceLayer::new().trust(trust);
    // Without trust, the layer ignores the list of baggage keys, as it does all incoming context.
    match baggage {
        Some(keys) => layer.baggage(keys),
        None => layer,
    }
}

/// Reads a level, or a filter with levels of targets, such as `info,tower_fanout=debug`.
fn level(reader: &ValueReader<'_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    if !reader.text()?.contains(['=', ',']) {
        return word(reader, &LEVELS.map(|level| (level, level))).map(str::to_owned);
    }
    reader.parse("a filter such as \"info,tower_fanout=debug\"", |filter| {
        // `EnvFilter` takes a word that is no level as a target, for which it logs everything.
        let is_level = |item: &str| LEVELS.contains(&item.rsplit('=').next().unwrap_or(item));
        let sound = filter.split(',').all(is_level) && filter.parse::<EnvFilter>().is_ok();
        sound.then(|| filter.to_owned())
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
    let max_concurrency = map.get("max_concurrency", |reader| within(reader, 1, 10));
    map.finish();
    Tier { max_concurrency }
}
