//! The requests that a rule applies to.

/// Conditions on a request. A request must meet all conditions that are set. Without conditions, every
/// request matches.
///
/// The layer itself cannot read services, tiers and headers. It calls the function given to
/// [`ChaosLayer::matching`](super::ChaosLayer::matching). Without that function, rules with conditions
/// never apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct Match {
    /// Name of the service that the request goes to.
    pub service: Option<String>,
    /// Tier of the caller.
    pub tier: Option<String>,
    /// Header of the request.
    pub header: Option<HeaderMatch>,
}

impl Match {
    pub(super) fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// A condition on a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct HeaderMatch {
    /// Name of the header, in any case.
    pub name: String,
    /// Value of the header, byte for byte. `None` matches any value.
    #[cfg_attr(feature = "serde", serde(default))]
    pub value: Option<String>,
}

#[cfg(feature = "http")]
impl HeaderMatch {
    /// Returns `true` if `headers` meet the condition.
    #[must_use]
    pub fn is_in(&self, headers: &::http::HeaderMap) -> bool {
        let mut values = headers.get_all(self.name.as_str()).iter();
        values.any(|value| {
            let wanted = self.value.as_ref();
            wanted.is_none_or(|wanted| value.as_bytes() == wanted.as_bytes())
        })
    }
}
