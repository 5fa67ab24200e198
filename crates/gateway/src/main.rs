//! `fanout`: an HTTP gateway that answers one request from several downstream services.
//!
//! [`config`] reads the configuration file, and [`app`] builds the served routes from it.

mod app;
mod auth;
mod backend;
mod call_keys;
mod cli;
mod config;
mod demo;
mod fallback_service;
mod health;
mod inbound;
mod init;
mod log_writer;
mod normalize;
mod openapi;
mod orchestrate;
mod outgoing;
mod output;
mod problem_log;
mod query;
mod reload;
mod route;
mod router;
mod run;
mod telemetry;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};
use tower_fanout_http::jwt::{VerifierConfig, sign};

use crate::{
    app::App,
    auth::Auth,
    cli::{CheckArgs, Cli, Command, ExplainArgs, ExplainFormat, Format, TokenArgs},
    config::{Config, Environment, Extent, Jwt, KeysConfig, known_names},
    health::Readiness,
    orchestrate::explain::to_json,
    output::{print, print_error, print_usage},
    run::{Sockets, run, signals, start_workers},
};

// Tests link a crate that counts allocations, which has an allocator of its own.
#[cfg(all(feature = "mimalloc", not(test)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code if the required JWT keys are unavailable at startup: `EX_CONFIG` of `sysexits.h`.
const EX_CONFIG: u8 = 78;

type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

// The gateway serves connections on threads of their own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => execute(cli.command).await,
        Err(usage) => print_usage(usage).map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        print_error(error);
        ExitCode::FAILURE
    })
}

