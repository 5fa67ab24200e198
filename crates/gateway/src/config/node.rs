//! Reads the nodes of plans.

use std::collections::HashMap;

use http::{HeaderName, Method};
use serde_json::Value;
use tower_fanout::layers::Priority;
use tower_fanout_json::{
    Json, MAX_DEPTH,
    condition::{Condition, ConditionError},
    filter::{FieldFilter, FieldFilterConfig},
    template::{RequestTemplate, TemplateError},
};

use super::{
    DependsOn, Fallback, FallbackTarget, Node, file,
    placeholder::Known,
    plan::Names,
    reader::ValueReader,
    text::Parsed,
    tree::{Kind, Tree},
    value::known,
};

/// Reads a node of a plan whose placeholders can use the names in `known`.
pub(super) fn node(
    file: &file::Node,
    reader: &ValueReader<'_>,
    (known_values, names): (Known<'_>, &Names<'_>),
) -> Option<Node> {
    let downstream = file.downstream.as_ref();
    let downstream = downstream.and_then(|_| service(&reader.at("downstream"), names));
    let tier = |reader: &ValueReader<'_>| known(reader, ("tier", "tiers"), names.tiers);
    let tiers = reader.items("tiers");
    let tiers = tiers.iter().filter_map(tier).collect();
    let when = file.when.as_ref();
    let when = when.and_then(|_| condition(&reader.at("when"), names));
    let request = file.request.as_ref();
    let request =
        request.and_then(|file| request_template(file, &reader.at("request"), known_values));
    let filter = filter(&file.response, &reader.at("response"));
    let fallbacks = fallbacks(&file.fallback, reader, names);
    // Without its condition, the node would run for every request.
    if reader.has("when") && !reader.at("when").tree.is_known() {
        return None;
    }
    let mut node = Node {
        downstream: downstream?,
        depends_on: file.depends_on.iter().map(DependsOn::from).collect(),
        required: file.required,
        priority: Priority::new(file.priority).unwrap_or_default(),
        tiers,
        when,
        request: request?,
        accept: file.response.accept.iter().map(|status| status.0).collect(),
        filter: filter?,
        fallback: fallbacks,
        keys: Vec::new(),
    };
    let called = node.fallback_services().chain([&*node.downstream]);
    let keys = called.filter_map(|name| names.downstreams[name].key.clone());
    node.keys = keys.collect();
    Some(node)
}

/// Reads the name of a service.
fn service(reader: &ValueReader<'_>, names: &Names<'_>) -> Option<String> {
    known(reader, ("downstream", "downstreams"), names.downstreams)
}

impl From<&file::Dependency> for DependsOn {
    fn from(file: &file::Dependency) -> Self {
        match file {
            file::Dependency::Name(node) => Self {
                node: node.clone(),
                optional: false,
            },
            file::Dependency::Node(on) => Self {
                node: on.node.clone(),
                optional: on.optional,
            },
        }
    }
}

/// Returns the request template. Reports the mistakes of all its parts, not only the first.
fn request_template(
    file: &file::Request,
    reader: &ValueReader<'_>,
    known: Known<'_>,
) -> Option<RequestTemplate> {
    let method = method(file.method.as_ref(), reader);
    // An invalid method may be meant to allow a body, so the body is not reported as well.
    let assumed = method.clone().unwrap_or(Method::POST);
    let at = |path: &str| RequestTemplate::new(assumed.clone(), path);
    let path = file.path.as_ref();
    let path = path.and_then(|path| {
        let reader = reader.at("path");
        let is_valid = known.check_text(&reader) & known.check_path(&reader);
        is_valid.then(|| report(&reader, at(path), known))?
    });
    let mut sound = method.is_some() && path.is_some();
    let mut template = path.or_else(|| at("/").ok())?;
    for (name, reader) in &reader.members("query") {
        let value = value(reader);
        sound &= value.is_some_and(|value| {
            known.check_text(reader)
                && extend(&mut template, (reader, known), |template| {
                    template.query(name, &value)
                })
        });
    }
    sound &= add_headers(&mut template, reader, known);
    if let Some(document) = &file.body {
        let reader = reader.at("body");
        // A request that must not have a body is reported first.
        let is_valid = matches!(assumed, Method::GET | Method::HEAD) || known.check_body(&reader);
        sound &= reader.tree.is_known()
            && is_valid
            && extend(&mut template, (&reader, known), |template| {
                template.body(document)
            });
    }
    sound.then_some(template)
}

