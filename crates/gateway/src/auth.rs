//! Authentication: the JWT layers that the configuration describes.

use std::error::Error;

use indexmap::IndexMap;
use metrics::{counter, gauge};
use tower::ServiceBuilder;
use tower_fanout_http::{
    client::{Client, ClientTlsConfig},
    jwt::{
        JwtConfig, JwtLayer, KeySet, Keys, Outcome, PropagateClaimsConfig, PropagateClaimsLayer,
        Verifier,
        jwks::{FetchError, FetchOutcome, Jwks},
    },
};

use crate::{
    config::{CertFile, Config, JwksSource, Jwt, KeysConfig, Replacement, RouteAuth, StaticKey},
    router::Handler,
    telemetry,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The JWT providers by name, with their current keys. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    issuers: IndexMap<String, Issuer>,
    /// Removes the headers that any route uses for claims, if there are some.
    remove_claims: Option<PropagateClaimsLayer>,
}

/// A JWT provider with its current keys.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    keys: Keys,
    /// The JWKS poller and its client. `None` if the keys are static.
    jwks: Option<(Jwks, Client)>,
    config: Jwt,
}

impl Auth {
    /// Creates the providers of `config` and starts to poll their JWKS. Returns after the first fetch of
    /// each.
    ///
    /// # Errors
    /// Returns an error if a key or the rules of a provider are invalid, or if a JWKS with `start: fail`
    /// cannot be fetched.
    pub(crate) async fn start(config: &Config) -> Result<Self, BoxError> {
        // Installs the recorder first, so that the first fetch is counted too.
        let _ = telemetry::metrics();
        let mut issuers = IndexMap::new();
        for (name, jwt) in &config.jwt {
            let issuer = Issuer::start(name, jwt).await;
            // The error is printed by `run` on one line, so it names its key in the file.
            let issuer = issuer.map_err(|error| format!("auth.jwt.{name}: {error}"))?;
            issuers.insert(name.clone(), issuer);
        }
        Ok(Self {
            issuers,
            remove_claims: remove_claims(config),
        })
    }

    /// Updates the gauges with the age of the fetched keys.
    pub(crate) fn measure(&self) {
        for (name, issuer) in &self.issuers {
            let jwks = issuer.jwks.as_ref();
            if let Some(age) = jwks.and_then(|(jwks, _)| jwks.age()) {
                gauge!("fanout_jwks_age_seconds", "issuer" => name.clone()).set(age.as_secs_f64());
            }
        }
    }

    /// Returns the providers by name.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = (&str, &Issuer)> {
        self.issuers.iter().map(|(name, issuer)| (&**name, issuer))
    }

    /// Protects `handler` with the checks of `auth`. `None` leaves it open to every caller.
    ///
    /// No caller can send a header that any route uses for a claim, because routes share downstreams.
    ///
    /// # Panics
    /// Panics if `auth` names an unknown provider, or providers that share an issuer. A validated
    /// configuration does neither.
    pub(crate) fn protect(&self, auth: Option<&RouteAuth>, handler: Handler) -> Handler {
        if auth.is_none() && self.remove_claims.is_none() {
            return handler;
        }
        let protected = ServiceBuilder::new()
            .option_layer(self.remove_claims.clone())
            // The token is checked before claims are copied.
            .option_layer(auth.map(|auth| self.layer(auth)))
            .option_layer(auth.map(|auth| claims_layer(auth.propagate_claims.clone())))
            .service(handler);
        Handler::of(protected)
    }

    /// Builds the layer that requires a token of one of the providers in `auth`.
    fn layer(&self, auth: &RouteAuth) -> JwtLayer {
        let issuers: Vec<_> = auth.jwt.iter().map(|name| &self.issuers[name]).collect();
        let (first, others) = issuers
            .split_first()
            .expect("a route names at least one provider");
        let trusted = Verifier::new(first.keys.clone(), first.config.verifier.clone());
        let trusted = others.iter().fold(trusted, |trusted, other| {
            trusted?.or(other.keys.clone(), other.config.verifier.clone())
        });
        let verifier = trusted.expect("the providers of a route share no issuer");
        let all = |flag: fn(&JwtConfig) -> bool| {
            let mut responses = issuers.iter().map(|issuer| &issuer.config.responses);
            responses.all(flag)
        };
        let config = (first.config.responses.clone())
            // The strictest provider decides, because a token may be of any of them.
            .reveal_expired(all(|responses| responses.reveal_expired))
            .skip_preflight(all(|responses| responses.skip_preflight))
            .any_role(auth.any_role.iter().cloned())
            .all_scopes(auth.all_scopes.iter().cloned());
        let layer =
            JwtLayer::new(verifier, config).expect("the realm is validated with the configuration");
        layer.on_outcome(count)
    }
}

