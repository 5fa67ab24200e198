//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

/// One request, several services, one answer: a gateway that is configured per route from one file.
#[derive(Debug, Parser)]
#[command(name = "fanout", version, propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what a configuration file says, until SIGTERM or SIGINT.
    Run {
        /// The configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
    },
    /// Serve a demonstration with everything embedded: five stub services on loopback ports, and a
    /// fresh key.
    Demo {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Break a service: it refuses connections. May be given more than once.
        #[arg(long, value_name = "NAME", value_parser = crate::demo::NAMES)]
        down: Vec<String>,
    },
    /// Check a configuration file; exit 0, or 1 with everything that is wrong with it.
    Check {
        /// The configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// How to say it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Explain what a request to a route would do, without asking anybody; exit 1 if it could not be
    /// run.
    ///
    /// What only a real request has, which is its query, headers, path parameters and token, counts as
    /// not there: a service with a `when` that reads it is shown as skipped.
    Explain {
        /// The configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// The name of the route; `orchestrate` is the built-in API.
        #[arg(long, value_name = "NAME")]
        route: String,
        /// The caller's tier, the lowest by default.
        #[arg(long)]
        tier: Option<String>,
        /// A file with the body of the request; for `orchestrate`, what a caller would send.
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// How to say it.
        #[arg(long, value_enum, default_value_t)]
        format: ExplainFormat,
    },
    /// Make a token for a local symmetric key.
    Token {
        /// The configuration file, YAML or JSON.
        #[arg(short, long, value_name = "FILE", env = "FANOUT_CONFIG")]
        config: PathBuf,
        /// The subject: who the token is for.
        #[arg(long)]
        sub: String,
        /// The caller's tier.
        #[arg(long)]
        tier: String,
        /// How long the token is valid.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// The issuer among `auth.jwt` of the file, if there are several.
        #[arg(long, value_name = "NAME")]
        jwt: Option<String>,
    },
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How diagnostics are said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How a plan is explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// A table for people.
    #[default]
    Text,
    /// As the API answers it.
    Json,
    /// A Mermaid flowchart.
    Mermaid,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_known_services_can_be_broken() {
        let parse = |name: &str| Cli::try_parse_from(["fanout", "demo", "--down", name]);
        assert!(parse("sentiment").is_ok());
        assert!(parse("nobody").is_err());
    }
}
