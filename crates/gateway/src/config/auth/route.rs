//! Reads the authorization of routes.

use indexmap::IndexMap;
use tower_fanout::layers::config::Validate;
use tower_fanout_http::jwt::PropagateClaimsConfig;

use super::{
    super::{
        reader::ValueReader,
        tree::Kind,
        value::{header_name, known},
    },
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
    reader: &ValueReader<'_>,
    jwt: &IndexMap<String, Jwt>,
) -> Option<RouteAuth> {
    let mut map = reader.as_map();
    let names = map.get_required("jwt", |reader| providers(reader, jwt));
    let any_role = map.get("any_role", |reader| {
        Some(reader.nonempty()?.each(ValueReader::text))
    });
    let all_scopes = map.get("all_scopes", |reader| Some(reader.nonempty()?.each(scope)));
    let mut claims = PropagateClaimsConfig::default();
    for reader in map.each("propagate_claims", |reader| Some(reader.clone())) {
        claims = propagate(&claims, &reader).unwrap_or(claims);
    }
    map.finish();
    Some(RouteAuth {
        jwt: names?,
        any_role: any_role.unwrap_or_default(),
        all_scopes: all_scopes.unwrap_or_default(),
        propagate_claims: claims,
    })
}

/// Reads one name under `auth.jwt`, or a list of them.
fn providers(reader: &ValueReader<'_>, jwt: &IndexMap<String, Jwt>) -> Option<Vec<String>> {
    let items = match reader.tree.kind {
        Kind::List(_) => reader.list(),
        _ => vec![reader.clone()],
    };
    if items.is_empty() {
        reader.error(
            "invalid",
            "expected at least one name of auth.jwt, got an empty list",
        );
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let name = known(item, "jwt", jwt.keys())?;
        if names.contains(&name) {
            item.error("duplicate", format!("duplicate name \"{name}\""));
        } else if let Some(other) = names
            .iter()
            .find(|other| share_issuer(&jwt[*other], &jwt[&name]))
        {
            let message = format!("\"{other}\" and \"{name}\" share an issuer");
            item.error("same_issuer", message);
        }
        names.push(name);
    }
    Some(names)
}

/// Returns `true` if both providers accept the same issuer.
fn share_issuer(one: &Jwt, other: &Jwt) -> bool {
    let mut issuers = one.verifier.issuers.iter();
    issuers.any(|issuer| other.verifier.issuers.contains(issuer))
}

/// Reads a scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
fn scope(reader: &ValueReader<'_>) -> Option<String> {
    let scope = reader.text()?;
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if scope.is_empty() || !scope.bytes().all(fits) {
        reader.error(
            "invalid",
            "must consist of printable ASCII characters except spaces, quotes and backslashes",
        );
        return None;
    }
    Some(scope)
}

/// Returns `config` with the claim at `reader` added. Returns `None` after reporting an error.
fn propagate(
    config: &PropagateClaimsConfig,
    reader: &ValueReader<'_>,
) -> Option<PropagateClaimsConfig> {
    let mut map = reader.as_map();
    let claim = map.get_required("claim", ValueReader::text);
    let header = map.require("header");
    let encode = map.is_on("encode");
    map.finish();
    let (claim, header) = (claim?, header?);
    let name = header_name(&header)?;
    let config = if encode {
        config.clone().encoded_claim(claim, name)
    } else {
        config.clone().claim(claim, name)
    };
    match config.errors().first() {
        Some(problem) => header.error("invalid", problem.message()),
        None => return Some(config),
    }
    None
}
