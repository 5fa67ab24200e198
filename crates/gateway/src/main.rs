//! `fanout`: a gateway that answers one request from several services.
//!
//! [`app`] builds what is served, from the configuration that [`config`] reads.

mod app;
mod auth;
mod backend;
mod cli;
mod config;
mod demo;
mod health;
mod inbound;
mod openapi;
mod orchestrate;
mod route;
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
    orchestrate::explain::{ExplainedRequest, to_json},
    run::{Sockets, run, signals},
};

/// How a start ends without the keys that the configuration asks for, as `sysexits.h` has it.
const EX_CONFIG: u8 = 78;

type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run { config } => serve(&config).await,
        Command::Demo { listen, down } => {
            demo::demo(listen, &down).await.map(|_| ExitCode::SUCCESS)
        }
        Command::Check { config, format } => Ok(check(&config, format)),
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
            clap_complete::generate(shell, &mut Cli::command(), "fanout", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("fanout: {error}");
        ExitCode::FAILURE
    })
}

async fn serve(path: &Path) -> Outcome {
    let config = Config::load(path)?;
    telemetry::log(&config.logs);
    for warning in config.warnings.diagnostics() {
        tracing::warn!(path = warning.path, "{}", warning.message);
    }
    let stop = signals()?;
    let ready = Readiness::default();
    let app = App::new(&config, ready.clone())?;
    let auth = match Auth::start(&config).await {
        Ok(auth) => auth,
        Err(error) => {
            eprintln!("fanout: {error}");
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    let sockets = Sockets::bind(&config.server)?;
    run(&app, &auth, ready, sockets, &config.server, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Says everything that is wrong with a file; warnings alone are no failure.
fn check(path: &Path, format: Format) -> ExitCode {
    let report = Config::load(path).map_or_else(|report| report, |config| config.warnings);
    match format {
        Format::Text if report.diagnostics().is_empty() => {
            println!("{}: no problems", path.display())
        }
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", report.to_json()),
    }
    if report.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Says what a request to `route` would do; a request that could not be run is a failure.
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
        return Err(format!("there is no tier \"{tier}\"").into());
    }
    let app = App::new(&config, Readiness::default())?;
    let unknown = || format!("there is no route \"{route}\"");
    let (endpoint, orchestrate) = app.endpoint(route).ok_or_else(unknown)?;
    let body = body.map(std::fs::read).transpose();
    let body = body.map_err(|error| format!("the body cannot be read: {error}"))?;
    let explanation = endpoint
        .explain(ExplainedRequest {
            tier,
            body: body.map(Into::into),
            orchestrate,
        })
        .map_err(|problem| match format {
            ExplainFormat::Json => problem.to_json(None),
            ExplainFormat::Text | ExplainFormat::Mermaid => problem.to_string(),
        })?;
    match format {
        ExplainFormat::Text => print!("{explanation}"),
        ExplainFormat::Json => println!("{}", to_json(&endpoint.route, &explanation)),
        ExplainFormat::Mermaid => print!("{}", explanation.to_mermaid()),
    }
    Ok(ExitCode::SUCCESS)
}

fn token(path: &Path, sub: &str, tier: &str, ttl: Duration, name: Option<&str>) -> Outcome {
    let config = Config::load(path)?;
    let jwt = match (name, config.jwt.len()) {
        (Some(name), _) => config
            .jwt
            .get(name)
            .ok_or("there is no such name under auth.jwt")?,
        (None, 1) => &config.jwt[0],
        (None, _) => return Err("say which of auth.jwt the token is for: --jwt NAME".into()),
    };
    let KeysConfig::Given(keys) = &jwt.keys else {
        return Err("tokens are signed by who publishes the keys".into());
    };
    let key = keys.first().ok_or("there is no key")?;
    let expires = (SystemTime::now() + ttl)
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let mut claims =
        json!({"iss": jwt.issuers[0], "aud": jwt.audiences[0], "sub": sub, "exp": expires});
    let path = jwt.tier_claim.as_deref().unwrap_or("tier");
    let place = path
        .split('.')
        .fold(&mut claims, |claims, step| &mut claims[step]);
    *place = tier.into();
    println!("{}", sign(key.algorithm, key.material.expose(), &claims)?);
    Ok(ExitCode::SUCCESS)
}