fn claims_layer(config: PropagateClaimsConfig) -> PropagateClaimsLayer {
    PropagateClaimsLayer::new(config).expect("the claims are validated with the configuration")
}

/// Returns a layer for requests without verified claims. It removes the headers that any route uses for claims.
fn remove_claims(config: &Config) -> Option<PropagateClaimsLayer> {
    let mut all = PropagateClaimsConfig::default();
    for propagated in config
        .plans()
        .filter_map(|plan| plan.auth.as_ref())
        .flat_map(|auth| &auth.propagate_claims.claims)
    {
        if all
            .claims
            .iter()
            .all(|known| known.header != propagated.header)
        {
            all.claims.push(propagated.clone());
        }
    }
    (!all.claims.is_empty()).then(|| claims_layer(all))
}

impl Issuer {
    async fn start(name: &str, config: &Jwt) -> Result<Self, BoxError> {
        let (keys, jwks): (Keys, _) = match &config.keys {
            KeysConfig::Given { keys, .. } => {
                let keys = keys.iter().map(|one| one.key().clone());
                (KeySet::new(keys)?.into(), None)
            }
            KeysConfig::Fetched(source) => {
                let (jwks, client) = fetch(name, source).await?;
                (jwks.clone().into(), Some((jwks, client)))
            }
        };
        // Validated here, because the layers of a route are built where errors can no longer be returned.
        Verifier::new(keys.clone(), config.verifier.clone())?;
        Ok(Self {
            keys,
            jwks,
            config: config.clone(),
        })
    }

    /// Returns `true` if a key or a CA certificate of the provider is in a file.
    pub(crate) fn has_files(&self) -> bool {
        match &self.config.keys {
            KeysConfig::Given { keys, .. } => keys.iter().any(StaticKey::is_in_file),
            KeysConfig::Fetched(source) => !source.tls_files.is_empty(),
        }
    }

    /// Returns the files with CA certificates for the JWKS.
    pub(crate) fn files(&self) -> impl Iterator<Item = &CertFile> {
        let source = match &self.config.keys {
            KeysConfig::Given { .. } => None,
            KeysConfig::Fetched(source) => Some(source),
        };
        source
            .into_iter()
            .flat_map(|source| source.tls_files.files())
    }

    /// Reads the files of the keys, or of the CA certificates for the JWKS.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid.
    pub(crate) fn read(&self) -> Result<Replacement<'_>, BoxError> {
        match (&self.config.keys, &self.jwks) {
            (KeysConfig::Fetched(source), Some((_, client))) => source
                .tls_files
                .read(ClientTlsConfig::default(), |tls| client.replace_tls(tls)),
            (KeysConfig::Given { keys, .. }, _) => {
                let keys: Result<Vec<_>, _> = keys.iter().map(StaticKey::read).collect();
                let keys = KeySet::new(keys?)?;
                Ok(Box::new(move || {
                    self.keys.replace(keys);
                    Ok(())
                }))
            }
            // `start` creates a poller for each provider with fetched keys.
            (KeysConfig::Fetched(_), None) => Ok(Box::new(|| Ok(()))),
        }
    }
}

/// Starts to poll the JWKS of the provider `name`, and counts the fetches by outcome and kind of error.
async fn fetch(name: &str, source: &JwksSource) -> Result<(Jwks, Client), BoxError> {
    let config = source.config.clone().issuer(name.to_owned());
    let issuer = name.to_owned();
    let count = move |fetched: Result<(), &FetchError>| {
        let outcome = fetched.map_or_else(FetchError::outcome, |()| FetchOutcome::Ok);
        // An empty label is the same as none.
        let kind = fetched.err().and_then(FetchError::kind).unwrap_or_default();
        let (issuer, outcome) = (issuer.clone(), outcome.as_str());
        counter!("fanout_jwks_fetch_total", "issuer" => issuer, "outcome" => outcome, "kind" => kind)
            .increment(1);
    };
    let client = source.client()?;
    let jwks = Jwks::start_with(client.clone(), &source.url, config, count).await?;
    Ok((jwks, client))
}

fn count(outcome: Outcome) {
    let (outcome, reason) = (outcome.as_str(), outcome.reason());
    counter!("fanout_auth_total", "outcome" => outcome, "reason" => reason).increment(1);
}
