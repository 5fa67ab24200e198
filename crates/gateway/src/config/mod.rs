//! The configuration file: one file says everything, and everything that is wrong with it is said in
//! one run.
//!
//! The file is read as a tree of values that know where they stand, and then key by key. A key that
//! nobody knows is refused with the nearest one that is known, and a key that is meant for later with
//! a message that says so.

mod aggregate;
mod auth;
mod check;
mod conceal;
mod conflict;
mod diagnostic;
mod downstream;
mod effect;
mod node;
mod plan;
mod policy;
mod read;
mod reader;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
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
use tower_fanout_json::{Json, condition::Condition, filter::Shape, template::RequestTemplate};

pub use self::{
    aggregate::Aggregate,
    auth::{JwksSource, Jwt, KeyConfig, KeysConfig, RouteAuth},
    diagnostic::{Diagnostic, Place, Report},
    downstream::DownstreamConfig,
    server::Server,
    tls::Shown,
};

/// The largest file, in bytes.
const LARGEST: usize = 4 << 20;

/// A configuration that was read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and how is listened.
    pub server: Server,
    /// Logs.
    pub logs: Logs,
    /// Whose traces are gone on with.
    pub trace: TraceLayer,
    /// Whether answers say in a header how long their services took.
    pub server_timing: bool,
    /// Whom to believe, by name.
    pub jwt: IndexMap<String, Jwt>,
    /// The callers' tiers by name, the lowest first.
    pub tiers: IndexMap<String, Tier>,
    /// The services that are asked, by name.
    pub downstreams: IndexMap<String, DownstreamConfig>,
    /// Routes of their own.
    pub routes: Vec<Route>,
    /// The plan of the built-in API.
    pub orchestrate: Option<PlanConfig>,
    /// What is strange, but not wrong.
    pub warnings: Report,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Logs {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least level, or a filter such as `info,tower_fanout=debug`.
    pub level: String,
}

/// For whom logs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
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
pub struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
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
pub struct Tier {
    /// The most services that are asked at once for one request.
    pub max_concurrency: Option<u8>,
}

/// A route of its own.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The method it answers.
    pub method: Method,
    /// The path it answers; parameters in braces.
    pub path: String,
    /// What it runs.
    pub plan: PlanConfig,
}

/// A plan, and how it is run.
#[derive(Clone, Debug)]
pub struct PlanConfig {
    /// Who may ask; anybody if none.
    pub auth: Option<RouteAuth>,
    /// The deadline.
    pub deadline: Bound<Duration>,
    /// Services at once.
    pub max_concurrency: Bound<u8>,
    /// Retries per service.
    pub retry_attempts: Bound<u8>,
    /// The nodes, by name.
    pub nodes: IndexMap<String, Node>,
    /// The plan that these nodes make, in the same order.
    pub graph: Plan,
    /// When a run is a success, and when its answer leaves.
    pub aggregate: Aggregate,
}

/// What a request gets if it does not say, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<T> {
    /// If it does not say.
    pub default: T,
    /// At most.
    pub max: T,
}

impl<T: Copy + Ord> Bound<T> {
    /// What a request gets that asks for `wish`.
    #[must_use]
    pub fn grant(&self, wish: Option<T>) -> T {
        wish.unwrap_or(self.default).min(self.max)
    }
}

/// A node of a plan.
#[derive(Clone, Debug)]
pub struct Node {
    /// Whom it asks.
    pub downstream: String,
    /// What it comes after.
    pub depends_on: Vec<DependsOn>,
    /// Whether the answer as a whole needs it.
    pub required: bool,
    /// How early it starts.
    pub priority: Priority,
    /// The tiers that have it; empty for all.
    pub tiers: Vec<String>,
    /// Of which requests it is a part; of all if none.
    pub when: Option<Condition>,
    /// What is sent.
    pub request: RequestTemplate,
    /// Statuses of errors that are answers all the same.
    pub accept: Vec<u16>,
    /// What of an answer is wanted.
    pub shape: Shape,
    /// What answers instead.
    pub fallback: Vec<Fallback>,
}

/// A node that another comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependsOn {
    /// Its name.
    pub node: String,
    /// Whether an answer of it can be done without.
    pub optional: bool,
}

/// What answers instead of a downstream that failed.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// How the downstream must have failed.
    pub on: OutcomeSet,
    /// Who or what answers.
    pub by: Instead,
}

/// Who or what answers instead.
#[derive(Clone, Debug)]
pub enum Instead {
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
    pub fn load(path: &Path) -> Result<Self, Report> {
        let name = path.display().to_string();
        let mut text = String::new();
        let read = File::open(path)
            .and_then(|file| file.take(LARGEST as u64 + 1).read_to_string(&mut text));
        match read {
            Ok(_) => Self::parse(&name, &text, &|name| std::env::var(name).ok()),
            Err(error) => {
                let message = format!("the file cannot be read: {error}");
                let unreadable = Diagnostic::error("unreadable", Place::START, message);
                Err(Report::new(&name, "", vec![unreadable]))
            }
        }
    }

    /// Reads `text`, which is called `name`; `env` knows the variables.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Report> {
        if text.len() > LARGEST {
            let message = format!("a configuration has at most {} MiB", LARGEST >> 20);
            let too_large = Diagnostic::error("too_large", Place::START, message);
            return Err(Report::new(name, "", vec![too_large]));
        }
        read::config(name, text, env)
    }
}
