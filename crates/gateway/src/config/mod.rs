//! The configuration: one file, or the files of a folder. One run reports all of its errors.
//!
//! The files are parsed into a tree of values with positions ([`tree`]), with the values of environment variables
//! ([`source`]). The keys are the fields of structs
//! ([`file`](mod@file)), from which a JSON Schema is generated. The tree is checked against the schema
//! ([`schema`]), which reports every unknown key, wrong type and value out of range. The structs are then
//! deserialized from the valid part of the tree, and the other modules check what a schema cannot say: names,
//! plans, certificates. To add a key, add a field.

mod acknowledge;
mod aggregate;
mod auth;
mod certificate;
mod check;
mod deserialize;
mod diagnostic;
mod downstream;
mod file;
mod key;
mod lint;
mod locate;
mod node;
mod number;
mod path;
mod placeholder;
mod plan;
mod policy;
mod read;
mod reader;
mod redact;
mod route_path;
mod route_table;
mod rules;
mod schema;
mod server;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod tree;
mod validate;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Method;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_fanout::{
    Plan,
    layers::{Priority, fallback::OutcomeSet},
};
use tower_fanout_http::trace::TraceLayer;
use tower_fanout_json::{
    Json,
    condition::Condition,
    filter::FieldFilter,
    template::{RequestTemplate, Root},
};
use uuid::Uuid;

pub(crate) use self::{
    aggregate::Aggregate,
    auth::{JwksSource, Jwt, KeysConfig, RouteAuth, StaticKey},
    diagnostic::Report,
    downstream::DownstreamConfig,
    key::KeyTemplate,
    route_path::{ORCHESTRATE, RESERVED_NAMES, RoutePath, is_built_in},
    route_table::RouteTable,
    schema::json_schema,
    server::Server,
    source::Environment,
    tls::{CertFile, ClientTlsFiles, ReloadableCert, Replacement},
    value::known_names,
};

use self::source::Text;

/// Maximum size of a configuration in bytes, of all files together.
const LARGEST: usize = 4 << 20;

/// A configuration that is read and validated.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The listeners and their limits.
    pub(crate) server: Server,
    /// Format and level of the logs.
    pub(crate) logs: Logs,
    /// Propagation of incoming trace context.
    pub(crate) trace: TraceLayer,
    /// `true` to report the duration of each node in the `server-timing` response header.
    pub(crate) server_timing: bool,
    /// JWT providers by name: issuers, their keys, and the rules for their tokens.
    pub(crate) jwt: IndexMap<String, Jwt>,
    /// Caller tiers by name, from the lowest to the highest.
    pub(crate) tiers: IndexMap<String, Tier>,
    /// Downstream services by name.
    pub(crate) downstreams: IndexMap<String, DownstreamConfig>,
    /// Configured routes.
    pub(crate) routes: Vec<Route>,
    /// The routing table, with the indices of `routes`.
    pub(crate) table: RouteTable,
    /// The plan of the built-in orchestrate API. `None` turns the API off.
    pub(crate) orchestrate: Option<PlanConfig>,
    /// Warnings about the file.
    pub(crate) warnings: Report,
}

impl Config {
    /// Returns the plans of all routes, and that of the orchestrate API.
    pub(crate) fn plans(&self) -> impl Iterator<Item = &PlanConfig> {
        let routes = self.routes.iter().map(|route| &route.plan);
        routes.chain(&self.orchestrate)
    }
}

/// Log configuration.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    /// Output format.
    pub(crate) format: LogFormat,
    /// Minimum level, or a filter such as `info,tower_fanout=debug`.
    pub(crate) level: String,
}

/// Output format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// `human` if standard error is a terminal, `json` otherwise.
    #[default]
    Auto,
    /// Text for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Secret bytes. `Debug` prints `***`.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the secret bytes.
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

/// Limits for the callers of a tier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tier {
    /// Maximum number of downstream calls in flight for one request. `None` adds no limit of the tier.
    pub(crate) max_concurrency: Option<u8>,
}

/// A configured route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The name, unique among routes.
    pub(crate) name: String,
    /// The method that the route matches.
    pub(crate) method: Method,
    /// The path that the route matches.
    pub(crate) path: RoutePath,
    /// The plan that the route runs.
    pub(crate) plan: PlanConfig,
}

/// A plan and the limits of its runs.
#[derive(Clone, Debug)]
pub(crate) struct PlanConfig {
    /// Authentication and authorization. `None` admits every caller.
    pub(crate) auth: Option<RouteAuth>,
    /// Defaults and maxima of the options that a request may set.
    pub(crate) limits: Limits,
    /// Nodes by name.
    pub(crate) nodes: IndexMap<String, Node>,
    /// Digest of the nodes as written, with the names of variables in place of their values.
    pub(crate) digest: Uuid,
    /// The validated dependency graph of `nodes`, in the same order.
    pub(crate) graph: Plan,
    /// Success criterion, return time and merge rules.
    pub(crate) aggregate: Aggregate,
}

