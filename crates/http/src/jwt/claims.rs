//! The claims of a valid token.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::object::Member;

/// Claims of a valid token. [`JwtLayer`](super::JwtLayer) adds them to the request's extensions after
/// the whole token was accepted. Clones are cheap, and `Debug` shows names but no values.
#[derive(Clone)]
pub struct Claims {
    shared: Arc<Shared>,
}

/// The payload, and the values that the rules derived from it.
struct Shared {
    payload: Vec<u8>,
    /// The members of the payload, parsed for the first caller that reads any.
    members: OnceLock<Map<String, Value>>,
    derived: Derived,
}

/// The values that the rules derive from the payload.
pub(super) struct Derived {
    pub(super) subject: String,
    pub(super) tier: Arc<str>,
    pub(super) roles: Vec<String>,
    pub(super) scopes: Vec<String>,
}

impl Claims {
    /// Creates claims. Only the rules call it, after they have accepted the whole token.
    pub(super) fn new(payload: Vec<u8>, derived: Derived) -> Self {
        let shared = Shared {
            payload,
            members: OnceLock::new(),
            derived,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns all members of the payload.
    fn members(&self) -> &Map<String, Value> {
        let Shared {
            payload, members, ..
        } = &*self.shared;
        // The rules have read the payload, so it is a valid object.
        members.get_or_init(|| serde_json::from_slice(payload).unwrap_or_default())
    }

    /// Returns the claim `sub`, or an empty string if the token has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.shared.derived.subject
    }

    /// Returns the caller's tier: the string in the claim
    /// [`tier_claim`](field@super::VerifierConfig::tier_claim) if it is one of
    /// [`tiers`](field@super::VerifierConfig::tiers), or else
    /// [`default_tier`](field@super::VerifierConfig::default_tier).
    #[must_use]
    pub fn tier(&self) -> &str {
        &self.shared.derived.tier
    }

    /// Returns the caller's roles, from the claim
    /// [`roles_claim`](field@super::VerifierConfig::roles_claim): a list of strings, or one string with
    /// roles separated by spaces. Empty for any other value and without the claim.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.shared.derived.roles
    }

    /// Returns the granted scopes: the claim `scope`
    /// ([RFC 9068 §2.2.3](https://www.rfc-editor.org/rfc/rfc9068#section-2.2.3)), or else `scp`. The claim
    /// has the same form as that of [`roles`](Self::roles).
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.shared.derived.scopes
    }

    /// Returns the claim at `path`, or `None` if the token has none.
    ///
    /// The first call of this method or of [`deserialize`](Self::deserialize) parses all claims.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        find(self.members(), path)
    }

    /// Deserializes all claims into `T`.
    ///
    /// # Errors
    /// Returns an error if the claims do not match `T`. The error may contain a claim's value, so do
    /// not log it.
    pub fn deserialize<'c, T: Deserialize<'c>>(&'c self) -> Result<T, serde_json::Error> {
        T::deserialize(self.members())
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.members().keys().collect();
        f.debug_tuple("Claims").field(&names).finish()
    }
}

/// Splits a dotted path into its steps. A URI is a single step, as many issuers name their own claims
/// by URIs ([RFC 7519 §4.2](https://www.rfc-editor.org/rfc/rfc7519#section-4.2)).
pub(super) fn path(dotted: &str) -> Vec<String> {
    if dotted.contains("://") {
        return vec![dotted.to_owned()];
    }
    dotted.split('.').map(str::to_owned).collect()
}

/// Returns the value at `path`.
fn find<'m>(members: &'m Map<String, Value>, path: &[impl AsRef<str>]) -> Option<&'m Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(members.get(first.as_ref())?, |value, step| {
            value.get(step.as_ref())
        })
}

/// Returns the strings of a list, or the words of one string
/// ([RFC 8693 §4.2](https://www.rfc-editor.org/rfc/rfc8693#section-4.2)). Any other value yields an empty list.
pub(super) fn words(member: Option<Member<'_>>) -> Vec<String> {
    match member {
        Some(Member::Text(words)) => {
            let words = words.split(' ').filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        }
        Some(Member::Texts(items)) => items.into_iter().map(Cow::into_owned).collect(),
        _ => Vec::new(),
    }
}
