//! Reads the file as a whole, and its top-level parts.

use indexmap::IndexMap;
use tower_fanout_http::trace::TraceLayer;

use super::{
    Config, Logs, Report, Tier, auth,
    diagnostic::{Diagnostic, Severity},
    downstream, file, plan, policy,
    reader::{Diagnostics, ValueReader},
    server,
    tree::{Kind, Tree},
    validate::reach::check_unused,
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
    let telemetry = root.get("telemetry", ValueReader::read::<file::Telemetry>);
    let telemetry = telemetry.unwrap_or_default();
    let tiers = root.get("tiers", ValueReader::read::<IndexMap<String, file::Tier>>);
    let tiers: IndexMap<_, _> = (tiers.unwrap_or_default().into_iter())
        .map(|(name, read)| (name, tier(&read)))
        .collect();
    let jwt = auth::auth(root.take("auth"), &tiers);
    let policies = root
        .take("policies")
        .as_ref()
        .map(policy::policies)
        .unwrap_or_default();
    let downstreams = (root.take("downstreams"))
        .map(|reader| downstream::downstreams(&reader, &policies))
        .unwrap_or_default();
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
        logs: Logs {
            format: telemetry.logs.format,
            level: telemetry.logs.level.0.0,
        },
        trace: trace(telemetry.tracing),
        server_timing: telemetry.server_timing,
        jwt,
        tiers,
        downstreams,
        routes,
        table,
        orchestrate: orchestrate.flatten(),
        warnings: Report::new("", "", Vec::new()),
    }
}

fn trace(tracing: file::Tracing) -> TraceLayer {
    let layer = TraceLayer::new().trust(tracing.trust);
    // Without trust, the layer ignores the list of baggage keys, as it does all incoming context.
    match tracing.baggage {
        Some(keys) => layer.baggage(keys),
        None => layer,
    }
}

fn tier(tier: &file::Tier) -> Tier {
    Tier {
        max_concurrency: tier.max_concurrency,
    }
}
