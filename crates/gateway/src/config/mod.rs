//! The configuration file: one file says everything, and everything that is wrong with it is said in
//! one run.
//!
//! The file is read as a tree of values that know where they stand, and then key by key. A key that
//! nobody knows is refused with the nearest one that is known, and a key that is meant for later with
//! a message that says so.

mod aggregate;
mod auth;
mod check;
mod diagnostic;
mod downstream;
mod node;
mod plan;
mod policy;
mod read;
mod reader;
mod redact;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod validate;
mod value;

use std::{fmt, fs::File, io::Read, path::Path, time::Duration};

use http::Method;
use indexmap::IndexMap;
use serde::Deserialize;
use tower_fanout::{
    Plan,
    layers::{Priority, fallback::OutcomeSet},
};
use tower_fanout_http::trace::TraceLayer;
use tower_fanout_json::{
    Json, condition::Condition, filter::FieldFilter, template::RequestTemplate,
};

pub(crate) use self::{
    aggregate::Aggregate,
    auth::{JwksSource, Jwt, KeyConfig, KeysConfig, RouteAuth},
    diagnostic::{Diagnostic, Position, Report},
    downstream::DownstreamConfig,
    server::Server,
    tls::ReloadableCert,
};

/// The largest file, in bytes.
const LARGEST: usize = 4 << 20;

/// A configuration that was read and checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where and how is listened.
    pub(crate) server: Server,
    /// Logs.
    pub(crate) logs: Logs,
    /// Whose traces are gone on with.
    pub(crate) trace: TraceLayer,
    /// Whether answers say in a header how long their services took.
    pub(crate) server_timing: bool,
    /// Whom to believe, by name.
    pub(crate) jwt: IndexMap<String, Jwt>,
    /// The callers' tiers by name, the lowest first.
    pub(crate) tiers: IndexMap<String, Tier>,
    /// The services that are asked, by name.
    pub(crate) downstreams: IndexMap<String, DownstreamConfig>,
    /// Routes of their own.
    pub(crate) routes: Vec<Route>,
    /// The plan of the built-in API.
    pub(crate) orchestrate: Option<PlanConfig>,
    /// What is strange, but not wrong.
    pub(crate) warnings: Report,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    /// For people or for programs.
    pub(crate) format: LogFormat,
    /// The least level, or a filter such as `info,tower_fanout=debug`.
    pub(crate) level: String,
}

/// For whom logs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// People if standard error is a terminal, programs otherwise.
    #[default]
    Auto,
    /// People.
    Human,
    /// Programs.
    Json,
}

/// Bytes that are shown to nobody.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What callers of a tier get.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tier {
    /// The most services that are asked at once for one request.
    pub(crate) max_concurrency: Option<u8>,
}

/// A route of its own.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Its name.
    pub(crate) name: String,
    /// The method it answers.
    pub(crate) method: Method,
    /// The path it answers; parameters in braces.
    pub(crate) path: String,
    /// What it runs.
    pub(crate) plan: PlanConfig,
}

/// A plan, and how it is run.
#[derive(Clone, Debug)]
pub(crate) struct PlanConfig {
    /// Who may ask; anybody if none.
    pub(crate) auth: Option<RouteAuth>,
    /// The deadline.
    pub(crate) deadline: Bound<Duration>,
    /// Services at once.
    pub(crate) max_concurrency: Bound<u8>,
    /// Retries per service.
    pub(crate) retry_attempts: Bound<u8>,
    /// The nodes, by name.
    pub(crate) nodes: IndexMap<String, Node>,
    /// The plan that these nodes make, in the same order.
    pub(crate) graph: Plan,
    /// When a run is a success, and when its answer leaves.
    pub(crate) aggregate: Aggregate,
}

/// What a request gets if it does not say, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound<T> {
    /// If it does not say.
    pub(crate) default: T,
    /// At most.
    pub(crate) max: T,
}

impl<T: Copy + Ord> Bound<T> {
    /// What a request gets that asks for `wish`.
    #[must_use]
    pub(crate) fn clamp(&self, wish: Option<T>) -> T {
        wish.unwrap_or(self.default).min(self.max)
    }
}

/// A node of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Whom it asks.
    pub(crate) downstream: String,
    /// What it comes after.
    pub(crate) depends_on: Vec<DependsOn>,
    /// Whether the answer as a whole needs it.
    pub(crate) required: bool,
    /// How early it starts.
    pub(crate) priority: Priority,
    /// The tiers that have it; empty for all.
    pub(crate) tiers: Vec<String>,
    /// Of which requests it is a part; of all if none.
    pub(crate) when: Option<Condition>,
    /// What is sent.
    pub(crate) request: RequestTemplate,
    /// Statuses of errors that are answers all the same.
    pub(crate) accept: Vec<u16>,
    /// What of an answer is wanted.
    pub(crate) shape: FieldFilter,
    /// What answers instead.
    pub(crate) fallback: Vec<Fallback>,
}

/// A node that another comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DependsOn {
    /// Its name.
    pub(crate) node: String,
    /// Whether an answer of it can be done without.
    pub(crate) optional: bool,
}

/// What answers instead of a downstream that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fallback {
    /// How the downstream must have failed.
    pub(crate) on: OutcomeSet,
    /// Who or what answers.
    pub(crate) target: FallbackTarget,
}

/// Who or what answers instead.
#[derive(Clone, Debug)]
pub(crate) enum FallbackTarget {
    /// This.
    Static(Json),
    /// Another downstream, with the same request.
    Service(String),
}

impl Config {
    /// Reads the file at `path`, with variables of the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(LARGEST as u64 + 1).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(&name, &text, &|name| std::env::var(name).ok()),
            Err(error) => {
                let message = format!("the file cannot be read: {error}");
                let unreadable = Diagnostic::error("unreadable", Position::START, message);
                Err(Report::new(&name, "", vec![unreadable]))
            }
        }
    }

    /// Reads `text`, which is called `name`; `env` knows the variables.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Report> {
        if text.len() > LARGEST {
            let message = format!("a configuration has at most {} MiB", LARGEST >> 20);
            let too_large = Diagnostic::error("too_large", Position::START, message);
            return Err(Report::new(name, "", vec![too_large]));
        }
        read::config(name, text, env)
    }
}