async fn execute(command: Command) -> Outcome {
    match command {
        Command::Run { config, workers } => serve(&config, workers).await,
        Command::Demo { listen, down } => {
            demo::demo(listen, &down).await.map(|_| ExitCode::SUCCESS)
        }
        Command::Check(args) => check(&args),
        Command::Explain(args) => explain(args),
        Command::Token(args) => token(&args),
        Command::Init { file } => {
            let (schema, file) = (init::init(&file)?, file.display());
            let schema = schema.display();
            print(&format!(
                "created {file}, and {schema} for editors\nnext: fanout check -c {file}\n"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => {
            print(&format!("{:#}\n", config::json_schema()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fanout", &mut script);
            print(&String::from_utf8_lossy(&script))
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into)
        }
    }
}

async fn serve(path: &Path, workers: Option<u16>) -> Outcome {
    let config = Config::load(path, &Environment::of_process())?;
    let flush = telemetry::log(&config.logs)?;
    for (variable, path) in config.warnings.overrides() {
        tracing::info!(path, variable, "value overridden by environment variable");
    }
    for warning in config.warnings.diagnostics() {
        tracing::warn!(path = warning.path, "{}", warning.message);
    }
    // Handlers are installed before the first fetch, so that a signal during startup is not lost.
    let signals = signals()?;
    let ready = Readiness::default();
    let app = App::new(&config, ready.clone())?;
    let auth = match Auth::start(&config).await {
        Ok(auth) => auth,
        Err(error) => {
            // The error is the last line, after the log lines that lead to it.
            drop(flush);
            print_error(error);
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    let sockets = Sockets::bind(&config.server)?;
    let workers = start_workers(workers)?;
    run(
        &app,
        &auth,
        ready,
        sockets,
        Some(workers),
        &config.server,
        signals,
    )
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Returns an error about a name that is not in `known`.
fn unknown<'n>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'n (impl AsRef<str> + ?Sized + 'n)>,
) -> String {
    let help = known_names(name, known.map(AsRef::as_ref));
    let help = help.unwrap_or_else(|| format!("the configuration has no {kind}"));
    format!("unknown {kind} \"{name}\"; {help}")
}

/// Prints all diagnostics of a configuration. Fails if one of them is an error, or if there are any and the check is
/// strict.
fn check(args: &CheckArgs) -> Outcome {
    let extent = Extent {
        strict: args.strict,
        allow_missing_env: args.allow_missing_env,
    };
    let env = Environment::of_process().with_files(&args.env_file);
    let report = env.map_or_else(
        |report| report,
        |env| Config::check(&args.config, &env, extent),
    );
    print(&match args.format {
        Format::Text if report.diagnostics().is_empty() => {
            format!("{}{}: no problems\n", report.notes(), args.config.display())
        }
        Format::Text => format!("{}{report}{}", report.notes(), report.summary()),
        Format::Json => report.to_json() + "\n",
        Format::Sarif => report.to_sarif(&std::env::current_dir()?) + "\n",
    })?;
    let has_warnings = !report.diagnostics().is_empty();
    Ok(if report.has_errors() || args.strict && has_warnings {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints the execution of a request to a route. Fails if the request would be rejected.
fn explain(args: ExplainArgs) -> Outcome {
    let ExplainArgs {
        route,
        tier,
        format,
        ..
    } = args;
    let env = Environment::of_process().with_files(&args.env_file)?;
    let config = Config::load(&args.config, &env)?;
    if let Some(tier) = tier
        .as_ref()
        .filter(|tier| !config.tiers.contains_key(*tier))
    {
        return Err(unknown("tier", tier, config.tiers.keys()).into());
    }
    let app = App::new(&config, Readiness::default())?;
    let (endpoint, orchestrate) = app.endpoint(&route).ok_or_else(|| {
        let api = config.orchestrate.iter().map(|_| "orchestrate");
        let routes = config.routes.iter().map(|route| route.name.as_str());
        unknown("route", &route, routes.chain(api))
    })?;
    let body = args.body.map(std::fs::read).transpose();
    let body = body.map_err(|error| format!("cannot read the body file: {error}"))?;
    let explanation = endpoint
        .explain(tier, body.map(Into::into), orchestrate)
        .map_err(|problem| match format {
            ExplainFormat::Json => problem.to_json(None),
            ExplainFormat::Text | ExplainFormat::Mermaid => problem.to_string(),
        })?;
    print(&match format {
        ExplainFormat::Text => format!("{}{explanation}", config.warnings.notes()),
        ExplainFormat::Json => to_json(&endpoint.route, &explanation, None) + "\n",
        ExplainFormat::Mermaid => explanation.to_mermaid().to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a token signed with the first secret of a JWT provider.
fn token(args: &TokenArgs) -> Outcome {
    let config = Config::load(&args.config, &Environment::of_process())?;
    let (name, jwt) = issuer(&config, args.jwt.as_deref())?;
    if !config.tiers.is_empty() && !config.tiers.contains_key(&args.tier) {
        return Err(unknown("tier", &args.tier, config.tiers.keys()).into());
    }
    let KeysConfig::Given { signing, .. } = &jwt.keys else {
        let message =
            format!("cannot sign a token: issuer `{name}` uses JWKS, which holds no private keys");
        return Err(message.into());
    };
    let (algorithm, secret) = signing
        .as_ref()
        .ok_or_else(|| format!("cannot sign a token: issuer `{name}` has no key"))?;
    let expires = (SystemTime::now() + args.ttl).duration_since(SystemTime::UNIX_EPOCH)?;
    let claims = claims(&jwt.verifier, args, expires)?;
    let token = sign(*algorithm, secret.expose(), &claims)?;
    print(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the JWT provider `name`, or the only one.
fn issuer<'c>(config: &'c Config, name: Option<&str>) -> Result<(&'c String, &'c Jwt), String> {
    match (name, config.jwt.len()) {
        (Some(name), _) => (config.jwt)
            .get_key_value(name)
            .ok_or_else(|| unknown("issuer", name, config.jwt.keys())),
        (None, 1) => Ok(config.jwt.first().expect("the map has one entry")),
        (None, 0) => Err("cannot sign a token: the file has no auth.jwt".into()),
        (None, _) => {
            let names: Vec<_> = config.jwt.keys().map(String::as_str).collect();
            let names = names.join(", ");
            Err(format!("select an issuer with --jwt NAME: {names}"))
        }
    }
}

/// Returns the claims of a token that `rules` accept until `expires`, a time since 1970.
///
/// # Errors
/// Returns an error if a claim is inside another one that is no object.
fn claims(rules: &VerifierConfig, args: &TokenArgs, expires: Duration) -> Result<Value, String> {
    let (issuer, audience) = (&rules.issuers[0], &rules.audiences[0]);
    let mut claims =
        json!({"iss": issuer, "aud": audience, "sub": args.sub, "exp": expires.as_secs()});
    let tier_claim = rules.tier_claim.as_deref().unwrap_or("tier");
    set_claim(&mut claims, tier_claim, args.tier.as_str().into())?;
    if !args.roles.is_empty() {
        set_claim(&mut claims, &rules.roles_claim, args.roles.clone().into())?;
    }
    if !args.scopes.is_empty() {
        claims["scope"] = args.scopes.join(" ").into();
    }
    for (path, value) in &args.claims {
        set_claim(&mut claims, path, value.clone())?;
    }
    Ok(claims)
}

/// Sets the claim at a path, and creates the objects on the way. A URI is one name.
fn set_claim(claims: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let steps: Vec<&str> = match path.contains("://") {
        true => vec![path],
        false => path.split('.').collect(),
    };
    let mut claim = claims;
    for step in steps {
        if !claim.is_object() && !claim.is_null() {
            return Err(format!(
                "cannot set claim \"{path}\": it is inside a value that is no object"
            ));
        }
        claim = &mut claim[step];
    }
    *claim = value;
    Ok(())
}
