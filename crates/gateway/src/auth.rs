//! Who may ask: the JWT layers that the configuration describes.

use std::{error::Error, sync::Arc};

use axum::routing::MethodRouter;
use indexmap::IndexMap;
use tower_fanout_http::jwt::{JwtLayer, KeySet, Rules, Verifier};

use crate::config::{Config, Jwt, KeyConfig, RouteAuth};

/// The JWT layers, by name.
#[derive(Clone, Debug)]
pub struct Auth {
    layers: IndexMap<String, JwtLayer>,
    anonymous: Arc<str>,
}

impl Auth {
    /// The layers that `config` describes.
    ///
    /// # Errors
    /// A key cannot be used, or rules would believe too much.
    pub fn new(config: &Config) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut layers = IndexMap::new();
        for (name, jwt) in &config.jwt {
            layers.insert(name.clone(), layer(jwt, config)?);
        }
        let anonymous = config.tiers.first().map_or("default", |(name, _)| name);
        Ok(Self {
            layers,
            anonymous: anonymous.into(),
        })
    }

    /// The tier of a caller who is not asked for a token: the lowest.
    #[must_use]
    pub fn anonymous_tier(&self) -> Arc<str> {
        Arc::clone(&self.anonymous)
    }

    /// `handler`, for those only whom `auth` lets through.
    ///
    /// # Panics
    /// If `auth` names what is not configured, which a checked configuration does not.
    pub fn protect(&self, auth: Option<&RouteAuth>, handler: MethodRouter) -> MethodRouter {
        match auth {
            None => handler,
            Some(auth) => handler.route_layer(
                self.layers[&auth.jwt]
                    .clone()
                    .any_role(auth.any_role.iter().cloned()),
            ),
        }
    }
}

fn layer(jwt: &Jwt, config: &Config) -> Result<JwtLayer, Box<dyn Error + Send + Sync>> {
    let keys: Result<Vec<_>, _> = jwt.keys.iter().map(KeyConfig::key).collect();
    let mut rules = Rules::new(jwt.issuers.clone(), jwt.audiences.clone())?.leeway(jwt.leeway)?;
    let claim = jwt.tier_claim.as_deref().unwrap_or_default();
    rules = rules.tier(claim, config.tiers.keys(), &jwt.default_tier);
    if let Some(claim) = &jwt.roles_claim {
        rules = rules.roles(claim);
    }
    Ok(JwtLayer::new(Verifier::new(KeySet::new(keys?)?, rules)))
}
