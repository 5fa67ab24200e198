//! Reads the file as a whole, and what is said once in it.

use indexmap::IndexMap;
use tower_fanout_http::trace::TraceLayer;

use super::{
    Config, LogFormat, Logs, Report, Tier, auth,
    diagnostic::Diagnostic,
    downstream, plan, policy,
    reader::{Diagnostics, ValueReader},
    server,
    tree::{Kind, Tree},
    value::{is_on_unless_off, within},
};

/// Reads `text`; what is wrong with it is collected from top to bottom.
pub(super) fn config(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Report> {
    let sink = Diagnostics::default();
    let refuse = |(place, message)| {
        let syntax = Diagnostic::error("syntax", place, message);
        Report::new(name, text, vec![syntax])
    };
    let mut tree = Tree::parse(text).map_err(refuse)?;
    tree.interpolate(env, &mut |place, message| {
        sink.add(Diagnostic::error("variable", place, message));
    });
    let unset = sink.places();
    let config = root(&ValueReader::root(&tree, &sink));
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

fn root(field: &ValueReader<'_>) -> Config {
    let mut root = field.section();
    if let Some(version) = root.require("version")
        && version.get::<u64>().is_some_and(|version| version != 1)
    {
        version.error("version", "the version of this format is 1");
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
            .all(|key| field.at(key).is_sound()),
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

/// What is logged, whose traces are gone on with, and whether answers say how long their services
/// took.
fn telemetry(field: Option<ValueReader<'_>>) -> (Logs, TraceLayer, bool) {
    let mut logs = Logs {
        format: LogFormat::Auto,
        level: "info".into(),
    };
    let mut trace = TraceLayer::new();
    let Some(field) = field else {
        return (logs, trace, false);
    };
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
    if let Some(field) = section.take("tracing") {
        trace = tracing(&field);
    }
    let server_timing = section.is_on("server_timing");
    section.finish();
    (logs, trace, server_timing)
}

fn tracing(field: &ValueReader<'_>) -> TraceLayer {
    let mut section = field.section();
    let trust = is_on_unless_off(section.take("trust"));
    let baggage = section.take("baggage");
    section.not_built(&[("otlp", "exporting traces"), ("sample", "exporting traces")]);
    section.finish();
    let Some(baggage) = baggage.filter(|_| trust) else {
        return if trust {
            TraceLayer::new()
        } else {
            TraceLayer::untrusting()
        };
    };
    TraceLayer::new().baggage(baggage.texts())
}

fn level(field: &ValueReader<'_>) -> Option<String> {
    let level = field.text()?;
    match level.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Some(level),
        Err(_) => {
            field.error("invalid", "this is no level such as \"info\", nor a filter");
            None
        }
    }
}

fn tiers(members: Vec<(String, ValueReader<'_>)>) -> IndexMap<String, Tier> {
    members
        .into_iter()
        .map(|(name, field)| (name, tier(&field)))
        .collect()
}

fn tier(field: &ValueReader<'_>) -> Tier {
    let mut section = field.section();
    section.not_built(&[("rate", "rate limiting"), ("burst", "rate limiting")]);
    let max_concurrency = section
        .take("max_concurrency")
        .and_then(|field| within(&field, 1, 10));
    section.finish();
    Tier { max_concurrency }
}
