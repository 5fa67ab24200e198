//! What a token says, and the rules by which it is believed.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::refusal::{Reason, Refusal};

/// The latest time that is believed: the year 9999, in seconds since 1970.
const LATEST: f64 = 253_402_300_799.0;

/// Who a valid token must be from and for, and what is read from it.
#[derive(Clone, Debug)]
pub struct Rules {
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    tier_claim: Option<Vec<String>>,
    tiers: Vec<String>,
    default_tier: Arc<str>,
    roles_claim: Vec<String>,
}

/// Rules that would believe too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRules(&'static str);

impl fmt::Display for InvalidRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for InvalidRules {}

impl Rules {
    /// Tokens of these issuers, for one of these audiences.
    ///
    /// # Errors
    /// One of the two is empty: then a token from or for anybody would do.
    pub fn new<S: Into<String>>(
        issuers: impl IntoIterator<Item = S>,
        audiences: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidRules> {
        let issuers: Vec<_> = issuers.into_iter().map(Into::into).collect();
        let audiences: Vec<_> = audiences.into_iter().map(Into::into).collect();
        if issuers.is_empty() {
            return Err(InvalidRules("at least one issuer must be named"));
        }
        if audiences.is_empty() {
            return Err(InvalidRules("at least one audience must be named"));
        }
        Ok(Self {
            issuers,
            audiences,
            leeway: Duration::from_secs(30),
            tier_claim: None,
            tiers: Vec::new(),
            default_tier: "default".into(),
            roles_claim: vec!["roles".into()],
        })
    }

    /// How far clocks may be apart; 30 s by default.
    ///
    /// # Errors
    /// It is more than 300 s.
    pub fn leeway(mut self, leeway: Duration) -> Result<Self, InvalidRules> {
        if leeway > Duration::from_secs(300) {
            return Err(InvalidRules("the leeway is at most 300 s"));
        }
        self.leeway = leeway;
        Ok(self)
    }

    /// Reads the caller's tier from `claim`, a path with dots. A tier that is not one of `tiers`, or
    /// none, is `default`.
    #[must_use]
    pub fn tier(
        mut self,
        claim: &str,
        tiers: impl IntoIterator<Item = impl Into<String>>,
        default: &str,
    ) -> Self {
        self.tier_claim = Some(path(claim));
        self.tiers = tiers.into_iter().map(Into::into).collect();
        self.default_tier = default.into();
        self
    }

    /// Reads the caller's roles from `claim`, a path with dots; `roles` by default.
    #[must_use]
    pub fn roles(mut self, claim: &str) -> Self {
        self.roles_claim = path(claim);
        self
    }

    /// Believes the claims in `payload` at `now`, or not.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, payload: &[u8], now: SystemTime) -> Result<Claims, Refusal> {
        let members = object(payload, 32).filter(|members| members.len() <= 64);
        let members = members.ok_or(Refusal(Reason::Claims))?;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        self.check_times(&members, now)?;
        match members.get("iss") {
            Some(Value::String(issuer)) if self.issuers.contains(issuer) => {}
            _ => return Err(Refusal(Reason::Issuer)),
        }
        if !self.is_audience(members.get("aud")) {
            return Err(Refusal(Reason::Audience));
        }
        let tier = self.tier_of(&members);
        let roles = find(&members, &self.roles_claim)
            .map(words)
            .unwrap_or_default();
        Ok(Claims {
            shared: Arc::new(Shared {
                members,
                tier,
                roles,
            }),
        })
    }

    fn check_times(&self, members: &Map<String, Value>, now: f64) -> Result<(), Refusal> {
        let leeway = self.leeway.as_secs_f64();
        let time = |name, reason| match members.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(time) if (0.0..=LATEST).contains(&time) => Ok(Some(time)),
                _ => Err(Refusal(reason)),
            },
        };
        match time("exp", Reason::Expired)? {
            Some(expires) if now <= expires + leeway => {}
            _ => return Err(Refusal(Reason::Expired)),
        }
        if time("nbf", Reason::NotBefore)?.is_some_and(|from| now + leeway < from) {
            return Err(Refusal(Reason::NotBefore));
        }
        if time("iat", Reason::IssuedAt)?.is_some_and(|issued| now + leeway < issued) {
            return Err(Refusal(Reason::IssuedAt));
        }
        Ok(())
    }

    fn is_audience(&self, claim: Option<&Value>) -> bool {
        let ours = |audience: &String| self.audiences.contains(audience);
        match claim {
            Some(Value::String(audience)) => ours(audience),
            Some(Value::Array(all)) => {
                all.iter().all(Value::is_string)
                    && all
                        .iter()
                        .any(|one| matches!(one, Value::String(one) if ours(one)))
            }
            _ => false,
        }
    }

    fn tier_of(&self, members: &Map<String, Value>) -> Arc<str> {
        let claimed = self
            .tier_claim
            .as_ref()
            .and_then(|claim| find(members, claim)?.as_str());
        match claimed {
            Some(tier) if self.tiers.iter().any(|known| known == tier) => tier.into(),
            _ => Arc::clone(&self.default_tier),
        }
    }
}

fn path(dotted: &str) -> Vec<String> {
    dotted.split('.').map(str::to_owned).collect()
}

fn find<'m>(members: &'m Map<String, Value>, path: &[impl AsRef<str>]) -> Option<&'m Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(members.get(first.as_ref())?, |value, step| {
            value.get(step.as_ref())
        })
}

/// A list of strings, or one string of words ([RFC 8693 §4.2](https://www.rfc-editor.org/rfc/rfc8693#section-4.2));
/// anything else is nothing.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(words) => words
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        Value::Array(items) if items.iter().all(Value::is_string) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// What a valid token says. In the request's extensions only if the whole token was believed; cheap
/// to clone, and `Debug` shows no values.
#[derive(Clone)]
pub struct Claims {
    shared: Arc<Shared>,
}

struct Shared {
    members: Map<String, Value>,
    tier: Arc<str>,
    roles: Vec<String>,
}

impl Claims {
    /// Who the token is about; empty if it does not say.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.shared
            .members
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The caller's tier.
    #[must_use]
    pub fn tier(&self) -> &str {
        &self.shared.tier
    }

    /// The caller's roles.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.shared.roles
    }

    /// The claim at `path`.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        find(&self.shared.members, path)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.shared.members.keys().collect();
        f.debug_tuple("Claims").field(&names).finish()
    }
}

/// Reads an object of unique members, nested no deeper than `depth`.
pub(super) fn object(text: &[u8], depth: usize) -> Option<Map<String, Value>> {
    struct Unique(Map<String, Value>);
    impl<'de> Deserialize<'de> for Unique {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Members)
        }
    }
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Unique;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
            let mut members = Map::new();
            while let Some((name, value)) = map.next_entry()? {
                if members.insert(name, value).is_some() {
                    return Err(A::Error::custom("a member stands twice"));
                }
            }
            Ok(Unique(members))
        }
    }
    if crate::json::depth(text) > depth {
        return None;
    }
    serde_json::from_slice(text)
        .ok()
        .map(|Unique(members)| members)
}
