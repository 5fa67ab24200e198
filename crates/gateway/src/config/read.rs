//! Reads the file as a whole, and its top-level parts.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use tower_fanout_http::trace::TraceLayer;

use super::{
    Config, Extent, Logs, Report, Tier,
    acknowledge::{acknowledgeable, take_acknowledged},
    auth,
    check::profiles,
    diagnostic::{Acknowledged, Diagnostic, Severity},
    downstream,
    file::{self, File},
    lint::lint,
    path::Paths,
    plan, policy,
    reader::{Diagnostics, ValueReader},
    redact::Redactor,
    rules::is_strict,
    schema, server,
    source::{self, Environment, Text, override_values},
    tree::{Kind, Tree},
    validate::{conditions::Outcomes, noop::check_hedges, reach::check_unused},
};

/// Parses, merges and validates the texts, of which there is at least one.
///
/// # Errors
/// Returns all diagnostics if at least one is an error.
pub(super) fn config(texts: &[Text], env: &Environment, extent: Extent) -> Result<Config, Report> {
    let (mut tree, mut found) = source::parse(texts)?;
    tree.interpolate(env);
    let overrides = override_values(&mut tree, env, texts.len());
    found.extend(overrides.diagnostics);
    let folders: Vec<_> = texts.iter().map(|text| text.folder.clone()).collect();
    let mut read = read(&tree, found, &folders, extent);
    let acknowledged = read.acknowledged.iter_mut().map(|one| &mut one.diagnostic);
    let mut all: Vec<_> = read.found.iter_mut().chain(acknowledged).collect();
    let paths = Paths::new(&tree);
    for one in &mut all {
        one.path = read.redactor.path(&paths, &one.path);
    }
    let mut sources = source::sources(texts, &read.redactor, all.into_iter());
    sources.extend(overrides.sources);
    let acknowledgeable = read.acknowledgeable;
    let acknowledgeable =
        acknowledgeable.map(|(rule, path)| (rule, read.redactor.path(&paths, &path)));
    let report = Report::new(sources, read.found)
        .acknowledgeable(acknowledgeable)
        .acknowledged(read.acknowledged)
        .overridden(overrides.applied);
    if report.has_errors() {
        return Err(report);
    }
    Ok(Config {
        warnings: report,
        ..read.config
    })
}