/// Defaults and maxima of the options that a request may set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Time limit of a run.
    pub(crate) deadline: Bound<Duration>,
    /// Number of downstream calls in flight at once.
    pub(crate) max_concurrency: Bound<u8>,
    /// Number of retries per downstream call.
    pub(crate) retries: Bound<u8>,
}

/// The default and the maximum of a value that a request may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound<T> {
    /// The value if the request does not choose one.
    pub(crate) default: T,
    /// The largest value that a request may choose.
    pub(crate) max: T,
}

impl<T: Copy + Ord> Bound<T> {
    /// Returns `requested`, limited to the maximum, or the default if nothing is requested.
    #[must_use]
    pub(crate) fn clamp(&self, requested: Option<T>) -> T {
        requested.unwrap_or(self.default).min(self.max)
    }
}

/// A node of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Name of the downstream that the node calls.
    pub(crate) downstream: String,
    /// Nodes that must complete before this one starts.
    pub(crate) depends_on: Vec<DependsOn>,
    /// `true` if the run fails without a response of this node.
    pub(crate) required: bool,
    /// Start priority among nodes that are ready.
    pub(crate) priority: Priority,
    /// Tiers that run the node. Empty means all tiers.
    pub(crate) tiers: Vec<String>,
    /// Condition on the request under which the node runs. `None` means always.
    pub(crate) when: Option<Condition>,
    /// Template of the downstream request.
    pub(crate) request: RequestTemplate,
    /// Error statuses (4xx and 5xx) that count as successful responses.
    pub(crate) accept: Vec<u16>,
    /// Selection and renaming of response members.
    pub(crate) filter: FieldFilter,
    /// Fallbacks in the order in which they are tried.
    pub(crate) fallback: Vec<Fallback>,
    /// Keys of the calls of its downstream and its fallback services.
    pub(crate) keys: Vec<KeyTemplate>,
}

impl Node {
    /// Returns `true` if the request template, a key or the condition of the node reads a value from `root`.
    #[must_use]
    pub(crate) fn reads(&self, root: &Root) -> bool {
        let condition = self.when.as_ref();
        let keys = self.keys.iter().flat_map(KeyTemplate::references);
        let mut references = self.request.references().chain(keys);
        references.any(|reference| reference.root == *root)
            || condition.is_some_and(|condition| condition.reads(root))
    }

    /// Returns the names of the downstreams that are fallbacks of the node.
    pub(crate) fn fallback_services(&self) -> impl Iterator<Item = &str> {
        self.fallback
            .iter()
            .filter_map(|fallback| match &fallback.target {
                FallbackTarget::Service(other) => Some(&**other),
                FallbackTarget::Static(_) => None,
            })
    }
}

/// A dependency on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DependsOn {
    /// Name of the other node.
    pub(crate) node: String,
    /// `true` if the dependent node also runs when the other node fails or is skipped.
    pub(crate) optional: bool,
}

/// A replacement for the response of a downstream that failed.
#[derive(Clone, Debug)]
pub(crate) struct Fallback {
    /// Outcomes to which the fallback applies.
    pub(crate) on: OutcomeSet,
    /// Source of the replacement.
    pub(crate) target: FallbackTarget,
}

/// Source of a replacement response.
#[derive(Clone, Debug)]
pub(crate) enum FallbackTarget {
    /// A fixed JSON value.
    Static(Json),
    /// Name of another downstream, which gets the same request.
    Service(String),
}

/// Extent of the checks of a configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    /// Applies the rules about missing protection and contradicting limits too.
    pub(crate) strict: bool,
    /// Leaves out values with environment variables that are not set, in place of reporting them.
    pub(crate) allow_missing_env: bool,
}

impl Config {
    /// Reads the file at `path`, or the files of the folder at `path`. `env` has the values of variables such as
    /// `${NAME}`.
    ///
    /// # Errors
    /// Returns all errors and warnings if there is an error.
    pub(crate) fn load(path: &Path, env: &Environment) -> Result<Self, Report> {
        read::config(&source::load(path)?, env, Extent::default())
    }

    /// Returns all errors and warnings about the file at `path`, or the files of the folder at `path`.
    #[must_use]
    pub(crate) fn check(path: &Path, env: &Environment, extent: Extent) -> Report {
        source::load(path)
            .and_then(|texts| read::config(&texts, env, extent))
            .map_or_else(|report| report, |config| config.warnings)
    }

    /// Parses and validates `text`. Diagnostics refer to the file as `name`, and `env` has the values of variables.
    ///
    /// # Errors
    /// Returns all errors and warnings if the file has an error.
    pub(crate) fn parse(name: &str, text: &str, env: &Environment) -> Result<Self, Report> {
        let text = Text {
            name: name.to_owned(),
            folder: PathBuf::new(),
            text: text.to_owned(),
        };
        read::config(&[text], env, Extent::default())
    }
}
