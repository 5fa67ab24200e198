//! Who may ask: the JWT layers that the configuration describes.

use std::error::Error;

use axum::routing::MethodRouter;
use indexmap::IndexMap;
use metrics::{counter, gauge};
use tower_fanout_http::jwt::{
    JwtConfig, JwtLayer, KeySet, Keys, Outcome, Verifier, VerifierConfig,
    jwks::{FetchOutcome, Jwks},
};

use crate::{
    config::{Config, JwksSource, Jwt, KeyConfig, KeysConfig, RouteAuth},
    telemetry,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// Whom to believe, by name, with their keys at hand. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    issuers: IndexMap<String, Issuer>,
}

#[derive(Clone, Debug)]
struct Issuer {
    keys: Keys,
    /// What fetches the keys, if they are not given.
    jwks: Option<Jwks>,
    verifier: VerifierConfig,
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
    pub(crate) async fn start(config: &Config) -> Result<Self, BoxError> {
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
    pub(crate) fn measure(&self) {
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
    pub(crate) fn protect(&self, auth: Option<&RouteAuth>, handler: MethodRouter) -> MethodRouter {
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
        let trusted = Verifier::new(first.keys.clone(), first.verifier.clone());
        let trusted = others.iter().fold(trusted, |trusted, other| {
            trusted?.or(other.keys.clone(), other.verifier.clone())
        });
        let verifier = trusted.expect("each issuer has one set of keys");
        let config = JwtConfig::default()
            .realm(&*first.realm)
            .reveal_expired(issuers.iter().all(|issuer| issuer.reveal_expired))
            .skip_preflight(issuers.iter().all(|issuer| issuer.skip_preflight))
            .any_role(auth.any_role.iter().cloned())
            .all_scopes(auth.all_scopes.iter().cloned());
        let layer = JwtLayer::new(verifier, config).expect("a realm that was checked");
        layer.on_outcome(count)
    }
}

impl Issuer {
    async fn start(name: &str, jwt: &Jwt, config: &Config) -> Result<Self, BoxError> {
        let (keys, jwks): (Keys, _) = match &jwt.keys {
            KeysConfig::Given(keys) => {
                let keys: Result<Vec<_>, _> = keys.iter().map(KeyConfig::key).collect();
                (KeySet::new(keys?)?.into(), None)
            }
            KeysConfig::Fetched(source) => {
                let jwks = fetch(name.to_owned(), source).await?;
                (jwks.clone().into(), Some(jwks))
            }
        };
        let verifier = verifier(jwt, config);
        // Checked here, since a route's layers are built where nothing may fail any more.
        Verifier::new(keys.clone(), verifier.clone())?;
        Ok(Self {
            keys,
            jwks,
            verifier,
            realm: jwt.realm.clone(),
            reveal_expired: jwt.reveal_expired,
            skip_preflight: jwt.skip_preflight,
        })
    }
}

/// Fetches the keys of the issuer of this name, and counts how each fetch ends.
async fn fetch(name: String, source: &JwksSource) -> Result<Jwks, BoxError> {
    let count = move |outcome: FetchOutcome| {
        let (issuer, outcome) = (name.clone(), outcome.as_str());
        counter!("fanout_jwks_fetch_total", "issuer" => issuer, "outcome" => outcome).increment(1);
    };
    let config = source.config.clone();
    Ok(Jwks::start_with(source.client()?, &source.url, config, count).await?)
}

fn verifier(jwt: &Jwt, config: &Config) -> VerifierConfig {
    let mut verifier = VerifierConfig::new(jwt.issuers.clone(), jwt.audiences.clone())
        .leeway(jwt.leeway)
        .require_jti(jwt.require_jti)
        .max_age(jwt.max_age);
    verifier.require_typ.clone_from(&jwt.require_typ);
    verifier.tier_claim.clone_from(&jwt.tier_claim);
    verifier.tiers = config.tiers.keys().cloned().collect();
    verifier.default_tier.clone_from(&jwt.default_tier);
    if let Some(claim) = &jwt.roles_claim {
        verifier.roles_claim.clone_from(claim);
    }
    verifier
}

fn count(outcome: Outcome) {
    let (outcome, reason) = (outcome.as_str(), outcome.reason());
    counter!("fanout_auth_total", "outcome" => outcome, "reason" => reason).increment(1);
}
