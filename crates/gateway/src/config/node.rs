//! Reads a node of a plan.

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout::{
    layers::{Priority, fallback::OutcomeSet},
    nearest_name,
};
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
    value::{known, within},
};

pub(super) fn node(field: &ValueReader<'_>, name: &str, names: &Names<'_>) -> Option<Node> {
    if Root::RESERVED.contains(&name) {
        field.error(
            "reserved",
            format!("\"{name}\" cannot be the name of a node: placeholders use it"),
        );
    }
    let mut section = field.section();
    let downstream = section
        .require("downstream")
        .and_then(|field| known(&field, "downstream", names.downstreams.keys()));
    let depends_on = section.items("depends_on");
    let depends_on = depends_on.iter().filter_map(depends).collect();
    let required = section.is_on("required");
    let priority = section
        .take("priority")
        .and_then(|field| within(&field, 0, 9));
    let tiers = section.items("tiers");
    let tiers = tiers
        .iter()
        .filter_map(|field| known(field, "tier", names.tiers.keys()))
        .collect();
    let when = section.take("when").and_then(|field| condition(&field));
    let request = section.require("request").and_then(|field| request(&field));
    let response = section
        .take("response")
        .map_or_else(|| Some(Default::default()), |field| response(&field));
    let fallbacks = section.items("fallback");
    let fallback = fallbacks
        .iter()
        .filter_map(|field| fallback(field, names))
        .collect();
    section.not_built(&[("cache", "caching"), ("policy", "a policy of its own")]);
    section.finish();
    let (accept, shape) = response?;
    Some(Node {
        downstream: downstream?,
        depends_on,
        required,
        priority: priority.and_then(Priority::new).unwrap_or_default(),
        tiers,
        when,
        request: request?,
        accept,
        shape,
        fallback,
    })
}

/// A name, or `{node: name, optional: true}`.
fn depends(field: &ValueReader<'_>) -> Option<DependsOn> {
    if matches!(field.tree.kind, Kind::Scalar(_)) {
        let node = field.text()?;
        return Some(DependsOn {
            node,
            optional: false,
        });
    }
    let mut section = field.section();
    let node = section.require("node").and_then(|field| field.text());
    let optional = section.is_on("optional");
    section.finish();
    Some(DependsOn {
        node: node?,
        optional,
    })
}

/// A request; what is wrong with one part of it does not hide what is wrong with another.
fn request(field: &ValueReader<'_>) -> Option<RequestTemplate> {
    let mut section = field.section();
    let method = section
        .take("method")
        .map_or(Some(Method::GET), |field| method(&field));
    let path = section.require("path");
    let query = section.members("query");
    let headers = section.members("headers");
    let body = section.take("body");
    section.finish();
    // One that could not be read may be meant to have a body.
    let by = method.clone().unwrap_or(Method::POST);
    let at = |path: &str| RequestTemplate::new(by.clone(), path);
    let path = path.and_then(|field| report(&field, at(&field.text()?)));
    let mut sound = method.is_some() && path.is_some();
    let mut template = path.or_else(|| at("/").ok())?;
    for (name, field) in &query {
        let value = value(field);
        sound &= value.is_some_and(|value| {
            extend(&mut template, field, |template| {
                template.query(name, &value)
            })
        });
    }
    for (name, field) in &headers {
        let value = value(field);
        sound &= value.is_some_and(|value| {
            extend(&mut template, field, |template| {
                template.header(name, &value)
            })
        });
    }
    if let Some(field) = body {
        let document = told_once(&field).then(|| field.tree.to_json());
        sound &= document.is_some_and(|document| {
            extend(&mut template, &field, |template| template.body(&document))
        });
    }
    sound.then_some(template)
}

/// What is sent in a query or a header: a string, or a number or boolean as JSON writes it.
fn value(field: &ValueReader<'_>) -> Option<String> {
    match &field.tree.kind {
        Kind::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        _ => field.text(),
    }
}

/// Adds what stands at `field` to a request; whether it can be.
fn extend(
    template: &mut RequestTemplate,
    field: &ValueReader<'_>,
    add: impl FnOnce(RequestTemplate) -> Result<RequestTemplate, TemplateError>,
) -> bool {
    let extended = report(field, add(template.clone()));
    extended.map(|extended| *template = extended).is_some()
}

/// Whether no member of a document stands twice; each that does is complained about.
fn told_once(document: &ValueReader<'_>) -> bool {
    match &document.tree.kind {
        Kind::Scalar(_) => true,
        Kind::List(_) => document.list().iter().all(told_once),
        Kind::Map(members) => {
            let named = document.named();
            named.len() == members.len() && named.iter().all(|(_, field)| told_once(field))
        }
    }
}

fn condition(field: &ValueReader<'_>) -> Option<Condition> {
    let condition = Condition::parse(&field.text()?);
    condition
        .map_err(|error| field.error("condition", error))
        .ok()
}

pub(super) fn method(field: &ValueReader<'_>) -> Option<Method> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let name = field.text()?;
    if known.contains(&name.as_str()) {
        return name.parse().ok();
    }
    let help = nearest_name(&name, known).map(|known| format!("did you mean \"{known}\"?"));
    field.error_with_help("invalid", "there is no such method", help);
    None
}

fn report<T>(field: &ValueReader<'_>, result: Result<T, TemplateError>) -> Option<T> {
    result.map_err(|error| field.error("template", error)).ok()
}

/// The statuses of errors that are answers all the same, and what of an answer is wanted.
fn response(field: &ValueReader<'_>) -> Option<(Vec<u16>, FieldFilter)> {
    let mut section = field.section();
    let statuses = section.items("accept");
    let mut shape = FieldFilterConfig::default();
    shape.target = section.take("target").and_then(|field| field.get());
    shape.allow = read(section.take("allow"));
    shape.deny = read(section.take("deny"));
    shape.rename = read(section.take("rename"));
    section.finish();
    let accept = statuses
        .iter()
        .filter_map(|field| within(field, 400, 599))
        .collect();
    field.check(&shape);
    Some((accept, FieldFilter::new(shape).ok()?))
}

/// A value, or what it is if there is none.
fn read<T: DeserializeOwned + Default>(field: Option<ValueReader<'_>>) -> T {
    field.and_then(|field| field.get()).unwrap_or_default()
}

/// `{static: …}` or `{service: name}`, and `on` for what.
fn fallback(field: &ValueReader<'_>, names: &Names<'_>) -> Option<Fallback> {
    let mut section = field.section();
    let fixed = section.take("static");
    let service = section.take("service");
    let on = section.take("on");
    section.not_built(&[("stale", "falling back to a stale answer")]);
    section.finish();
    let on = match on {
        Some(field) => field.get::<OutcomeSet>()?,
        None => OutcomeSet::default(),
    };
    let by = match (fixed, service) {
        (Some(fixed), None) => {
            let json: Value = fixed.tree.to_json();
            FallbackTarget::Static(Json::parse(json.to_string().into()).ok()?)
        }
        (None, Some(service)) => {
            FallbackTarget::Service(known(&service, "downstream", names.downstreams.keys())?)
        }
        _ => {
            field.error(
                "invalid",
                "a fallback is either \"static\" or a \"service\"",
            );
            return None;
        }
    };
    Some(Fallback { on, target: by })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{reader::Diagnostics, tree::Tree},
        *,
    };

    #[test]
    fn numbers_and_booleans_are_sent_as_their_text() {
        let sent = |yaml: &str| {
            let (tree, sink) = (Tree::parse(yaml).unwrap(), Diagnostics::default());
            let template = request(&ValueReader::root(&tree, &sink));
            (template, sink.into_inner().len())
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
