//! Reads the nodes of plans.

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout::layers::{Priority, fallback::OutcomeSet};
use tower_fanout_json::{
    Json,
    condition::Condition,
    filter::{FieldFilter, FieldFilterConfig},
    template::{RequestTemplate, Root, TemplateError},
};

use super::{
    DependsOn, Fallback, FallbackTarget, Node,
    plan::Names,
    reader::ValueReader,
    tree::Kind,
    value::{did_you_mean, known, within},
};

pub(super) fn node(reader: &ValueReader<'_>, name: &str, names: &Names<'_>) -> Option<Node> {
    if Root::RESERVED.contains(&name) {
        reader.error(
            "reserved",
            format!("node name \"{name}\" is reserved for placeholders; choose another name"),
        );
    }
    let mut map = reader.as_map();
    let downstream = map
        .require("downstream")
        .and_then(|reader| known(&reader, "downstream", names.downstreams.keys()));
    let depends_on = map.items("depends_on");
    let depends_on = depends_on.iter().filter_map(dependency).collect();
    let required = map.is_on("required");
    let priority = map
        .take("priority")
        .and_then(|reader| within(&reader, 0, 9));
    let tiers = map.items("tiers");
    let tiers = tiers
        .iter()
        .filter_map(|reader| known(reader, "tier", names.tiers.keys()))
        .collect();
    let when = map.take("when").and_then(|reader| condition(&reader));
    let request = map.require("request").and_then(|reader| request(&reader));
    let response = map
        .take("response")
        .map_or_else(|| Some(Default::default()), |reader| response(&reader));
    let fallbacks = map.items("fallback");
    let fallback = fallbacks
        .iter()
        .filter_map(|reader| fallback(reader, names))
        .collect();
    map.not_built(&[
        ("cache", "caching"),
        ("policy", "a policy of a single node"),
    ]);
    map.finish();
    let (accept, filter) = response?;
    Some(Node {
        downstream: downstream?,
        depends_on,
        required,
        priority: priority.and_then(Priority::new).unwrap_or_default(),
        tiers,
        when,
        request: request?,
        accept,
        filter,
        fallback,
    })
}

/// Reads a dependency: the name of a node, or `{node: name, optional: true}`.
fn dependency(reader: &ValueReader<'_>) -> Option<DependsOn> {
    if matches!(reader.tree.kind, Kind::Scalar(_)) {
        let node = reader.text()?;
        return Some(DependsOn {
            node,
            optional: false,
        });
    }
    let mut map = reader.as_map();
    let node = map.require("node").and_then(|reader| reader.text());
    let optional = map.is_on("optional");
    map.finish();
    Some(DependsOn {
        node: node?,
        optional,
    })
}

/// Reads a request template. Reports the mistakes of all its parts, not only the first.
fn request(reader: &ValueReader<'_>) -> Option<RequestTemplate> {
    let mut map = reader.as_map();
    let method = map
        .take("method")
        .map_or(Some(Method::GET), |reader| method(&reader));
    let path = map.require("path");
    let query = map.members("query");
    let headers = map.members("headers");
    let body = map.take("body");
    map.finish();
    // An invalid method may be meant to allow a body, so the body is not reported as well.
    let assumed = method.clone().unwrap_or(Method::POST);
    let at = |path: &str| RequestTemplate::new(assumed.clone(), path);
    let path = path.and_then(|reader| report(&reader, at(&reader.text()?)));
    let mut sound = method.is_some() && path.is_some();
    let mut template = path.or_else(|| at("/").ok())?;
    for (name, reader) in &query {
        let value = value(reader);
        sound &= value.is_some_and(|value| {
            extend(&mut template, reader, |template| {
                template.query(name, &value)
            })
        });
    }
    for (name, reader) in &headers {
        let value = value(reader);
        sound &= value.is_some_and(|value| {
            extend(&mut template, reader, |template| {
                template.header(name, &value)
            })
        });
    }
    if let Some(reader) = body {
        let document = has_unique_keys(&reader).then(|| reader.tree.to_json());
        sound &= document.is_some_and(|document| {
            extend(&mut template, &reader, |template| template.body(&document))
        });
    }
    sound.then_some(template)
}

/// Reads the value of a query parameter or header. Numbers and booleans become their JSON text.
fn value(reader: &ValueReader<'_>) -> Option<String> {
    match &reader.tree.kind {
        Kind::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        _ => reader.text(),
    }
}

