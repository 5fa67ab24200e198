//! The nodes of plans.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tower_fanout::layers::fallback::OutcomeSet;

use super::{
    super::text::{Parsed, name, placeholder, request_value},
    headers_except, managed, section,
};

/// Regular expression of the paths of requests, whose segments may have placeholders.
const PATH: &str = concat!(
    r"^(?!//)(/(?!\.\.?(/|$))",
    r"([^{}?#\\%/]|%[0-9A-Fa-f]{2}|\{\{|\}\}|",
    placeholder!(),
    ")*)+$"
);

/// Regular expression of the values of query parameters, which may have placeholders.
const QUERY_VALUE: &str = concat!(r"^([^{}]|\{\{|\}\}|", placeholder!(), ")*$");

/// Regular expression of the values of headers: visible ASCII characters, spaces and placeholders.
const HEADER_VALUE: &str = concat!(r"^([ -z|~]|\{\{|\}\}|", placeholder!("[ -|~]"), ")*$");

/// Returns the schema of a [`Scalar`] whose text matches `pattern`.
fn scalar(pattern: &str) -> Value {
    let text = json!({ "type": "string", "pattern": pattern });
    json!({ "anyOf": [text, { "type": "number" }, { "type": "boolean" }] })
}

/// A step of a path to members of a response: a name without white space at its ends, or an index.
macro_rules! step {
    () => {
        concat!(
            r"(?!(\$|[0+-][0-9]+)(\.|$))",
            r"([^.*\[\]\\\s]|\\[.\\*$\[\]/+0\s-])",
            r"(([^.*\[\]\\]|\\[.\\*$\[\]/+0\s-])*([^.*\[\]\\\s]|\\[.\\*$\[\]/+0\s-]))?"
        )
    };
}

/// Regular expression of the paths to members of a response.
const FIELD: &str = concat!("^(?!/)", step!(), r"(\.", step!(), ")*$");

/// Reads a JSON value. A null is a value too, although for serde it is a missing one.
fn json_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

section! {
    /// A node of a plan: one call of a service.
    #[schemars(extend(
        "required" = ["downstream", "request"],
        "x-partial" = true,
        "x-planned" = { "cache": "caching", "policy": "a policy of a single node" }
    ))]
    Node {
        /// Name of the service under `downstreams`.
        #[schemars(example = &"users")]
        downstream: Option<String> = None,
        /// Nodes that must complete before this one starts.
        depends_on: Vec<Dependency> = Vec::new(),
        /// Lets the request fail if this node has no response.
        required: bool = false,
        /// Start order among nodes that are ready, and order of shedding under load. Higher is more important.
        #[schemars(range(min = 0, max = 9))]
        priority: u8 = 0,
        /// Tiers of callers for which the node runs. By default, for all.
        #[schemars(length(min = 1), extend("uniqueItems" = true))]
        #[schemars(example = ["pro"])]
        tiers: Option<Vec<String>> = None,
        /// Condition on the request under which the node runs, such as `tier != 'free'`.
        #[schemars(example = &"tier != 'free'")]
        when: Option<String> = None,
        /// Request to the service.
        request: Option<Request> = None,
        /// Parts of the response that are used.
        response: Response = Response::default(),
        /// Replacements for the response of a call that failed, tried in order.
        fallback: Vec<Fallback> = Vec::new(),
    }
}

/// A node that must complete before another one starts.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum Dependency {
    /// The name of a node that must succeed.
    Name(String),
    /// A node that may be optional.
    Node(DependsOn),
}

/// A dependency that may be optional.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DependsOn {
    /// Name of the node.
    #[schemars(example = &"user")]
    pub(in crate::config) node: String,
    /// Runs this node also if the other one fails or is skipped.
    #[serde(default)]
    pub(in crate::config) optional: bool,
}

section! {
    /// A request to a service. Texts may have placeholders such as `{route.id}` and `{user.account}`.
    #[schemars(extend("required" = ["path"], "x-partial" = true))]
    #[schemars(extend(
        "if" = json!({ "required": ["body"] }),
        "then" = json!({
            "required": ["method"],
            "properties": { "method": { "not": { "enum": ["GET", "HEAD"] } } }
        })
    ))]
    Request {
        /// Method of the request. Defaults to `GET`.
        #[schemars(example = &"GET")]
        method: Option<Parsed<Method>> = None,
        /// Path of the request, such as `/users/{route.id}`.
        #[schemars(example = &"/users/{route.id}", regex(pattern = PATH))]
        path: Option<String> = None,
        /// Query parameters by name.
        #[schemars(example = json!({ "segment": "{user.segment}" }))]
        #[schemars(extend("additionalProperties" = scalar(QUERY_VALUE)))]
        query: IndexMap<String, Scalar> = IndexMap::new(),
        /// Headers by name.
        #[schemars(example = json!({ "x-subject": "{jwt.sub}" }))]
        #[schemars(extend("propertyNames" = headers_except(managed())))]
        #[schemars(extend("additionalProperties" = scalar(HEADER_VALUE)))]
        headers: IndexMap<String, Scalar> = IndexMap::new(),
        /// JSON body of the request.
        #[serde(deserialize_with = "json_value")]
        #[schemars(example = json!({ "id": "{route.id}" }))]
        body: Option<Value> = None,
    }
}

/// The value of a query parameter or a header. A number or a boolean is sent as its JSON text.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::config) enum Scalar {
    /// Text, which may have placeholders.
    Text(String),
    /// A number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
}

section! {
    /// Parts of the response that are used. Paths are names, separated by dots.
    Response {
        /// Statuses from 400 that count as success.
        #[schemars(example = [404])]
        accept: Vec<ErrorStatus> = Vec::new(),
        /// Path to the wanted value. By default, the whole response is.
        #[schemars(example = &"data", regex(pattern = FIELD))]
        target: Option<String> = None,
        /// Paths of the members to keep. By default, all are.
        #[schemars(length(min = 1), inner(regex(pattern = FIELD)))]
        #[schemars(example = ["items"])]
        allow: Option<BTreeSet<String>> = None,
        /// Paths of the members to remove.
        #[schemars(example = ["items.internal"], inner(regex(pattern = FIELD)))]
        deny: BTreeSet<String> = BTreeSet::new(),
        /// New names of members, by their paths.
        #[schemars(example = json!({ "items": "recommendations" }))]
        #[schemars(extend("propertyNames" = json!({ "pattern": FIELD })))]
        #[schemars(extend("additionalProperties" = json!({ "type": "string", "pattern": FIELD })))]
        rename: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// A status from 400.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(in crate::config) struct ErrorStatus(
    #[schemars(range(min = 400, max = 599))] pub(in crate::config) u16,
);

section! {
    /// A replacement for the response of a call that failed: `static` or `service`.
    #[schemars(extend("x-planned" = { "stale": "a fallback to a stale response" }))]
    #[schemars(extend("x-exactly-one" = ["static", "service"]))]
    Fallback {
        /// A fixed JSON value.
        #[serde(rename = "static", deserialize_with = "json_value")]
        #[schemars(example = json!({ "items": [] }))]
        fixed: Option<Value> = None,
        /// Name of another service under `downstreams`, which gets the same request.
        #[schemars(example = &"users-backup")]
        service: Option<String> = None,
        /// Outcomes to which the fallback applies.
        #[schemars(extend("minItems" = 1))]
        on: OutcomeSet = OutcomeSet::default(),
    }
}
