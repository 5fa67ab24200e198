//! Validation of the claims of a token.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use tower_fanout_layers::config::{ConfigError, Validate};

use super::{
    claims::{Claims, Derived, path, words},
    config::VerifierConfig,
    jose::{Header, Jws},
    object::{Member, Paths, object},
    reason::Reason,
};

/// Latest accepted time: the end of the year 9999, in seconds since 1970.
const LATEST: f64 = 253_402_300_799.0;
/// Maximum nesting of a payload.
const MAX_DEPTH: usize = 32;
/// Maximum number of top-level claims in a payload.
const MAX_CLAIMS: usize = 64;

/// Claims that the rules read by fixed names, in the order of [`Rules::paths`].
const NAMES: [&str; 9] = [
    "exp", "nbf", "iat", "iss", "aud", "sub", "jti", "scope", "scp",
];

/// A valid [`VerifierConfig`], prepared for checking tokens.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    config: VerifierConfig,
    tiers: Vec<Arc<str>>,
    default_tier: Arc<str>,
    /// Paths of the claims to read: [`NAMES`], then the tier, whose path may be empty, and the roles.
    paths: Paths<{ NAMES.len() + 2 }>,
}

impl Rules {
    /// Prepares `config` for checking tokens.
    ///
    /// # Errors
    /// Returns the first invalid value of `config`.
    pub(super) fn new(config: VerifierConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        let [exp, nbf, iat, iss, aud, sub, jti, scope, scp] =
            NAMES.map(|name| vec![name.to_owned()]);
        let tier = config.tier_claim.as_deref().map(path).unwrap_or_default();
        let roles = path(&config.roles_claim);
        Ok(Self {
            tiers: config
                .tiers
                .iter()
                .map(|tier| tier.as_str().into())
                .collect(),
            default_tier: config.default_tier.as_str().into(),
            paths: Paths::new([exp, nbf, iat, iss, aud, sub, jti, scope, scp, tier, roles]),
            config,
        })
    }

    /// Returns `true` if these rules accept tokens of `issuer`.
    pub(super) fn is_issuer(&self, issuer: &str) -> bool {
        self.config
            .issuers
            .iter()
            .any(|accepted| accepted == issuer)
    }

