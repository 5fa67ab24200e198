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
use serde_json::json;
use tower_fanout_http::jwt::sign;

use crate::{
    app::App,
    auth::Auth,
    cli::{Cli, Command, ExplainFormat, Format},
    config::{Config, KeysConfig},
    health::Readiness,
    orchestrate::explain::to_json,
    output::{print, print_error, print_usage},
    run::{Sockets, run, signals, start_workers},
};

/// Exit code if the required JWT keys are unavailable at startup: `EX_CONFIG` of `sysexits.h`.
const EX_CONFIG: u8 = 78;

type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

// Tests link a crate that counts allocations, which has an allocator of its own.
#[cfg(all(feature = "mimalloc", not(test)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        Command::Check { config, format } => check(&config, format),
        Command::Explain {
            config,
            route,
            tier,
            body,
            format,
        } => explain(&config, &route, tier, body.as_deref(), format),
        Command::Token {
            config,
            sub,
            tier,
            ttl,
            jwt,
        } => token(&config, &sub, &tier, ttl, jwt.as_deref()),
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
    let config = Config::load(path)?;
    let flush = telemetry::log(&config.logs)?;
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

/// Prints all diagnostics of a file. Fails only if one of them is an error.
fn check(path: &Path, format: Format) -> Outcome {
    let report = Config::load(path).map_or_else(|report| report, |config| config.warnings);
    print(&match format {
        Format::Text if report.diagnostics().is_empty() => {
            format!("{}: no problems\n", path.display())
        }
        Format::Text => report.to_string(),
        Format::Json => report.to_json() + "\n",
    })?;
    Ok(if report.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints the execution of a request to `route`. Fails if the request would be rejected.
fn explain(
    path: &Path,
    route: &str,
    tier: Option<String>,
    body: Option<&Path>,
    format: ExplainFormat,
) -> Outcome {
    let config = Config::load(path)?;
    if let Some(tier) = tier
        .as_ref()
        .filter(|tier| !config.tiers.contains_key(*tier))
    {
        return Err(format!("unknown tier \"{tier}\"").into());
    }
    let app = App::new(&config, Readiness::default())?;
    let unknown = || format!("unknown route \"{route}\"");
    let (endpoint, orchestrate) = app.endpoint(route).ok_or_else(unknown)?;
    let body = body.map(std::fs::read).transpose();
    let body = body.map_err(|error| format!("cannot read the body file: {error}"))?;
    let explanation = endpoint
        .explain(tier, body.map(Into::into), orchestrate)
        .map_err(|problem| match format {
            ExplainFormat::Json => problem.to_json(None),
            ExplainFormat::Text | ExplainFormat::Mermaid => problem.to_string(),
        })?;
    print(&match format {
        ExplainFormat::Text => explanation.to_string(),
        ExplainFormat::Json => to_json(&endpoint.route, &explanation, None) + "\n",
        ExplainFormat::Mermaid => explanation.to_mermaid().to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a token signed with the first secret of a JWT provider. `name` selects the provider if the
/// file has several.
fn token(path: &Path, sub: &str, tier: &str, ttl: Duration, name: Option<&str>) -> Outcome {
    let config = Config::load(path)?;
    let (name, jwt) = match (name, config.jwt.len()) {
        (Some(name), _) => config
            .jwt
            .get_key_value(name)
            .ok_or_else(|| format!("unknown issuer \"{name}\"; expected a name under auth.jwt"))?,
        (None, 1) => config.jwt.first().expect("the map has one entry"),
        (None, 0) => return Err("cannot sign a token: the file has no auth.jwt".into()),
        (None, _) => {
            return Err("auth.jwt has several issuers; select one with --jwt NAME".into());
        }
    };
    let KeysConfig::Given { signing, .. } = &jwt.keys else {
        let message =
            format!("cannot sign a token: issuer `{name}` uses JWKS, which holds no private keys");
        return Err(message.into());
    };
    let (algorithm, secret) = signing
        .as_ref()
        .ok_or_else(|| format!("cannot sign a token: issuer `{name}` has no key"))?;
    let expires = (SystemTime::now() + ttl)
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let rules = &jwt.verifier;
    let mut claims =
        json!({"iss": rules.issuers[0], "aud": rules.audiences[0], "sub": sub, "exp": expires});
    let path = rules.tier_claim.as_deref().unwrap_or("tier");
    let claim = path
        .split('.')
        // Indexing creates the missing objects on the path.
        .fold(&mut claims, |claims, step| &mut claims[step]);
    *claim = tier.into();
    let token = sign(*algorithm, secret.expose(), &claims)?;
    print(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}