/// Adds the headers of the request at `reader`. Returns `false` after reporting an error.
fn add_headers(template: &mut RequestTemplate, reader: &ValueReader<'_>, known: Known<'_>) -> bool {
    let (fields, headers) = (reader.at("headers"), reader.members("headers"));
    let mut sound = true;
    let mut firsts = HashMap::new();
    for (name, reader) in &headers {
        let key = fields.at_key(name);
        let first = *firsts.entry(name.to_ascii_lowercase()).or_insert(name);
        if first != name {
            let message = format!("duplicate header \"{name}\": names of headers ignore case");
            key.duplicate(message, fields.at_key(first).position);
        }
        // An empty value is valid, so an error is about the name. A name that no header can have is reported already.
        let named = || RequestTemplate::new(Method::GET, "/")?.header(name, "");
        let is_valid = HeaderName::try_from(name).is_ok() && report(&key, named(), known).is_some();
        let value = value(reader).filter(|_| is_valid);
        sound &= value.is_some_and(|value| {
            known.check_text(reader)
                && extend(template, (reader, known), |template| {
                    template.header(name, &value)
                })
        });
    }
    sound
}

/// Returns the value of a query parameter or header, or `None` if it is invalid. Numbers and booleans become their
/// JSON text.
fn value(reader: &ValueReader<'_>) -> Option<String> {
    match &reader.tree.kind {
        _ if !reader.tree.is_known() => None,
        Kind::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
        _ => reader.tree.as_text().map(str::to_owned),
    }
}

/// Applies `add` to the template. Reports an error at `reader` and returns `false` if `add` fails. The template is then
/// empty, so that the other parts are still checked.
fn extend(
    template: &mut RequestTemplate,
    (reader, known): (&ValueReader<'_>, Known<'_>),
    add: impl FnOnce(RequestTemplate) -> Result<RequestTemplate, TemplateError>,
) -> bool {
    let Ok(empty) = RequestTemplate::new(template.method().clone(), "/") else {
        return false;
    };
    let extended = report(reader, add(std::mem::replace(template, empty)), known);
    extended.map(|extended| *template = extended).is_some()
}

fn condition(reader: &ValueReader<'_>, names: &Names<'_>) -> Option<Condition> {
    let text = reader.text()?;
    let known = names.conditions.borrow().get(&text).cloned();
    let condition = known.map_or_else(|| Condition::parse_all(&text), Ok);
    let report = |errors: Vec<ConditionError>| match reader.tree.variables() {
        None => {
            for error in errors {
                let help = help_in_file(&error, reader);
                let reader = reader.at_character(error.column);
                reader.error_with_help("condition", reader.masked(&error.message), help);
            }
        }
        // The message quotes the condition, and a value of a variable may be a secret.
        Some(_) => reader.error_with_help(
            "condition",
            "with the values of its variables, the condition is not valid",
            Some("put the values into the file to see the mistake".to_owned()),
        ),
    };
    let condition = condition.map_err(report).ok()?;
    names
        .conditions
        .borrow_mut()
        .insert(text, condition.clone());
    Some(condition)
}

/// Returns the help of `error` as the file can have it in the place of the value at `reader`.
fn help_in_file(error: &ConditionError, reader: &ValueReader<'_>) -> Option<String> {
    let (help, written) = (error.help.as_ref()?, reader.tree);
    let Some(code) = &error.code else {
        return Some(reader.masked(help));
    };
    let own = match written.quote() {
        // Single quotes would end the text of the file.
        Some('\'') if !code.contains('"') => &code.replace('\'', "\""),
        _ => code,
    };
    let shown = help.replace(code, &reader.redactor().condition(own));
    let is_quoted = !written.is_plain() || Tree::is_plain_text(code);
    Some(if is_quoted {
        shown
    } else {
        shown + ", in quotes"
    })
}

