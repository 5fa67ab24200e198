//! Reads the nodes of plans.

use http::Method;
use serde_json::Value;
use tower_fanout::layers::{Priority, fallback::OutcomeSet};
use tower_fanout_json::{
    Json, MAX_DEPTH,
    condition::{Condition, ConditionError},
    filter::{FieldFilter, FieldFilterConfig},
    template::{RequestTemplate, Root, TemplateError},
};

use super::{
    DependsOn, Fallback, FallbackTarget, Node,
    plan::Names,
    reader::ValueReader,
    tree::Kind,
    value::{check_name, did_you_mean, known, within},
};

pub(super) fn node(reader: &ValueReader<'_>, name: &str, names: &Names<'_>) -> Option<Node> {
    if Root::RESERVED.contains(&name) {
        reader.error(
            "reserved",
            format!("node name \"{name}\" is reserved for placeholders; choose another name"),
        );
    }
    check_name(reader, name);
    let mut map = reader.as_map();
    let downstream = map.get_required("downstream", |reader| {
        known(reader, "downstream", names.downstreams.keys())
    });
    let depends_on = map.each("depends_on", dependency);
    let required = map.is_on("required");
    let priority = map.get("priority", |reader| within(reader, 0, 9));
    let tier = |reader: &ValueReader<'_>| known(reader, "tier", names.tiers.keys());
    let tiers = map.get("tiers", |reader| Some(reader.nonempty()?.each(tier)));
    let when = map.get("when", condition);
    let request = map.get_required("request", request);
    let response = map
        .take("response")
        .map_or_else(|| Some(Default::default()), |reader| response(&reader));
    let fallback = map.each("fallback", |reader| fallback(reader, names));
    map.not_built(&[
        ("cache", "caching"),
        ("policy", "a policy of a single node"),
    ]);
    map.finish();
    let (accept, filter) = response?;
    let mut node = Node {
        downstream: downstream?,
        depends_on,
        required,
        priority: priority.and_then(Priority::new).unwrap_or_default(),
        tiers: tiers.unwrap_or_default(),
        when,
        request: request?,
        accept,
        filter,
        fallback,
        keys: Vec::new(),
    };
    let called = node.fallback_services().chain([&*node.downstream]);
    let keys = called.filter_map(|name| names.downstreams[name].key.clone());
    node.keys = keys.collect();
    Some(node)
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
    let node = map.get_required("node", ValueReader::text);
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
    for (index, (name, reader)) in headers.iter().enumerate() {
        let mut before = headers[..index].iter();
        if before.any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            reader.error("duplicate", format!("duplicate header \"{name}\""));
        }
        let value = value(reader);
        sound &= value.is_some_and(|value| {
            extend(&mut template, reader, |template| {
                template.header(name, &value)
            })
        });
    }
    if let Some(reader) = body {
        let document = reader.tree.to_json();
        sound &= extend(&mut template, &reader, |template| template.body(&document));
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

fn condition(reader: &ValueReader<'_>) -> Option<Condition> {
    let condition = Condition::parse(&reader.text()?);
    let report = |error: ConditionError| match reader.tree.variables() {
        None => {
            let reader = reader.at_character(error.column);
            reader.error_with_help("condition", error.message, error.help);
        }
        // The message quotes the condition, and a value of a variable may be a secret.
        Some(written) => match Condition::parse(written) {
            Err(error) => reader.error_with_help("condition", error.message, error.help),
            Ok(_) => reader.error(
                "condition",
                "the values of its variables make the condition invalid",
            ),
        },
    };
    condition.map_err(report).ok()
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
    let accept = map.each("accept", |reader| within(reader, 400, 599));
    let mut filter = FieldFilterConfig::default();
    filter.target = map.get("target", ValueReader::get);
    map.set("allow", &mut filter.allow, |reader| {
        reader.nonempty()?.get()
    });
    map.set("deny", &mut filter.deny, ValueReader::get);
    map.set("rename", &mut filter.rename, ValueReader::get);
    map.finish();
    reader.check(&filter);
    Some((accept, FieldFilter::new(filter).ok()?))
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
        Some(reader) => reader.nonempty()?.get::<OutcomeSet>()?,
        None => OutcomeSet::default(),
    };
    let target = match (fixed, service) {
        (Some(fixed), None) => FallbackTarget::Static(static_response(&fixed)?),
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

/// Reads the JSON of a static response.
fn static_response(reader: &ValueReader<'_>) -> Option<Json> {
    let json = reader.tree.to_json().to_string();
    // One level is left, so that a merged document can contain the response.
    if Json::parse(format!("[{json}]").into()).is_err() {
        reader.error(
            "invalid",
            format!("must nest at most {} levels", MAX_DEPTH - 1),
        );
        return None;
    }
    Json::parse(json.into()).ok()
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
