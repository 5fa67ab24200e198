//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum, value_parser};

/// HTTP gateway that answers one request from several downstream services.
///
/// One configuration file defines the routes, their plans and the downstream services.
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
        /// Configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
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
    /// Validate a configuration file. Print all errors and warnings, and exit with 1 if there are errors.
    Check {
        /// Configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// Output format.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Explain the execution of a request without calling any service. Exit with 1 if the request would
    /// be rejected.
    ///
    /// Query, headers, path parameters and token are unknown and count as absent, so a service whose
    /// `when` condition reads one of them is shown as skipped.
    Explain {
        /// Configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// Name of the route, or `orchestrate` for the built-in API.
        #[arg(long, value_name = "NAME")]
        route: String,
        /// Tier of the caller. Defaults to the lowest tier.
        #[arg(long)]
        tier: Option<String>,
        /// File with the request body.
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// Output format.
        #[arg(long, value_enum, default_value_t)]
        format: ExplainFormat,
    },
    /// Create a JWT signed with a secret of the configuration file.
    Token {
        /// Configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// Subject of the token, for its `sub` claim.
        #[arg(long)]
        sub: String,
        /// Tier of the caller.
        #[arg(long)]
        tier: String,
        /// Lifetime of the token.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// Name of the issuer under `auth.jwt`. Required if the file has several.
        #[arg(long, value_name = "NAME")]
        jwt: Option<String>,
    },
    /// Print a shell completion script.
    Completions {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Output format of diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text with source snippets.
    #[default]
    Text,
    /// JSON array.
    Json,
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
    fn accepts_only_known_stub_services_as_down() {
        let parse = |name: &str| Cli::try_parse_from(["fanout", "demo", "--down", name]);
        assert!(parse("sentiment").is_ok());
        assert!(parse("nobody").is_err());
    }
}