    /// Returns `true` if an issuer is listed both here and in `other`.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.config
            .issuers
            .iter()
            .any(|issuer| other.is_issuer(issuer))
    }

    /// Returns the claims of `jws` if they are valid at `now`.
    ///
    /// Expiration is checked last, because a caller may learn of it only if the token is otherwise
    /// valid.
    ///
    /// # Errors
    /// Returns the first rule that the token violates.
    pub(super) fn check(&self, jws: Jws<'_>, now: SystemTime) -> Result<Claims, Reason> {
        let Jws { header, payload } = jws;
        self.check_type(&header)?;
        let derived = self.check_payload(&payload, now)?;
        Ok(Claims::new(payload, derived))
    }

    fn check_payload(&self, payload: &[u8], now: SystemTime) -> Result<Derived, Reason> {
        // The strict parser runs only on a payload whose signature is valid.
        let mut found = [const { None }; NAMES.len() + 2];
        let claims = object(payload, MAX_DEPTH, &self.paths, &mut found);
        if claims.is_none_or(|claims| claims > MAX_CLAIMS) {
            return Err(Reason::Claims);
        }
        let [exp, nbf, iat, iss, aud, sub, jti, scope, scp, tier, roles] = found;
        // A clock before 1970 is read as 1970.
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let expires = self.check_times([exp, nbf, iat], since_1970)?;
        match iss {
            Some(Member::Text(issuer)) if self.is_issuer(&issuer) => {}
            _ => return Err(Reason::Issuer),
        }
        if !self.is_audience(aud) {
            return Err(Reason::Audience);
        }
        let subject = name(sub)?;
        self.check_id(name(jti)?.as_deref(), now)?;
        if since_1970 > expires + self.config.leeway.as_secs_f64() {
            return Err(Reason::Expired);
        }
        Ok(Derived {
            subject: subject.unwrap_or_default().into_owned(),
            tier: self.tier_of(tier),
            roles: words(roles),
            // Some issuers send `scp` in place of `scope`.
            scopes: words(scope.or(scp)),
        })
    }

    fn check_type(&self, header: &Header<'_>) -> Result<(), Reason> {
        let Some(required) = &self.config.require_typ else {
            return Ok(());
        };
        match header.typ() {
            Some(typ) if bare_type(typ).eq_ignore_ascii_case(bare_type(required)) => Ok(()),
            _ => Err(Reason::Type),
        }
    }

    /// Checks `exp`, `nbf` and `iat`. Returns `exp`, which the caller compares with the time.
    fn check_times(
        &self,
        [exp, nbf, iat]: [Option<Member<'_>>; 3],
        now: f64,
    ) -> Result<f64, Reason> {
        let leeway = self.config.leeway.as_secs_f64();
        let expires = time(exp, Reason::Expiry)?.ok_or(Reason::Expiry)?;
        if time(nbf, Reason::NotBefore)?.is_some_and(|from| now + leeway < from) {
            return Err(Reason::NotBefore);
        }
        let issued = time(iat, Reason::IssuedAt)?;
        let in_future = issued.is_some_and(|issued| now + leeway < issued);
        let too_old = self.config.max_age.is_some_and(|max_age| {
            let oldest = now - leeway - max_age.as_secs_f64();
            // Without `iat` the age is unknown.
            issued.is_none_or(|issued| issued < oldest)
        });
        if in_future || too_old {
            return Err(Reason::IssuedAt);
        }
        Ok(expires)
    }

    /// Returns `true` if `claim` contains an accepted audience. One value of another type makes the
    /// whole claim invalid.
    fn is_audience(&self, claim: Option<Member<'_>>) -> bool {
        let accepted = |audience: &Cow<'_, str>| {
            let mut audiences = self.config.audiences.iter();
            audiences.any(|accepted| accepted == audience)
        };
        match claim {
            Some(Member::Text(audience)) => accepted(&audience),
            Some(Member::Texts(all)) => all.iter().any(accepted),
            _ => false,
        }
    }

    fn check_id(&self, id: Option<&str>, now: SystemTime) -> Result<(), Reason> {
        match (id, &self.config.deny_list) {
            (None, _) if self.config.require_jti => Err(Reason::Claims),
            (Some(id), Some(list)) if list.contains(id, now) => Err(Reason::Revoked),
            _ => Ok(()),
        }
    }

    fn tier_of(&self, claim: Option<Member<'_>>) -> Arc<str> {
        let known = match &claim {
            Some(Member::Text(tier)) => self.tiers.iter().find(|known| ***known == **tier),
            _ => None,
        };
        if known.is_none() && claim.is_some() {
            tracing::debug!("the token's tier is unknown, using the default tier");
        }
        Arc::clone(known.unwrap_or(&self.default_tier))
    }
}

/// Returns the claim as seconds since 1970, or `None` without the claim.
fn time(claim: Option<Member<'_>>, reason: Reason) -> Result<Option<f64>, Reason> {
    match claim {
        None => Ok(None),
        // The range also excludes numbers that are too large for later sums.
        Some(Member::Number(time)) if (0.0..=LATEST).contains(&time) => Ok(Some(time)),
        Some(_) => Err(reason),
    }
}

/// Returns `sub` or `jti`, which must be strings if present
/// ([RFC 7519 §4.1](https://www.rfc-editor.org/rfc/rfc7519#section-4.1)).
fn name(claim: Option<Member<'_>>) -> Result<Option<Cow<'_, str>>, Reason> {
    match claim {
        None => Ok(None),
        Some(Member::Text(name)) => Ok(Some(name)),
        Some(_) => Err(Reason::Claims),
    }
}

/// Strips `application/` from a media type, where the prefix is optional
/// ([RFC 7515 §4.1.9](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9)).
fn bare_type(typ: &str) -> &str {
    match typ.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    }
}
