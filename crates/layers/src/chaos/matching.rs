//! Which requests a rule is for.

use crate::config::ConfigError;

/// What a request must be like for a rule to be for it: everything that is said, and anything if
/// nothing is.
///
/// The layer knows nothing of services, tiers and headers. It asks the function given to
/// [`ChaosLayer::matching`](super::ChaosLayer::matching); without one it skips every rule with a `Match`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct Match {
    /// It goes to the service of this name.
    pub service: Option<String>,
    /// Its caller is of this tier.
    pub tier: Option<String>,
    /// It bears this header.
    pub header: Option<HeaderMatch>,
}

impl Match {
    pub(super) fn is_any(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn problem(&self) -> Option<ConfigError> {
        let header = self.header.as_ref()?;
        let nameless = header.name.is_empty();
        nameless.then(|| ConfigError::new("match.header.name", "a header has a name"))
    }
}

/// A header that a request must bear.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct HeaderMatch {
    /// Its name, in any case.
    pub name: String,
    /// Its value, byte for byte; any value if there is none.
    #[cfg_attr(feature = "serde", serde(default))]
    pub value: Option<String>,
}

#[cfg(feature = "http")]
impl HeaderMatch {
    /// Whether it is among `headers`.
    #[must_use]
    pub fn is_in(&self, headers: &::http::HeaderMap) -> bool {
        let mut values = headers.get_all(self.name.as_str()).iter();
        values.any(|value| {
            let wanted = self.value.as_ref();
            wanted.is_none_or(|wanted| value.as_bytes() == wanted.as_bytes())
        })
    }
}