/// Returns the method of a request: `GET` if the map at `reader` has none, or `None` if it is invalid.
pub(super) fn method(file: Option<&Parsed<Method>>, reader: &ValueReader<'_>) -> Option<Method> {
    match file {
        Some(method) => Some(method.0.clone()),
        None => (!reader.has("method")).then_some(Method::GET),
    }
}

fn report<T>(
    reader: &ValueReader<'_>,
    result: Result<T, TemplateError>,
    known: Known<'_>,
) -> Option<T> {
    let report = |error| known.report(reader, &error);
    result.map_err(report).ok()
}

/// Returns the field filter of a response.
fn filter(file: &file::Response, reader: &ValueReader<'_>) -> Option<FieldFilter> {
    let mut filter = FieldFilterConfig::default();
    filter.target.clone_from(&file.target);
    filter.allow = file.allow.clone().unwrap_or_default();
    filter.deny.clone_from(&file.deny);
    filter.rename.clone_from(&file.rename);
    reader.check(&filter);
    FieldFilter::new(filter).ok()
}

/// Returns the fallbacks of the node at `reader` that have no errors.
fn fallbacks(
    files: &[file::Fallback],
    reader: &ValueReader<'_>,
    names: &Names<'_>,
) -> Vec<Fallback> {
    let steps = files.iter().zip(reader.items("fallback"));
    let steps = steps.filter_map(|(file, reader)| fallback(file, &reader, names));
    steps.collect()
}

/// Returns a fallback: `{static: …}` or `{service: name}`, with the outcomes in `on`.
fn fallback(
    file: &file::Fallback,
    reader: &ValueReader<'_>,
    names: &Names<'_>,
) -> Option<Fallback> {
    // A step with an error has other outcomes or another target than the file says.
    if !reader.is_sound() {
        return None;
    }
    let target = match (&file.fixed, &file.service) {
        (Some(fixed), None) => {
            FallbackTarget::Static(static_response(fixed, &reader.at("static"))?)
        }
        (None, Some(_)) => FallbackTarget::Service(service(&reader.at("service"), names)?),
        // Reported already.
        _ => return None,
    };
    Some(Fallback {
        on: file.on.clone(),
        target,
    })
}

/// Returns the JSON of a static response.
fn static_response(value: &Value, reader: &ValueReader<'_>) -> Option<Json> {
    let json = value.to_string();
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
        super::{reader::Diagnostics, schema, tree::Tree},
        *,
    };

    #[test]
    fn sends_numbers_and_booleans_as_their_json_text() {
        let request = schema::of::<file::Request>();
        let sent = |yaml: &str| {
            let (tree, diagnostics) = (Tree::parse(yaml).unwrap(), Diagnostics::default());
            let reader = ValueReader::root(&tree, &diagnostics);
            let known = Known {
                parameters: None,
                nodes: &[],
            };
            let template = request_template(&reader.read(&request).unwrap(), &reader, known);
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
    #[test]
    fn fault_j53_a_null_is_a_json_value() {
        let request = schema::of::<file::Request>();
        let body = |yaml: &str| {
            let (tree, diagnostics) = (Tree::parse(yaml).unwrap(), Diagnostics::default());
            let reader = ValueReader::root(&tree, &diagnostics);
            reader.read::<file::Request>(&request).unwrap().body
        };
        assert_eq!(
            body("{ path: /, method: POST, body: null }"),
            Some(Value::Null)
        );
        assert_eq!(body("{ path: /, method: POST }"), None);
        let (tree, diagnostics) = (Tree::parse("static: null").unwrap(), Diagnostics::default());
        let reader = ValueReader::root(&tree, &diagnostics);
        let read = reader.read::<file::Fallback>(&schema::of::<file::Fallback>());
        assert_eq!(read.unwrap().fixed, Some(Value::Null));
    }
}
