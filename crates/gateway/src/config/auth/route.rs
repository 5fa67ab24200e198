//! Reads who may ask for a route.

use indexmap::IndexMap;
use tower_fanout::layers::config::Validate;
use tower_fanout_http::jwt::{PropagateClaimsConfig, PropagateClaimsLayer};

use super::{
    super::{
        reader::ValueReader,
        tree::Kind,
        value::{header_name, known},
    },
    Jwt,
};

/// Who may ask.
#[derive(Clone, Debug)]
pub(crate) struct RouteAuth {
    /// Names under `auth.jwt`, at least one. Whose a token is, its issuer says; no two of them believe
    /// the same. What a challenge says is what the first would say.
    pub(crate) jwt: Vec<String>,
    /// At least one of these roles is needed, if there are any.
    pub(crate) any_role: Vec<String>,
    /// All of these scopes are needed.
    pub(crate) all_scopes: Vec<String>,
    /// Which claims stand in headers of the request, for those who read them from there.
    pub(crate) propagate_claims: PropagateClaimsLayer,
}

pub(in super::super) fn route_auth(
    field: &ValueReader<'_>,
    jwt: &IndexMap<String, Jwt>,
) -> Option<RouteAuth> {
    let mut section = field.section();
    let names = section
        .require("jwt")
        .and_then(|field| believed(&field, jwt));
    let any_role = section.items("any_role");
    let all_scopes = section.items("all_scopes");
    let propagated = section.items("propagate_claims");
    section.finish();
    let (any_role, all_scopes) = (
        any_role.iter().filter_map(ValueReader::text).collect(),
        all_scopes.iter().filter_map(scope).collect(),
    );
    let mut claims = PropagateClaimsConfig::default();
    for field in &propagated {
        claims = propagate(&claims, field).unwrap_or(claims);
    }
    Some(RouteAuth {
        jwt: names?,
        any_role,
        all_scopes,
        propagate_claims: PropagateClaimsLayer::new(claims).ok()?,
    })
}

/// One name under `auth.jwt`, or a list of them.
fn believed(field: &ValueReader<'_>, jwt: &IndexMap<String, Jwt>) -> Option<Vec<String>> {
    let items = match field.tree.kind {
        Kind::List(_) => field.list(),
        _ => vec![field.clone()],
    };
    if items.is_empty() {
        field.error("invalid", "at least one must be named");
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let name = known(item, "jwt", jwt.keys())?;
        if names.contains(&name) {
            item.error("duplicate", format!("\"{name}\" stands twice"));
        } else if let Some(other) = names.iter().find(|other| share(&jwt[*other], &jwt[&name])) {
            let message = format!("\"{other}\" and \"{name}\" have an issuer in common");
            item.error("same_issuer", message);
        }
        names.push(name);
    }
    Some(names)
}

/// Whether an issuer is one of both.
fn share(one: &Jwt, other: &Jwt) -> bool {
    one.issuers
        .iter()
        .any(|issuer| other.issuers.contains(issuer))
}

/// A scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
fn scope(field: &ValueReader<'_>) -> Option<String> {
    let scope = field.text()?;
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if scope.is_empty() || !scope.bytes().all(fits) {
        field.error(
            "invalid",
            "a scope is printable ASCII without spaces, quotes and backslashes",
        );
        return None;
    }
    Some(scope)
}

/// `config`, with one claim more.
fn propagate(
    config: &PropagateClaimsConfig,
    field: &ValueReader<'_>,
) -> Option<PropagateClaimsConfig> {
    let mut section = field.section();
    let claim = section.require("claim").and_then(|field| field.text());
    let header = section.require("header");
    let encode = section.is_on("encode");
    section.finish();
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