/// A configuration that is read from a tree.
struct Read {
    /// Parts with errors are missing or have defaults.
    config: Config,
    found: Vec<Diagnostic>,
    acknowledged: Vec<Acknowledged>,
    /// Rule and path of a warning that the file could acknowledge.
    acknowledgeable: Option<(&'static str, String)>,
    redactor: Redactor,
}

/// Reads and validates the tree, of which the diagnostics in `found` are known.
fn read(tree: &Tree, found: Vec<Diagnostic>, folders: &[PathBuf], extent: Extent) -> Read {
    let diagnostics = Diagnostics::new(found);
    let reader = ValueReader::root(tree, &diagnostics).in_folders(folders);
    let (config, acknowledged) = validated(&reader, &diagnostics, extent);
    let found = diagnostics.borrow().clone();
    let acknowledgeable = acknowledgeable(&reader, &found);
    Read {
        config,
        acknowledged,
        acknowledgeable,
        found,
        redactor: diagnostics.into_redactor(tree),
    }
}

/// Reads the configuration at `reader`, and reports its mistakes to `diagnostics`. Returns the warnings that the file
/// acknowledges too. If there are errors, parts of the configuration are missing or have defaults.
fn validated(
    reader: &ValueReader<'_>,
    diagnostics: &Diagnostics,
    extent: Extent,
) -> (Config, Vec<Acknowledged>) {
    reader.report_duplicates();
    reader.report_ambiguous_numbers();
    let unset = reader.report_unset();
    let mut file: File = reader.read(schema::of_file()).unwrap_or_default();
    let acknowledge = std::mem::take(&mut file.acknowledge);
    let config = root(file, reader);
    // Errors of a value whose variable is missing are consequences of that, except for a type that no variable has.
    let unset: HashMap<_, _> = unset.into_iter().collect();
    let is_consequence = |one: &Diagnostic| one.code != "type" && unset.contains_key(&one.position);
    let is_excused = |one: &Diagnostic| extent.allow_missing_env && is_consequence(one);
    let is_error = |one: &Diagnostic| one.severity == Severity::Error && !is_excused(one);
    let has_errors = diagnostics.borrow().iter().any(is_error);
    if !has_errors {
        // An acknowledgement of a strict rule must match a warning in each check.
        if extent.strict || !acknowledge.is_empty() {
            lint(reader, &config);
        }
        // A route that is left out may use what no other one does.
        let using = ["routes", "orchestrate", "downstreams"];
        if using.iter().all(|key| reader.at(key).is_sound()) {
            check_unused(reader, &config);
            if reader.at("policies").is_sound() {
                check_hedges(reader, &config);
            }
        }
    }
    let mut found = diagnostics.borrow_mut();
    // No variable can be where the value is no text, whatever its form is.
    let types = found.iter().filter(|one| one.code == "type");
    let types: HashSet<_> = types.map(|one| one.position).collect();
    found.retain(|one| match one.code {
        "variable" => !types.contains(&one.position),
        _ => !is_consequence(one),
    });
    if extent.allow_missing_env {
        let missing =
            |one: &Diagnostic| is_consequence(one) && unset.get(&one.position) == Some(&true);
        found.retain(|one| !missing(one));
    }
    let acknowledged = take_acknowledged(&acknowledge, reader, &mut found);
    found.retain(|one| extent.strict || !is_strict(one.code));
    (config, acknowledged)
}

fn root(file: File, reader: &ValueReader<'_>) -> Config {
    let server = server::server(file.server, &reader.at("server"));
    let tiers = file.tiers.into_iter();
    let tiers = tiers.map(|(name, file)| (name, tier(&file))).collect();
    let jwt = auth::auth(file.auth, reader, &tiers);
    let policies = policy::policies(file.policies, reader);
    let downstreams = downstream::downstreams(file.downstreams, reader, &policies);
    let names = plan::Names {
        downstreams: &downstreams,
        profiles: profiles(&downstreams),
        conditions: RefCell::default(),
        outcomes: Outcomes::default(),
        jwt: &jwt,
        tiers: &tiers,
        sound: ["policies", "downstreams"]
            .iter()
            .all(|key| reader.at(key).is_sound()),
        has_cors: server.cors.is_some(),
    };
    let has_api = reader.has("orchestrate");
    check_routes(reader, has_api);
    let (routes, table) = plan::routes(&file.routes, reader, &names, has_api);
    let orchestrate = file.orchestrate.as_ref();
    let orchestrate = orchestrate
        .and_then(|file| plan::plan(file, &reader.at("orchestrate"), &names, Some(&[]), true));
    let telemetry = file.telemetry;
    Config {
        server,
        logs: logs(telemetry.logs),
        trace: trace(telemetry.tracing),
        server_timing: telemetry.server_timing,
        jwt,
        tiers,
        downstreams,
        routes,
        table,
        orchestrate,
        warnings: Report::new(Vec::new(), Vec::new()),
    }
}

fn logs(file: file::Logs) -> Logs {
    Logs {
        format: file.format,
        level: file.level.0.0,
    }
}

/// Reports a file with neither routes nor the built-in API. An empty list of routes serves nothing either.
fn check_routes(reader: &ValueReader<'_>, has_api: bool) {
    let has_routes = reader.has("routes")
        && !matches!(&reader.at("routes").tree.kind, Kind::List(items) if items.is_empty());
    let is_misspelt = !reader.has("routes") && reader.has_unknown_list();
    if reader.tree.members().is_some() && !has_api && !has_routes && !is_misspelt {
        reader.error(
            "missing",
            "nothing to serve: expected \"routes\" or \"orchestrate\"",
        );
    }
}

fn trace(tracing: file::Tracing) -> TraceLayer {
    let layer = TraceLayer::new().trust(tracing.trust);
    // Without trust, the layer ignores the list of baggage keys, as it does all incoming context.
    match tracing.baggage {
        Some(keys) => layer.baggage(keys.into_iter().map(|key| key.0.0)),
        None => layer,
    }
}

fn tier(tier: &file::Tier) -> Tier {
    Tier {
        max_concurrency: tier.max_concurrency,
    }
}