/// Applies `add` to the template. Reports an error at `reader` and returns `false` if `add` fails.
fn extend(
    template: &mut RequestTemplate,
    reader: &ValueReader<'_>,
    add: impl FnOnce(RequestTemplate) -> Result<RequestTemplate, TemplateError>,
) -> bool {
    let extended = report(reader, add(template.clone()));
    extended.map(|extended| *template = extended).is_some()
}

/// Returns `true` if no map in the document has duplicate keys. Reports each duplicate.
fn has_unique_keys(document: &ValueReader<'_>) -> bool {
    match &document.tree.kind {
        Kind::Scalar(_) => true,
        Kind::List(_) => document.list().iter().all(has_unique_keys),
        Kind::Map(members) => {
            let named = document.named();
            named.len() == members.len() && named.iter().all(|(_, reader)| has_unique_keys(reader))
        }
    }
}

fn condition(reader: &ValueReader<'_>) -> Option<Condition> {
    let condition = Condition::parse(&reader.text()?);
    condition
        .map_err(|error| reader.error("condition", error))
        .ok()
}

pub(super) fn method(reader: &ValueReader<'_>) -> Option<Method> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let name = reader.text()?;
    if known.contains(&name.as_str()) {
        return name.parse().ok();
    }
    let help = did_you_mean(&name, known);
    reader.error_with_help("invalid", format!("unknown method \"{name}\""), help);
    None
}

fn report<T>(reader: &ValueReader<'_>, result: Result<T, TemplateError>) -> Option<T> {
    result.map_err(|error| reader.error("template", error)).ok()
}

/// Reads the accepted error statuses and the field filter of a response.
fn response(reader: &ValueReader<'_>) -> Option<(Vec<u16>, FieldFilter)> {
    let mut map = reader.as_map();
    let statuses = map.items("accept");
    let mut filter = FieldFilterConfig::default();
    filter.target = map.take("target").and_then(|reader| reader.get());
    filter.allow = read(map.take("allow"));
    filter.deny = read(map.take("deny"));
    filter.rename = read(map.take("rename"));
    map.finish();
    let accept = statuses
        .iter()
        .filter_map(|reader| within(reader, 400, 599))
        .collect();
    reader.check(&filter);
    Some((accept, FieldFilter::new(filter).ok()?))
}

/// Reads a value. Returns the default of its type if it is missing or invalid.
fn read<T: DeserializeOwned + Default>(reader: Option<ValueReader<'_>>) -> T {
    reader.and_then(|reader| reader.get()).unwrap_or_default()
}

/// Reads a fallback: `{static: …}` or `{service: name}`, with the outcomes in `on`.
fn fallback(reader: &ValueReader<'_>, names: &Names<'_>) -> Option<Fallback> {
    let mut map = reader.as_map();
    let fixed = map.take("static");
    let service = map.take("service");
    let on = map.take("on");
    map.not_built(&[("stale", "a fallback to a stale response")]);
    map.finish();
    let on = match on {
        Some(reader) => reader.get::<OutcomeSet>()?,
        None => OutcomeSet::default(),
    };
    let target = match (fixed, service) {
        (Some(fixed), None) => {
            let json: Value = fixed.tree.to_json();
            FallbackTarget::Static(Json::parse(json.to_string().into()).ok()?)
        }
        (None, Some(service)) => {
            FallbackTarget::Service(known(&service, "downstream", names.downstreams.keys())?)
        }
        _ => {
            reader.error(
                "invalid",
                "expected exactly one of \"static\" and \"service\"",
            );
            return None;
        }
    };
    Some(Fallback { on, target })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{reader::Diagnostics, tree::Tree},
        *,
    };

    #[test]
    fn sends_numbers_and_booleans_as_their_json_text() {
        let sent = |yaml: &str| {
            let (tree, diagnostics) = (Tree::parse(yaml).unwrap(), Diagnostics::default());
            let template = request(&ValueReader::root(&tree, &diagnostics));
            (template, diagnostics.into_inner().len())
        };
        let (plain, none) =
            sent("{ path: /, query: { ms: 5000, q: 0.5, on: true }, headers: { x-n: -7 } }");
        let (quoted, _) = sent(
            r#"{ path: /, query: { ms: "5000", q: "0.5", on: "true" }, headers: { x-n: "-7" } }"#,
        );
        assert!(plain.is_some() && plain == quoted && none == 0);
        let wrong = "{ path: /, query: { a: null, b: [1], c: {} }, headers: { x-n: null } }";
        assert_eq!(sent(wrong), (None, 4));
    }
}
