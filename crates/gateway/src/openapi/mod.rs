//! The OpenAPI document of this gateway, and the Swagger UI.
//!
//! `base.json` holds the built-in API and all schemas. The names of the services and the configured
//! routes are added from the configuration.

mod inputs;
mod page;

use serde_json::{Map, Value, json};
use tower_fanout::ErrorKind;

use self::inputs::Inputs;
pub(crate) use self::page::page;
use crate::config::{PlanConfig, Route, RouteAuth, RoutePath};

/// Builds the OpenAPI document. `built_in` is the plan of the built-in API. With `None` the document does
/// not describe that API.
///
/// # Panics
/// Panics if the embedded `base.json` is not JSON. A test rules that out.
#[must_use]
pub(crate) fn document<'r>(
    built_in: Option<&PlanConfig>,
    routes: impl IntoIterator<Item = &'r Route>,
) -> Value {
    let mut document: Value =
        serde_json::from_str(include_str!("base.json")).expect("base.json is JSON");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let kinds: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let schemas = &mut document["components"]["schemas"];
    schemas["Service"]["properties"]["error"]["properties"]["kind"]["enum"] = json!(kinds);
    let services = built_in.map(|plan| plan.nodes.keys().collect::<Vec<_>>());
    schemas["ServiceName"]["enum"] = json!(services.unwrap_or_default());
    let operations = document
        .as_object_mut()
        // The operations of the built-in API are stored outside `paths`, because they are optional.
        .and_then(|document| document.remove("x-orchestrate"));
    let paths = document["paths"]
        .as_object_mut()
        .expect("base.json has paths");
    if let (Some(plan), Some(Value::Object(mut operations))) = (built_in, operations) {
        let inputs = Inputs::of(plan);
        let methods = operations.values_mut().filter_map(Value::as_object_mut);
        for operation in methods.flat_map(Map::values_mut) {
            protect(operation, plan.auth.as_ref());
            add_example(operation, &inputs);
        }
        paths.extend(operations);
        let request = &mut document["components"]["schemas"]["OrchestrateRequest"];
        describe_input(request, &inputs);
    }
    let paths = document["paths"]
        .as_object_mut()
        .expect("base.json has paths");
    let mut known: Vec<&RoutePath> = Vec::new();
    for route in routes {
        // Several routes may share a path with different methods. OpenAPI forbids two paths that differ
        // only in the names of their parameters, so those of the first route are used.
        let first = known.iter().find(|known| ***known == route.path).copied();
        let path = first.unwrap_or(&route.path);
        if first.is_none() {
            known.push(path);
        }
        let item = paths
            .entry(path.to_string())
            .or_insert_with(|| Value::Object(Map::new()));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route, path);
    }
    let operations = paths.values_mut().filter_map(Value::as_object_mut);
    operations.flat_map(Map::values_mut).for_each(add_common);
    document
}

/// Adds the responses of the layers in front of all operations.
fn add_common(operation: &mut Value) {
    for (status, name) in [
        ("400", "Malformed"),
        ("414", "TargetTooLong"),
        ("417", "ExpectationFailed"),
        ("421", "Misdirected"),
        ("508", "LoopDetected"),
    ] {
        operation["responses"][status] = response(name);
    }
}

fn response(name: &str) -> Value {
    json!({"$ref": format!("#/components/responses/{name}")})
}

/// Adds a request that works as it is to an operation of the built-in API that has a body.
fn add_example(operation: &mut Value, inputs: &Inputs<'_>) {
    if let Some(content) = operation.pointer_mut("/requestBody/content/application~1json") {
        let input = inputs.member("input").and_then(|(_, example, _)| example);
        content["example"] = json!({"input": input.unwrap_or_else(|| json!({}))});
    }
}

/// Adds the members of `input` that the services read to the schema of an orchestrate request. Their rules
/// apply if the request does not choose the services itself.
fn describe_input(request: &mut Value, inputs: &Inputs<'_>) {
    let Some((schema, _, is_required)) = inputs.member("input") else {
        return;
    };
    let chosen_by_plan = json!({"requiredServices": false, "optionalServices": false});
    request["if"] = json!({"properties": chosen_by_plan});
    request["then"] = json!({"properties": {"input": schema}});
    if is_required {
        request["then"]["required"] = json!(["input"]);
    }
}

