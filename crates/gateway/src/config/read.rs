//! Reads the file as a whole, and its top-level parts.

use tower_fanout_http::trace::TraceLayer;

use super::{
    Config, Logs, Report, Tier, auth,
    diagnostic::{Diagnostic, Severity},
    downstream,
    file::{self, File},
    plan, policy,
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
    let file: File = reader.read().unwrap_or_default();
    if file.version.is_some_and(|version| version != 1) {
        let version = reader.at("version");
        let got = version.tree.as_written();
        version.error("version", format!("expected version 1, got {got}"));
    }
    let server = server::server(file.server, &reader.at("server"));
    let tiers = file
        .tiers
        .iter()
        .map(|(name, file)| (name.clone(), tier(file)));
    let tiers = tiers.collect();
    let jwt = auth::auth(file.auth, reader, &tiers);
    let policies = policy::policies(file.policies, reader);
    let downstreams = downstream::downstreams(file.downstreams, reader, &policies);
    let names = plan::Names {
        downstreams: &downstreams,
        jwt: &jwt,
        tiers: &tiers,
        sound: ["policies", "downstreams"]
            .iter()
            .all(|key| reader.at(key).is_sound()),
        has_cors: server.cors.is_some(),
    };
    let has_api = reader.has("orchestrate");
    // An empty list of routes serves nothing either.
    let has_routes = reader.has("routes")
        && !matches!(&reader.at("routes").tree.kind, Kind::List(items) if items.is_empty());
    if reader.tree.members().is_some() && !has_api && !has_routes {
        reader.error(
            "missing",
            "nothing to serve: expected \"routes\" or \"orchestrate\"",
        );
    }
    let (routes, table) = plan::routes(&file.routes, reader, &names, has_api);
    let orchestrate = file.orchestrate.as_ref();
    let orchestrate = orchestrate
        .and_then(|file| plan::plan(file, &reader.at("orchestrate"), &names, Some(&[]), true));
    let telemetry = file.telemetry;
    Config {
        server,
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
        orchestrate,
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
