//! The part `acknowledge`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::text::{Parsed, VisibleText, WarningRule};

/// Warnings that are as intended, and therefore not reported.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Acknowledgement {
    /// Rule of the warnings, such as `no_auth`. Errors cannot be acknowledged.
    #[schemars(example = &"no_auth")]
    pub(in crate::config) rule: Parsed<WarningRule>,
    /// Path of a key, such as `routes.page`: only warnings at this key or inside it are acknowledged. By default, all
    /// warnings of the rule are.
    #[schemars(example = &"routes.page")]
    pub(in crate::config) at: Option<String>,
    /// Reason why the configuration is as intended.
    #[schemars(example = &"the page is public")]
    pub(in crate::config) reason: Parsed<VisibleText>,
}
