//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use serde::de::{self, IntoDeserializer};
use serde_json::Value;
use tower_fanout::layers::config::duration;

/// HTTP gateway that answers one request from several downstream services.
///
/// One configuration file defines the routes, their plans and the downstream services. Environment variables override
/// single values of it: `FANOUT_SERVER__LISTEN` is `server.listen`.
#[derive(Debug, Parser)]
#[command(name = "fanout", version, propagate_version = true)]
pub(crate) struct Cli {
    /// The subcommand to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Run {
        /// Configuration file, YAML or JSON, or a folder of such files.
        #[arg(short, long, value_name = "PATH", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// Number of threads that serve connections, 1 to 1024. A connection stays on one thread. Defaults to the
        /// number of CPUs that the process may use.
        #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
        workers: Option<u16>,
    },
    /// Run a self-contained demo: the gateway, five stub services on loopback ports, and a generated
    /// key.
    Demo {
        /// Address to listen on.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Stub service that refuses connections. Repeat the option for several.
        #[arg(long, value_name = "NAME", value_parser = crate::demo::NAMES)]
        down: Vec<String>,
    },
    /// Validate a configuration. Print all errors and warnings, and exit with 1 if there are errors.
    ///
    /// Warnings that the file acknowledges, with a reason, are not printed. docs/check.md describes all rules.
    Check(CheckArgs),
    /// Explain the execution of a request without calling any service. Exit with 1 if the request would
    /// be rejected.
    ///
    /// Query, headers, path parameters and token are unknown and count as absent, so a service whose
    /// `when` condition reads one of them is shown as skipped.
    Explain(ExplainArgs),
    /// Create a JWT signed with a secret of the configuration file.
    Token(TokenArgs),
    /// Write a configuration file to start from, and its JSON Schema for editors. Refuse to replace an existing file.
    Init {
        /// File to write. The schema is `.fanout.schema.json` in the same folder.
        #[arg(value_name = "FILE", default_value = "fanout.yaml")]
        file: PathBuf,
    },
    /// Print the JSON Schema (draft 7) of the configuration file, for editors.
    Schema,
    /// Print a shell completion script.
    Completions {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Arguments of `fanout check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file, YAML or JSON, or a folder of such files.
    #[arg(short, long, value_name = "PATH", env = "FANOUT_CONFIG")]
    pub(crate) config: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Apply further rules, about missing protection and contradicting limits, and exit with 1 also if there
    /// are warnings.
    #[arg(long)]
    pub(crate) strict: bool,
    /// File with environment variables, one `NAME=value` per line. Repeat the option for several. A variable of
    /// a later file replaces that of an earlier one, and that of the process.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Leave out values with environment variables that are not set, in place of reporting them.
    #[arg(long)]
    pub(crate) allow_missing_env: bool,
}

/// Arguments of `fanout explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Configuration file, YAML or JSON, or a folder of such files.
    #[arg(short, long, value_name = "PATH", env = "FANOUT_CONFIG")]
    pub(crate) config: PathBuf,
    /// File with environment variables, as in `fanout check`.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Name of the route, or `orchestrate` for the built-in API.
    #[arg(long, value_name = "NAME")]
    pub(crate) route: String,
    /// Tier of the caller. Defaults to the lowest tier.
    #[arg(long)]
    pub(crate) tier: Option<String>,
    /// File with the request body.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExplainFormat,
}

/// Arguments of `fanout token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Configuration file, YAML or JSON, or a folder of such files.
    #[arg(short, long, value_name = "PATH", env = "FANOUT_CONFIG")]
    pub(crate) config: PathBuf,
    /// Subject of the token, for its `sub` claim.
    #[arg(long)]
    pub(crate) sub: String,
    /// Tier of the caller.
    #[arg(long)]
    pub(crate) tier: String,
    /// Role of the caller. Repeat the option for several.
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Scope of the caller. Repeat the option for several.
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Another claim, as a path and a JSON value or text: `org.id=7`. Repeat the option for several. A claim replaces
    /// one that another option sets.
    #[arg(long = "claim", value_name = "PATH=VALUE", value_parser = claim)]
    pub(crate) claims: Vec<(String, Value)>,
    /// Lifetime of the token.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// Name of the issuer under `auth.jwt`. Required if the file has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) jwt: Option<String>,
}

/// Parses a duration as the file has it, such as `90m`.
fn duration(text: &str) -> Result<Duration, de::value::Error> {
    duration::deserialize(text.into_deserializer())
}

/// Parses a claim such as `org.id=7`. A value that is no JSON is text.
fn claim(text: &str) -> Result<(String, Value), String> {
    let claim = text.split_once('=').filter(|(path, _)| !path.is_empty());
    let (path, value) = claim.ok_or_else(|| format!("expected PATH=VALUE, got \"{text}\""))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((path.to_owned(), value))
}

/// Output format of diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text with source snippets.
    #[default]
    Text,
    /// JSON array.
    Json,
    /// SARIF 2.1.0 log, for code scanning.
    Sarif,
}

/// Output format of an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// Text table.
    #[default]
    Text,
    /// JSON, as in the response of the API.
    Json,
    /// Mermaid flowchart.
    Mermaid,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_claim_is_a_path_and_json_or_text() {
        for (text, path, value) in [
            ("org.id=7", "org.id", serde_json::json!(7)),
            ("a=b=c", "a", serde_json::json!("b=c")),
            ("a=[1, \"b\"]", "a", serde_json::json!([1, "b"])),
            ("a=", "a", serde_json::json!("")),
        ] {
            assert_eq!(claim(text), Ok((path.to_owned(), value)));
        }
        assert!(claim("=7").is_err() && claim("a").is_err());
    }

    #[test]
    fn accepts_only_known_stub_services_as_down() {
        let parse = |name: &str| Cli::try_parse_from(["fanout", "demo", "--down", name]);
        assert!(parse("sentiment").is_ok());
        assert!(parse("nobody").is_err());
    }
}
