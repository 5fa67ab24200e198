//! The keys of the configuration file, as structs.
//!
//! A key is one field: its name, type, default, limits and description are stated here once. The reader, the JSON
//! Schema and the reference of the file come from these structs.

mod auth;
mod downstream;
mod node;
mod route;
mod server;
mod telemetry;

use indexmap::IndexMap;
use tower_fanout::Policy;

pub(super) use self::{
    auth::{Auth, Jwks, Jwt, Key, PropagatedClaim, RouteAuth},
    downstream::{ClientTls, Downstream, Endpoint, Http2, TlsVersion, Verify},
    node::{Dependency, Fallback, Node, Request, Response},
    route::{Aggregate, Match, Plan, Route},
    server::{CorrelationHeader, Cors, Forwarded, Server},
    telemetry::{Telemetry, Tier, Tracing},
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

section! {
    /// Configuration of the gateway.
    #[schemars(extend("required" = ["version"], "x-partial" = true))]
    File {
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
        tiers: IndexMap<String, Tier> = IndexMap::new(),
        /// Policies by name: timeouts, retries and the other layers around a service.
        policies: IndexMap<String, Policy> = IndexMap::new(),
        /// Services by name.
        downstreams: IndexMap<String, Downstream> = IndexMap::new(),
        /// Routes. Of several that match a request, the most specific one responds, whatever their order.
        routes: Vec<Route> = Vec::new(),
        /// Plan of the built-in API. Without it, the API is off.
        orchestrate: Option<Plan> = None,
    }
}
