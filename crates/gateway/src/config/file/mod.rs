//! The keys of the configuration file, as structs.
//!
//! A key is one field: its name, type, default, limits and description are stated here once. The reader, the JSON
//! Schema and the reference of the file come from these structs.

mod auth;
mod downstream;
mod server;
mod telemetry;

pub(super) use self::{
    auth::{Auth, Jwks, Jwt, Key, PropagatedClaim, RouteAuth},
    downstream::{ClientTls, Downstream, Endpoint, Http2, TlsVersion, Verify},
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
