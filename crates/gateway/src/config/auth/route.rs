//! Reads the authorization of routes.

use indexmap::IndexMap;
use tower_fanout::layers::config::Validate;
use tower_fanout_http::jwt::PropagateClaimsConfig;

use super::{
    super::{file, reader::ValueReader, tree::Kind, value::known},
    Jwt,
};

/// Authentication and authorization of a route.
#[derive(Clone, Debug)]
pub(crate) struct RouteAuth {
    /// Names of JWT providers under `auth.jwt`, at least one. The issuer of a token selects the provider,
    /// so no two of them share an issuer. Challenges are those of the first.
    pub(crate) jwt: Vec<String>,
    /// Roles of which the caller needs at least one. Empty requires none.
    pub(crate) any_role: Vec<String>,
    /// Scopes that the caller needs, all of them.
    pub(crate) all_scopes: Vec<String>,
    /// Claims that are copied to request headers.
    pub(crate) propagate_claims: PropagateClaimsConfig,
}

pub(in super::super) fn route_auth(
    file: &file::RouteAuth,
    reader: &ValueReader<'_>,
    jwt: &IndexMap<String, Jwt>,
) -> Option<RouteAuth> {
    let mut claims = PropagateClaimsConfig::default();
    for (file, reader) in file
        .propagate_claims
        .iter()
        .zip(reader.items("propagate_claims"))
    {
        claims = propagate(&claims, file, &reader).unwrap_or(claims);
    }
    let scopes = file.all_scopes.iter().flatten();
    Some(RouteAuth {
        jwt: providers(&reader.at("jwt"), jwt)?,
        any_role: (file.any_role.iter().flatten())
            .map(|role| role.0.0.clone())
            .collect(),
        all_scopes: scopes.map(|scope| scope.0.0.clone()).collect(),
        propagate_claims: claims,
    })
}

/// Returns the name under `auth.jwt`, or the list of them.
fn providers(reader: &ValueReader<'_>, jwt: &IndexMap<String, Jwt>) -> Option<Vec<String>> {
    let items = match reader.tree.kind {
        Kind::List(_) => reader.list(),
        _ => vec![reader.clone()],
    };
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let name = known(item, ("provider", "auth.jwt"), jwt)?;
        let mut others = names.iter().filter(|other| **other != name);
        let shared = others.find(|other| shares_issuer(&jwt[*other], &jwt[&name]));
        if let Some(other) = shared {
            let message = format!("\"{other}\" and \"{name}\" accept the same issuer");
            item.error_with_help("same_issuer", message, Some("use one of them".into()));
        }
        names.push(name);
    }
    Some(names)
}

/// Returns `true` if both providers accept the same issuer.
fn shares_issuer(one: &Jwt, other: &Jwt) -> bool {
    let mut issuers = one.verifier.issuers.iter();
    issuers.any(|issuer| other.verifier.issuers.contains(issuer))
}

/// Returns `config` with the claim of `file` added. Returns `None` after reporting an error.
fn propagate(
    config: &PropagateClaimsConfig,
    file: &file::PropagatedClaim,
    reader: &ValueReader<'_>,
) -> Option<PropagateClaimsConfig> {
    let (claim, name) = (file.claim.0.0.clone(), file.header.0.clone());
    let config = if file.encode {
        config.clone().encoded_claim(claim, name)
    } else {
        config.clone().claim(claim, name)
    };
    match config.errors().first() {
        Some(error) => reader
            .at("header")
            .library_error("invalid", error.message()),
        None => return Some(config),
    }
    None
}