/// Adds the security requirements of `auth` to `operation`, and the responses to callers without access.
fn protect(operation: &mut Value, auth: Option<&RouteAuth>) {
    operation["security"] = auth.map(requirements).unwrap_or_default().into();
    if auth.is_some() {
        operation["responses"]["401"] = response("Unauthorized");
        operation["responses"]["403"] = response("Forbidden");
        let unavailable = &mut operation["responses"]["503"];
        // Operations that call services have a 503 response already.
        if unavailable.is_null() {
            *unavailable = response("Unavailable");
        }
    }
}

/// Returns the alternative requirements for a token: all scopes, and one of the roles.
fn requirements(auth: &RouteAuth) -> Vec<Value> {
    let scopes = &*auth.all_scopes;
    let with = |role: &[String]| json!({"bearer": ([scopes, role].concat())});
    if auth.any_role.is_empty() {
        return vec![with(&[])];
    }
    // OpenAPI joins the requirements of a list with "or", and those of one requirement with "and".
    auth.any_role.chunks(1).map(with).collect()
}

/// Describes `route`, whose path parameters are named as in `path`.
fn operation(route: &Route, path: &RoutePath) -> Value {
    let inputs = Inputs::of(&route.plan);
    let mut operation = json!({
        "tags": ["routes"],
        "operationId": route.name,
        "summary": route.name,
        "parameters": inputs.parameters(route.path.parameters(), path.parameters()),
        "responses": {
            "200": response("Answer"), "422": response("Invalid"),
            // A body that the plan does not read is limited too.
            "408": response("BodyTimeout"), "413": response("TooLarge"),
            "415": response("UnsupportedMediaType"),
            "502": response("Failed"), "503": response("Unavailable"), "504": response("TimedOut"),
        },
    });
    let has_auth = route.plan.auth.is_some();
    if let Some(description) = inputs.description(has_auth) {
        operation["description"] = description.into();
    }
    if let Some(body) = inputs.request_body() {
        operation["requestBody"] = body;
    }
    protect(&mut operation, route.plan.auth.as_ref());
    operation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, RESERVED_NAMES};

    /// Collects each `$ref` in `value` whose target is not in `document`.
    fn broken_refs(document: &Value, value: &Value, broken: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref")
                    && document.pointer(target.trim_start_matches('#')).is_none()
                {
                    broken.push(target.clone());
                }
                members
                    .values()
                    .for_each(|value| broken_refs(document, value, broken));
            }
            Value::Array(items) => items
                .iter()
                .for_each(|value| broken_refs(document, value, broken)),
            _ => {}
        }
    }

    #[test]
    fn document_has_the_configured_names_and_no_broken_reference() {
        let plan = "user: { downstream: users, request: { path: / } }";
        let config = config(&[("GET", "/pages/{id}", plan)]);
        let document = document(Some(&config.routes[0].plan), &config.routes);
        let mut broken = Vec::new();
        broken_refs(&document, &document, &mut broken);
        assert_eq!(broken, Vec::<String>::new());
        assert_eq!(
            document["components"]["schemas"]["ServiceName"]["enum"],
            json!(["user"])
        );
        assert_eq!(
            document["paths"]["/pages/{id}"]["get"]["parameters"][0]["name"],
            "id"
        );
        assert!(
            document["paths"]["/api/v1/analysis/orchestrate"]["post"]["responses"]["504"]
                .is_object()
        );
        assert!(document.get("x-orchestrate").is_none());
    }

    /// Returns the configuration of routes with these methods, paths and plans.
    fn config(routes: &[(&str, &str, &str)]) -> Config {
        let mut file = String::from(
            "version: 1\ndownstreams: { users: { endpoints: [{ url: 'http://users:8080' }] } }\nroutes:\n",
        );
        for (index, (method, path, plan)) in routes.iter().enumerate() {
            let matched = format!("{{ path: '{path}', method: {method} }}");
            file += &format!("  - {{ name: r{index}, match: {matched}, plan: {{ {plan} }} }}\n");
        }
        Config::parse("a.yaml", &file, &Environment::default()).unwrap()
    }

    #[test]
    fn documents_the_inputs_that_a_route_reads() {
        let config = config(&[
            (
                "POST",
                "/a/{id}",
                "user: { downstream: users, required: true, request: { path: '/{route.id}/{body.n}/{query.x}/{query.y|1}' } },\
                 more: { downstream: users, request: { path: '/{query.z}/{query.x|1}' } }",
            ),
            (
                "GET",
                "/b",
                "user: { downstream: users, required: true, when: 'body.n > 1', request: { path: '/{query.x}' } }",
            ),
            (
                "GET",
                "/c",
                "user: { downstream: users, request: { path: / } }",
            ),
        ]);
        let paths = &document(None, &config.routes)["paths"];
        let (a, b, c) = (
            &paths["/a/{id}"]["post"],
            &paths["/b"]["get"],
            &paths["/c"]["get"],
        );
        let parameter = |of: &Value| json!([of["in"], of["name"], of["required"]]);
        let parameters = |of: &Value| -> Vec<Value> {
            of["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(parameter)
                .collect()
        };
        assert_eq!(
            parameters(a),
            [
                json!(["path", "id", true]),
                json!(["query", "x", true]),
                json!(["query", "y", false]),
                json!(["query", "z", false]),
            ]
        );
        assert_eq!(parameters(b), [json!(["query", "x", false])]);
        assert_eq!(a["requestBody"]["required"], true);
        assert_eq!(b["requestBody"]["required"], false);
        assert_eq!((parameters(c), c.get("requestBody")), (vec![], None));
        for status in ["400", "408", "413", "415"] {
            assert!(a["responses"][status].is_object(), "{status}");
            assert!(c["responses"][status].is_object(), "{status}");
        }
    }

    #[test]
    fn fault_e15_has_one_path_for_parameters_with_other_names() {
        let plan = |path| format!("user: {{ downstream: users, request: {{ path: '{path}' }} }}");
        let [first, second] = [
            plan("/{route.id}/{route.part}"),
            plan("/{route.b|1}/{route.id}"),
        ];
        let config = config(&[
            ("DELETE", "/d/{id}/{part}", &first),
            ("PATCH", "/d/{b}/{id}", &second),
            ("GET", "/d/{id}", &plan("/{route.id}")),
        ]);
        let paths = &document(None, &config.routes)["paths"];
        let named = paths.as_object().unwrap().keys();
        let named: Vec<_> = named.filter(|path| path.starts_with("/d/")).collect();
        assert_eq!(named, ["/d/{id}", "/d/{id}/{part}"]);
        let item = &paths["/d/{id}/{part}"];
        let names = |method: &str| json!([0, 1].map(|at| &item[method]["parameters"][at]["name"]));
        assert_eq!(names("delete"), json!(["id", "part"]));
        assert_eq!(names("patch"), json!(["id", "part"]));
        // The value that the second route calls `b` has the default, and not the one that it calls `id`.
        let patch = &item["patch"]["parameters"];
        assert_eq!(patch[0]["schema"]["default"], "1");
        assert_eq!(patch[1]["schema"]["default"], Value::Null);
    }

    #[test]
    fn fault_i1_documents_the_texts_that_a_header_can_hold() {
        let plan = "user: { downstream: users, required: true, request: { path: '/{header.own}', query: { b: '{header.other}', c: '{query.c}' }, headers: { x-a: '{header.both}' } } }";
        let config = config(&[("GET", "/a", plan)]);
        let document = document(None, &config.routes);
        let parameters = document["paths"]["/a"]["get"]["parameters"].as_array();
        let patterns: Vec<Value> = (parameters.unwrap().iter())
            .map(|parameter| json!([parameter["name"], parameter["schema"]["pattern"]]))
            .collect();
        let expected = [
            json!(["c", null]),
            json!(["own", "^(?!\\.{1,2}$)[\\t -~]*$"]),
            json!(["other", "^[\\t -~]*$"]),
            json!(["both", "^[ -~]*$"]),
        ];
        assert_eq!(patterns, expected);
    }

    #[test]
    fn fault_e21_describes_headers_that_cannot_be_parameters() {
        let request = "{ path: /, headers: { x-a: '{header.Authorization}', x-b: '{header.accept|*/*}', x-c: '{header.x-c}', x-d: '{header.X-C}' } }";
        let plan = format!("user: {{ downstream: users, required: true, request: {request} }}");
        let config = config(&[
            ("GET", "/a", &plan),
            (
                "GET",
                "/b",
                "user: { downstream: users, request: { path: / } }",
            ),
        ]);
        let paths = &document(None, &config.routes)["paths"];
        let text = "Requires the header `Authorization`. Reads the header `accept`.";
        assert_eq!(paths["/a"]["get"]["description"], text);
        assert_eq!(
            paths["/a"]["get"]["parameters"].as_array().unwrap().len(),
            1
        );
        assert_eq!(paths["/b"]["get"]["description"], Value::Null);
        let inputs = Inputs::of(&config.routes[0].plan).description(true);
        assert_eq!(inputs.as_deref(), Some("Reads the header `accept`."));
    }

    #[test]
    fn fault_i18_requires_what_a_strategy_cannot_do_without() {
        let node = |path: &str, more: &str| {
            format!("{{ downstream: users, {more} request: {{ path: '{path}' }} }}")
        };
        let (q, plain) = (node("/{query.q}", ""), node("/plain", ""));
        let (before, after) = (
            node("/b", "depends_on: [a],"),
            node("/{query.q}", "depends_on: [a],"),
        );
        let required = node("/{query.q}", "required: true,");
        for (nodes, strategy, expected) in [
            (format!("a: {q}, b: {plain}"), "{ quorum: 2 }", true),
            (format!("a: {q}, b: {plain}"), "first", false),
            (format!("a: {plain}, b: {after}"), "first", true),
            (
                format!("a: {q}, b: {before}, c: {plain}"),
                "{ quorum: 2 }",
                true,
            ),
            (
                format!("a: {q}, b: {plain}, c: {plain}"),
                "{ quorum: 2 }",
                false,
            ),
            (format!("a: {required}, b: {plain}"), "first", false),
        ] {
            // The helper closes the last brace.
            let plan = format!("{nodes} }}, aggregate: {{ strategy: {strategy}");
            let config = config(&[("GET", "/a", &plan)]);
            let document = document(None, &config.routes);
            let parameter = &document["paths"]["/a"]["get"]["parameters"][0];
            assert_eq!(parameter["required"], expected, "{plan}");
        }
    }

    #[test]
    fn documents_the_required_scopes_and_roles() {
        let file = "version: 1
auth: { jwt: { main: { keys: [{ secret: 0123456789abcdef0123456789abcdef }], issuers: [me], audiences: [you], algorithms: [HS256] } } }
downstreams: { users: { endpoints: [{ url: 'http://users:8080' }] } }
orchestrate:
  auth: { jwt: main, any_role: [reader, admin], all_scopes: [pages, users] }
  plan: { user: { downstream: users, request: { path: / } } }
";
        let config = Config::parse("a.yaml", file, &Environment::default()).unwrap();
        let mut plan = config.orchestrate.unwrap();
        let path = "/paths/~1api~1v1~1analysis~1orchestrate~1test/post";
        let operation =
            |plan: &PlanConfig| document(Some(plan), &[]).pointer(path).unwrap().clone();
        let protected = operation(&plan);
        assert_eq!(
            protected["security"],
            json!([{"bearer": ["pages", "users", "reader"]}, {"bearer": ["pages", "users", "admin"]}])
        );
        plan.auth = None;
        let open = operation(&plan);
        assert_eq!(open["security"], json!([]));
        for status in ["401", "503"] {
            assert!(protected["responses"][status].is_object(), "{status}");
            assert!(open["responses"][status].is_null(), "{status}");
        }
    }

    /// Collects each `operationId` in `value`.
    fn operation_ids(value: &Value, found: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::String(id) if name == "operationId" => found.push(id.clone()),
                _ => operation_ids(value, found),
            }
        }
    }

    #[test]
    fn fault_l15_reserves_the_operation_ids_of_the_gateway() {
        let base: Value = serde_json::from_str(include_str!("base.json")).unwrap();
        let mut ids = Vec::new();
        operation_ids(&base, &mut ids);
        assert!(ids.len() >= 6, "{ids:?}");
        for id in ids {
            assert!(RESERVED_NAMES.contains(&&*id), "{id}");
        }
    }

    #[test]
    fn omits_the_built_in_api_if_it_is_off() {
        assert!(
            document(None, &[])["paths"]
                .get("/api/v1/analysis/orchestrate")
                .is_none()
        );
    }
}
