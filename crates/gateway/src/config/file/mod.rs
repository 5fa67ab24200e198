//! The keys of the configuration file, as structs.
//!
//! A key is one field: its name, type, default, limits and description are stated here once. The reader, the JSON
//! Schema and the reference of the file come from these structs.

mod acknowledgement;
mod auth;
mod downstream;
mod node;
mod route;
mod server;
mod telemetry;

use http::HeaderName;
use indexmap::IndexMap;
use tower_fanout::Policy;

use super::text::{TOKEN, Text, VisibleText};

pub(super) use self::{
    acknowledgement::Acknowledgement,
    auth::{Auth, Jwks, Jwt, Key, PropagatedClaim, RouteAuth},
    downstream::{ClientTls, Downstream, Endpoint, Http2},
    node::{Dependency, Fallback, Node, Request, Response},
    route::{Aggregate, Match, Plan, Route},
    server::{CorrelationHeader, Cors, Server},
    telemetry::{Logs, Telemetry, Tier, Tracing},
};

/// Declares a map of the file all of whose keys are optional, as a struct with a default for each key.
macro_rules! section {
    ($(#[$attr:meta])* $name:ident {
        $($(#[$key_attr:meta])* $key:ident: $type:ty = $default:expr,)*
    }) => {
        #[derive(Clone, Debug, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        $(#[$attr])*
        pub(in crate::config) struct $name {
            $($(#[$key_attr])* pub(in crate::config) $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}
use section;

/// Minimum of a limit for bodies. A lower limit would refuse ordinary JSON documents: it is a mistake such as `1B` in
/// place of `1MiB`.
const SMALLEST_BODY: &str = "1KiB";

/// Returns the schema of names, for the names of a map.
fn names() -> serde_json::Value {
    serde_json::json!({ "format": VisibleText::FORMAT })
}

/// Returns the schema of names other than `reserved`.
fn names_except(reserved: &[&str]) -> serde_json::Value {
    serde_json::json!({ "format": VisibleText::FORMAT, "not": { "enum": reserved } })
}

/// Headers of one connection or one message, which the gateway sets itself.
const PER_MESSAGE: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-timeout-ms",
];

/// Other headers that the gateway sets itself. A name that ends in "-" is the beginning of others.
const TRACED: [&str; 5] = [
    "baggage",
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "x-fanout-",
];

/// Headers that let their holder act as the caller.
const CREDENTIALS: [&str; 2] = ["authorization", "cookie"];

/// Returns the headers that the gateway sets itself.
fn managed() -> impl Iterator<Item = &'static str> {
    PER_MESSAGE.into_iter().chain(TRACED)
}

/// Returns the schema of the names of headers other than `reserved`, in any case.
fn headers_except<'n>(reserved: impl IntoIterator<Item = &'n str>) -> serde_json::Value {
    let any_case = |one: char| match one.is_ascii_alphabetic() {
        true => format!("[{}{one}]", one.to_ascii_uppercase()),
        false => one.to_string(),
    };
    let names = reserved.into_iter();
    let names = names.map(|name| {
        let rest = if name.ends_with('-') { ".*" } else { "" };
        let letters: String = name.chars().map(any_case).collect();
        letters + rest
    });
    let names: Vec<_> = names.collect();
    // A regular expression of its own, and not that of a `not`, accepts a variable too.
    let other = format!("^(?!({})$)", names.join("|"));
    serde_json::json!({
        "type": "string",
        "format": HeaderName::FORMAT,
        "pattern": TOKEN.replacen('^', &other, 1),
    })
}

section! {
    /// Configuration of the gateway.
    #[schemars(extend("required" = ["version"], "x-partial" = true))]
    File {
        /// Address of the JSON Schema, for editors that read it from a JSON file. The gateway does not use it.
        #[serde(rename = "$schema")]
        #[schemars(example = ".fanout.schema.json")]
        schema: Option<String> = None,
        /// Version of the file format.
        #[schemars(extend("const" = 1))]
        version: Option<u64> = None,
        /// Listeners, limits of connections and requests, and the callers that are trusted.
        server: Server = Server::default(),
        /// Logs, trace propagation and timing headers.
        telemetry: Telemetry = Telemetry::default(),
        /// Authentication of callers.
        auth: Option<Auth> = None,
        /// Tiers of callers by name, from the lowest to the highest.
        #[schemars(extend("propertyNames" = names()))]
        tiers: IndexMap<String, Tier> = IndexMap::new(),
        /// Policies by name: timeouts, retries and the other layers around a service.
        #[schemars(extend("propertyNames" = names()))]
        policies: IndexMap<String, Policy> = IndexMap::new(),
        /// Services by name.
        #[schemars(extend("propertyNames" = names()))]
        downstreams: IndexMap<String, Downstream> = IndexMap::new(),
        /// Routes. Of several that match a request, the most specific one responds, whatever their order.
        routes: Vec<Route> = Vec::new(),
        /// Plan of the built-in API. Without it, the API is off.
        orchestrate: Option<Plan> = None,
        /// Warnings that are as intended, and therefore not reported.
        acknowledge: Vec<Acknowledgement> = Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use tower_fanout_http::forward::is_managed;

    use super::*;

    #[test]
    fn the_gateway_sets_the_managed_headers() {
        for name in managed() {
            assert!(is_managed(&HeaderName::from_static(name)), "{name}");
        }
    }
}
