//! Who may ask: the JWT layers that the configuration describes.

use std::error::Error;

use axum::routing::MethodRouter;
use indexmap::IndexMap;
use metrics::{counter, gauge};
use tower_fanout_http::jwt::{
    InvalidRules, JwtLayer, KeySet, Keys, Outcome, Rules, Verifier,
    jwks::{FetchOutcome, Jwks},
};

use crate::{
    config::{Config, JwksConfig, Jwt, KeyConfig, KeysConfig, RouteAuth},
    telemetry,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Whom to believe, by name, with their keys at hand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    issuers: IndexMap<String, Issuer>,
}

#[derive(Clone, Debug)]
struct Issuer {
    keys: Keys,
    /// What fetches the keys, if they are not given.
    jwks: Option<Jwks>,
    rules: Rules,
    realm: String,
    reveal_expired: bool,
    skip_preflight: bool,
}

impl Auth {
    /// Everybody whom `config` believes. Keys that issuers publish are fetched from here on, and for the
    /// first time before this returns.
    ///
    /// # Errors
    /// A key cannot be used, rules would believe too much, or keys could not be fetched and the
    /// configuration says that a start without them fails.
    pub async fn start(config: &Config) -> Result<Self, BoxError> {
        // The first fetch is counted too.
        let _ = telemetry::metrics();
        let mut issuers = IndexMap::new();
        for (name, jwt) in &config.jwt {
            let issuer = Issuer::start(name, jwt, config).await;
            let issuer = issuer.map_err(|error| format!("auth.jwt.{name}: {error}"))?;
            issuers.insert(name.clone(), issuer);
        }
        Ok(Self { issuers })
    }

    /// Measures how old the keys are that were fetched.
    pub fn measure(&self) {
        for (name, issuer) in &self.issuers {
            if let Some(age) = issuer.jwks.as_ref().and_then(Jwks::age) {
                gauge!("fanout_jwks_age_seconds", "issuer" => name.clone()).set(age.as_secs_f64());
            }
        }
    }

    /// `handler`, for those only whom `auth` lets through.
    ///
    /// # Panics
    /// If `auth` names what is not configured, or an issuer twice, which a checked configuration does
    /// not.
    pub fn protect(&self, auth: Option<&RouteAuth>, handler: MethodRouter) -> MethodRouter {
        match auth {
            None => handler,
            // The last is the first to see a request.
            Some(auth) => handler
                .route_layer(auth.propagate_claims.clone())
                .route_layer(self.layer(auth)),
        }
    }

    /// The layer that asks for a token of one of the issuers that `auth` names.
    fn layer(&self, auth: &RouteAuth) -> JwtLayer {
        let issuers: Vec<_> = auth.jwt.iter().map(|name| &self.issuers[name]).collect();
        let (first, others) = issuers.split_first().expect("a route names an issuer");
        let verifier = others.iter().fold(first.verifier(), |verifier, other| {
            verifier
                .or(other.keys.clone(), other.rules.clone())
                .expect("each issuer has one set of keys")
        });
        JwtLayer::new(verifier)
            .realm(&first.realm)
            .reveal_expired(issuers.iter().all(|issuer| issuer.reveal_expired))
            .skip_preflight(issuers.iter().all(|issuer| issuer.skip_preflight))
            .any_role(auth.any_role.iter().cloned())
            .all_scopes(auth.all_scopes.iter().cloned())
            .on_outcome(count)
    }
}

impl Issuer {
    async fn start(name: &str, jwt: &Jwt, config: &Config) -> Result<Self, BoxError> {
        let (keys, jwks) = match &jwt.keys {
            KeysConfig::Given(keys) => {
                let keys: Result<Vec<_>, _> = keys.iter().map(KeyConfig::key).collect();
                (KeySet::new(keys?)?.into(), None)
            }
            KeysConfig::Fetched(source) => {
                let jwks = fetch(name.to_owned(), source).await?;
                (jwks.clone().into(), Some(jwks))
            }
        };
        Ok(Self {
            keys,
            jwks,
            rules: rules(jwt, config)?,
            realm: jwt.realm.clone(),
            reveal_expired: jwt.reveal_expired,
            skip_preflight: jwt.skip_preflight,
        })
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(self.keys.clone(), self.rules.clone())
    }
}

/// Fetches the keys of the issuer of this name, and counts how each fetch ends.
async fn fetch(name: String, source: &JwksConfig) -> Result<Jwks, BoxError> {
    let count = move |outcome: FetchOutcome| {
        let (issuer, outcome) = (name.clone(), outcome.as_str());
        counter!("fanout_jwks_fetch_total", "issuer" => issuer, "outcome" => outcome).increment(1);
    };
    let policy = source.policy.clone();
    Ok(Jwks::start_with(source.client()?, &source.url, policy, count).await?)
}

fn rules(jwt: &Jwt, config: &Config) -> Result<Rules, InvalidRules> {
    let claim = jwt.tier_claim.as_deref().unwrap_or_default();
    let mut rules = Rules::new(jwt.issuers.clone(), jwt.audiences.clone())?
        .leeway(jwt.leeway)?
        .require_jti(jwt.require_jti)
        .tier(claim, config.tiers.keys(), &jwt.default_tier);
    if let Some(claim) = &jwt.roles_claim {
        rules = rules.roles(claim);
    }
    if let Some(age) = jwt.max_age {
        rules = rules.max_age(age);
    }
    if let Some(typ) = &jwt.require_typ {
        rules = rules.require_typ(typ);
    }
    Ok(rules)
}

fn count(outcome: Outcome) {
    let (outcome, reason) = (outcome.as_str(), outcome.reason());
    counter!("fanout_auth_total", "outcome" => outcome, "reason" => reason).increment(1);
}
