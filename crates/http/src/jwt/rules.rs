//! The rules by which a token is believed.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Map, Value};

use super::{
    claims::{Claims, Shared, find, path, words},
    denylist::DenyList,
    jose::Verified,
    object::object,
    refusal::{Reason, Refusal},
};

/// The latest time that is believed: the year 9999, in seconds since 1970.
const LATEST: f64 = 253_402_300_799.0;
/// The most that clocks may be apart.
pub(super) const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The deepest nesting of a payload.
const MAX_DEPTH: usize = 32;
/// The most claims at the top of a payload.
const MAX_CLAIMS: usize = 64;

/// Who a valid token must be from and for, and what is read from it.
#[derive(Clone, Debug)]
pub struct Rules {
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: Duration,
    max_age: Option<Duration>,
    typ: Option<String>,
    require_jti: bool,
    deny_list: Option<DenyList>,
    tier_claim: Option<Vec<String>>,
    tiers: Vec<String>,
    default_tier: Arc<str>,
    roles_claim: Vec<String>,
}

/// Rules that would believe too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRules(pub(super) &'static str);

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
            max_age: None,
            typ: None,
            require_jti: false,
            deny_list: None,
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
        if leeway > MAX_LEEWAY {
            return Err(InvalidRules("the leeway is at most 300 s"));
        }
        self.leeway = leeway;
        Ok(self)
    }

    /// Refuses tokens that were issued longer ago, or do not say when; by default any age will do.
    #[must_use]
    pub const fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Refuses tokens of another type, such as `at+jwt` for access tokens
    /// ([RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)); by default any type will do.
    /// Case does not count, and neither does `application/` in front.
    #[must_use]
    pub fn require_typ(mut self, typ: &str) -> Self {
        self.typ = Some(bare_type(typ).to_owned());
        self
    }

    /// Whether a token must have an id, the claim `jti`; no by default.
    #[must_use]
    pub const fn require_jti(mut self, require: bool) -> Self {
        self.require_jti = require;
        self
    }

    /// Refuses tokens whose `jti` is in `list`; see also [`require_jti`](Self::require_jti), since
    /// what has no id cannot be found there.
    #[must_use]
    pub fn deny_list(mut self, list: DenyList) -> Self {
        self.deny_list = Some(list);
        self
    }

    /// Reads the caller's tier from `claim`, a path with dots, or a URI as a whole. A tier that is not one of `tiers`, or
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

    /// Reads the caller's roles from `claim`, a path with dots, or a URI as a whole; `roles` by default.
    #[must_use]
    pub fn roles(mut self, claim: &str) -> Self {
        self.roles_claim = path(claim);
        self
    }

    /// Whether these are rules for tokens of `issuer`.
    pub(super) fn is_issuer(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|ours| ours == issuer)
    }

    /// Whether an issuer has rules here and in `other`.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.issuers.iter().any(|issuer| other.is_issuer(issuer))
    }

    /// Believes what `verified` says at `now`, or not.
    ///
    /// That it has expired is looked at last: a caller may be told of it only if all else is right.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, verified: &Verified, now: SystemTime) -> Result<Claims, Refusal> {
        self.check_type(&verified.header)?;
        let members = object(&verified.payload, MAX_DEPTH);
        let members = members
            .filter(|members| members.len() <= MAX_CLAIMS)
            .ok_or(Refusal(Reason::Claims))?;
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let expires = self.check_times(&members, since_1970)?;
        match members.get("iss") {
            Some(Value::String(issuer)) if self.is_issuer(issuer) => {}
            _ => return Err(Refusal(Reason::Issuer)),
        }
        if !self.is_audience(members.get("aud")) {
            return Err(Refusal(Reason::Audience));
        }
        self.check_names(&members, now)?;
        if since_1970 > expires + self.leeway.as_secs_f64() {
            return Err(Refusal(Reason::Expired));
        }
        Ok(self.read(members))
    }

    fn check_type(&self, header: &Map<String, Value>) -> Result<(), Refusal> {
        let Some(required) = &self.typ else {
            return Ok(());
        };
        match header.get("typ") {
            Some(Value::String(typ)) if bare_type(typ).eq_ignore_ascii_case(required) => Ok(()),
            _ => Err(Refusal(Reason::Type)),
        }
    }

    /// Checks what is said of times; when the token expires is left to the caller.
    fn check_times(&self, members: &Map<String, Value>, now: f64) -> Result<f64, Refusal> {
        let leeway = self.leeway.as_secs_f64();
        let time = |name, reason| match members.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(time) if (0.0..=LATEST).contains(&time) => Ok(Some(time)),
                _ => Err(Refusal(reason)),
            },
        };
        let expires = time("exp", Reason::Expiry)?.ok_or(Refusal(Reason::Expiry))?;
        if time("nbf", Reason::NotBefore)?.is_some_and(|from| now + leeway < from) {
            return Err(Refusal(Reason::NotBefore));
        }
        let issued = time("iat", Reason::IssuedAt)?;
        let in_future = issued.is_some_and(|issued| now + leeway < issued);
        let too_old = self.max_age.is_some_and(|max_age| {
            let oldest = now - leeway - max_age.as_secs_f64();
            issued.is_none_or(|issued| issued < oldest)
        });
        if in_future || too_old {
            return Err(Refusal(Reason::IssuedAt));
        }
        Ok(expires)
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

    /// Checks whom the token is about and what it is called: both are strings
    /// ([RFC 7519 §4.1](https://www.rfc-editor.org/rfc/rfc7519#section-4.1)).
    fn check_names(&self, members: &Map<String, Value>, now: SystemTime) -> Result<(), Refusal> {
        let name = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(Refusal(Reason::Claims)),
        };
        name("sub")?;
        match (name("jti")?, &self.deny_list) {
            (None, _) if self.require_jti => Err(Refusal(Reason::Claims)),
            (Some(id), Some(list)) if list.contains(id, now) => Err(Refusal(Reason::Revoked)),
            _ => Ok(()),
        }
    }

    fn read(&self, members: Map<String, Value>) -> Claims {
        let roles = find(&members, &self.roles_claim).map(words);
        let scopes = members.get("scope").or_else(|| members.get("scp"));
        let scopes = scopes.map(words);
        Claims::new(Shared {
            tier: self.tier_of(&members),
            roles: roles.unwrap_or_default(),
            scopes: scopes.unwrap_or_default(),
            members,
        })
    }

    fn tier_of(&self, members: &Map<String, Value>) -> Arc<str> {
        let claim = self.tier_claim.as_ref();
        match claim.and_then(|claim| find(members, claim)) {
            Some(Value::String(tier)) if self.tiers.contains(tier) => tier.as_str().into(),
            claimed => {
                if claimed.is_some() {
                    tracing::debug!("a token names an unknown tier: the default is taken");
                }
                Arc::clone(&self.default_tier)
            }
        }
    }
}

/// A media type without its `application/`, which may be left out
/// ([RFC 7515 §4.1.9](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9)).
fn bare_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    }
}
