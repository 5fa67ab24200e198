//! The values that a plan reads from a request, as parameters and as a schema of the body.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use tower_fanout::Strategy;
use tower_fanout_json::template::{Position, Reference, Root};

use crate::config::{KeyTemplate, Node, PlanConfig};

/// A value without a default has this example. It is usable in each position.
const EXAMPLE: &str = "1";

/// Number of items of an array that a schema describes one by one.
const MAX_ITEMS: usize = 32;

/// Headers that OpenAPI describes by other means than parameters.
const NO_PARAMETERS: [&str; 3] = ["accept", "authorization", "content-type"];

/// The values that a plan reads from a request.
#[derive(Default)]
pub(super) struct Inputs<'p> {
    route: IndexMap<&'p str, Input<'p>>,
    query: IndexMap<&'p str, Input<'p>>,
    headers: IndexMap<&'p str, Input<'p>>,
    /// The body. `None` if the plan does not read it.
    body: Option<Input<'p>>,
}

/// A value that a plan reads.
#[derive(Default)]
struct Input<'p> {
    /// `true` if a request without the value is rejected.
    is_required: bool,
    /// `true` if an example has the value: a node without dependencies reads it, or it is required.
    is_in_example: bool,
    /// Positions of the uses that reject a request whose value they cannot take.
    positions: Vec<Position>,
    default: Option<&'p str>,
    /// The members of an object that are read.
    members: IndexMap<&'p str, Self>,
}

impl<'p> Inputs<'p> {
    /// Collects the inputs of `plan`.
    pub(super) fn of(plan: &'p PlanConfig) -> Self {
        let mut inputs = Self::default();
        for (node, is_required) in plan.nodes.values().zip(required_nodes(plan)) {
            inputs.add_node(plan, node, is_required);
        }
        inputs
    }

    /// Adds the inputs of `node`. A request whose input cannot be sent is rejected if the node is required and
    /// has no condition, or if no node can be sent then. Such an input is required if it has no default.
    fn add_node(&mut self, plan: &PlanConfig, node: &'p Node, is_required: bool) {
        for (reference, position) in node.request.uses() {
            let always = is_required && node.when.is_none();
            let has_default = |reference: &Reference| reference.default.is_some();
            // A node that uses the value in a position with fewer rules can still be sent.
            let is_as_strict = |used| match position {
                Position::Json => true,
                Position::Text => used != Position::Json,
                _ => used == position,
            };
            let input = Input {
                is_required: always && !has_default(reference)
                    || is_needed_by_all(plan, reference, |used, _| !has_default(used)),
                // If all nodes are optional, no value is required, but one of these nodes must be sent.
                is_in_example: is_first(node),
                positions: if always
                    || is_needed_by_all(plan, reference, |_, used| is_as_strict(used))
                {
                    vec![position]
                } else {
                    Vec::new()
                },
                default: reference.default.as_deref(),
                members: IndexMap::new(),
            };
            self.add(reference, input);
        }
        // A call without a key shares one with others, so no value of a key is required.
        for reference in node.keys.iter().flat_map(KeyTemplate::references) {
            let default = reference.default.as_deref();
            let optional = Input {
                default,
                ..Input::default()
            };
            self.add(reference, optional);
        }
        if node.reads(&Root::Body) {
            self.body.get_or_insert_default();
        }
    }

    fn add(&mut self, reference: &'p Reference, used: Input<'p>) {
        let name = reference.path.first().map(String::as_str);
        let mut input = match (&reference.root, name) {
            (Root::Route, Some(name)) => self.route.entry(name).or_default(),
            (Root::Query, Some(name)) => self.query.entry(name).or_default(),
            (Root::Header, Some(name)) => {
                // The names of headers are the same in any case.
                let mut known = self.headers.keys();
                let known = known.find(|known| known.eq_ignore_ascii_case(name));
                let name = known.copied().unwrap_or(name);
                self.headers.entry(name).or_default()
            }
            (Root::Body, _) => self.body.get_or_insert_default(),
            _ => return,
        };
        if reference.root == Root::Body {
            for step in &reference.path {
                // An object is required if one of its members is.
                input.is_required |= used.is_required;
                input = input.members.entry(step).or_default();
            }
        }
        input.is_required |= used.is_required;
        input.is_in_example |= used.is_required || used.is_in_example;
        input.default = input.default.or(used.default);
        input.positions.extend(used.positions);
    }

    /// Returns the parameters of an operation. The plan reads the path parameters as `names`, and the
    /// document calls them `documented`.
    pub(super) fn parameters(&self, names: &[String], documented: &[String]) -> Vec<Value> {
        let unread = Input::default();
        let path = names.iter().zip(documented).map(|(name, documented)| {
            let input = self.route.get(&**name).unwrap_or(&unread);
            let mut parameter = input.parameter("path", documented);
            // A path without the value belongs to another route.
            parameter["required"] = true.into();
            parameter["schema"]["minLength"] = 1.into();
            parameter
        });
        let query = self
            .query
            .iter()
            .map(|(name, input)| input.parameter("query", name));
        let headers = self.headers.iter().filter(|(name, _)| is_parameter(name));
        let headers = headers.map(|(name, input)| input.parameter("header", name));
        path.chain(query).chain(headers).collect()
    }

    /// Returns a text about the headers that are not parameters, or `None` if the plan reads none. `has_auth`
    /// is `true` if the security requirements describe the header `authorization`.
    pub(super) fn description(&self, has_auth: bool) -> Option<String> {
        let headers = self.headers.iter().filter(|(name, _)| {
            !(is_parameter(name) || has_auth && name.eq_ignore_ascii_case("authorization"))
        });
        let texts: Vec<_> = headers
            .map(|(name, input)| {
                let verb = if input.is_required {
                    "Requires"
                } else {
                    "Reads"
                };
                format!("{verb} the header `{name}`.")
            })
            .collect();
        (!texts.is_empty()).then(|| texts.join(" "))
    }

    /// Returns the request body of an operation, or `None` if the plan reads none.
    pub(super) fn request_body(&self) -> Option<Value> {
        let body = self.body.as_ref()?;
        let mut content = json!({"schema": body.schema()});
        if let Some(example) = body.example() {
            content["example"] = example;
        }
        let content = json!({"application/json": content});
        Some(json!({"required": body.is_required, "content": content}))
    }

    /// Returns the schema and the example of the member `name` of the body, and `true` if it is required.
    /// `None` if the plan does not read the member.
    pub(super) fn member(&self, name: &str) -> Option<(Value, Option<Value>, bool)> {
        let member = self.body.as_ref()?.members.get(name)?;
        Some((member.schema(), member.example(), member.is_required))
    }
}

impl Input<'_> {
    fn parameter(&self, location: &str, name: &str) -> Value {
        let mut schema = json!({"type": "string"});
        self.restrict(&mut schema, location == "header");
        let mut parameter = json!({"name": name, "in": location, "schema": schema});
        parameter["required"] = self.is_required.into();
        match self.default {
            Some(default) => parameter["schema"]["default"] = default.into(),
            None if self.is_in_example || location == "path" => {
                parameter["example"] = EXAMPLE.into();
            }
            None => {}
        }
        parameter
    }

    /// Returns the schema of a member of the body. A value has a type if each request with a value of another
    /// type is rejected.
    fn schema(&self) -> Value {
        let mut schema = json!({});
        if self.is_text() {
            let mut types = vec!["string", "number", "boolean"];
            if !self.is_required {
                // Counts as missing where text is needed.
                types.push("null");
            }
            schema["type"] = json!(types);
            self.restrict(&mut schema, false);
        } else if !self.members.is_empty() {
            self.describe_members(&mut schema);
        }
        if let Some(default) = self.default {
            schema["default"] = default.into();
        }
        schema
    }

    /// Returns `true` if each request with a value other than text is rejected. No member of the value is required
    /// then, because the configuration check refuses a plan that needs both.
    fn is_text(&self) -> bool {
        let mut positions = self.positions.iter();
        positions.any(|position| *position != Position::Json)
    }

    /// Adds the members. A number is the index of an item as well as the name of a member, so its value has
    /// the rules of both: each applies to its own type.
    fn describe_members(&self, schema: &mut Value) {
        let members = self.members.iter();
        let properties: Map<_, _> = members
            .map(|(name, member)| ((*name).to_owned(), member.schema()))
            .collect();
        schema["properties"] = properties.into();
        let items: BTreeMap<usize, &Self> = (self.members.iter())
            .filter_map(|(name, member)| Some((name.parse().ok()?, member)))
            .collect();
        if let Some(last) = items.keys().last().filter(|last| **last < MAX_ITEMS) {
            let item = |index| items.get(&index).map_or(json!({}), |item| item.schema());
            schema["prefixItems"] = (0..=*last).map(item).collect();
        }
        let required = || self.members.iter().filter(|(_, member)| member.is_required);
        if required().next().is_none() {
            return;
        }
        schema["required"] = required().map(|(name, _)| *name).collect();
        let indices: Option<Vec<usize>> = required().map(|(name, _)| name.parse().ok()).collect();
        match indices.and_then(|indices| indices.into_iter().max()) {
            Some(last) => {
                schema["type"] = json!(["array", "object"]);
                schema["minItems"] = last.saturating_add(1).into();
            }
            // An array has no member with another name.
            None => schema["type"] = "object".into(),
        }
    }

    /// Adds the rules of the positions for texts, and that of a header of the caller, which is ASCII.
    fn restrict(&self, schema: &mut Value, from_header: bool) {
        let is_in = |position| self.positions.contains(&position);
        let allowed = match is_in(Position::Header) {
            true => "[ -~]*$",
            false if from_header && !self.positions.is_empty() => "[\\t -~]*$",
            false => "",
        };
        let pattern = match is_in(Position::Path) {
            true => format!("^(?!\\.{{1,2}}$){allowed}"),
            false if allowed.is_empty() => return,
            false => format!("^{allowed}"),
        };
        schema["pattern"] = pattern.into();
        if is_in(Position::Path) {
            schema["minLength"] = 1.into();
        }
    }

    /// Returns a value with all members that an example has or that have a default. Returns `None` if no
    /// member is either. A value that must be text has no members.
    fn example(&self) -> Option<Value> {
        if self.members.is_empty() || self.is_text() {
            let value = self.default.or(self.is_in_example.then_some(EXAMPLE));
            return value.map(Value::from);
        }
        let members = self.members.iter();
        let examples =
            members.filter_map(|(name, member)| Some(((*name).to_owned(), member.example()?)));
        let mut examples: Map<String, Value> = examples.collect();
        if examples.is_empty() {
            return None;
        }
        let indices: Vec<String> = (0..examples.len()).map(|index| index.to_string()).collect();
        // Members that are the first indices are more likely meant as items than as names.
        let are_items = indices.iter().all(|index| examples.contains_key(index));
        if are_items {
            return Some(
                indices
                    .iter()
                    .filter_map(|index| examples.remove(index))
                    .collect(),
            );
        }
        Some(examples.into())
    }
}

/// Returns `true` if OpenAPI describes the header `name` as a parameter.
fn is_parameter(name: &str) -> bool {
    let mut others = NO_PARAMETERS.into_iter();
    !others.any(|other| other.eq_ignore_ascii_case(name))
}

/// Returns `true` if `node` can be sent before any other node has responded.
fn is_first(node: &Node) -> bool {
    node.depends_on.iter().all(|needed| needed.optional)
}

/// Returns `true` if each node of `plan` uses the value of `reference`, or too many nodes for its strategy do.
/// Only uses for which `counts` returns `true` are considered. Without a number of nodes in the strategy, the
/// nodes without dependencies decide, because the others are skipped without them.
fn is_needed_by_all(
    plan: &PlanConfig,
    reference: &Reference,
    counts: impl Fn(&Reference, Position) -> bool,
) -> bool {
    let reads = |node: &Node| {
        let is_same = |used: &Reference| used.root == reference.root && used.path == reference.path;
        let mut uses = node.request.uses();
        uses.any(|(used, position)| counts(used, position) && is_same(used))
    };
    // A node that is not chosen does not fail.
    let is_always_chosen = |node: &Node| node.when.is_none() && node.tiers.is_empty();
    let mut first = plan.nodes.values().filter(|node| is_first(node));
    first.all(|node| is_always_chosen(node) && reads(node))
        || plan.nodes.values().all(is_always_chosen)
            && quorum(plan).is_some_and(|needed| sinks_without(plan, reads) < needed)
}

/// Returns the number of sinks that the strategy of `plan` counts, or `None` if it does not count.
const fn quorum(plan: &PlanConfig) -> Option<usize> {
    match plan.aggregate.strategy {
        Strategy::First => Some(1),
        Strategy::Quorum(needed) => Some(needed.get()),
        _ => None,
    }
}

/// Returns the number of nodes on which no other depends, and that can be sent if the nodes for which `fails`
/// returns `true` cannot.
fn sinks_without(plan: &PlanConfig, fails: impl Fn(&Node) -> bool) -> usize {
    let nodes = &plan.nodes;
    let mut sent: Vec<bool> = nodes.values().map(|node| !fails(node)).collect();
    // A node may be declared before the nodes that it needs, and no chain is longer than the plan.
    for _ in 0..nodes.len() {
        for (index, node) in nodes.values().enumerate() {
            let hard = node.depends_on.iter().filter(|needed| !needed.optional);
            let mut hard = hard.filter_map(|needed| nodes.get_index_of(&needed.node));
            let has_all = hard.all(|needed| sent[needed]);
            sent[index] &= has_all;
        }
    }
    let is_sink = |name: &str| {
        let mut needed = nodes.values().flat_map(|node| &node.depends_on);
        !needed.any(|needed| needed.node == name)
    };
    let sinks = nodes.keys().zip(sent);
    sinks.filter(|(name, sent)| *sent && is_sink(name)).count()
}

/// Returns for each node of `plan` whether every successful run needs it.
fn required_nodes(plan: &PlanConfig) -> Vec<bool> {
    let all = plan.aggregate.strategy == Strategy::All;
    let mut required: Vec<bool> = plan
        .nodes
        .values()
        // A strategy that counts requires no single node.
        .map(|node| all || node.required && quorum(plan).is_none())
        .collect();
    // A node may be declared before the nodes that it needs, so this repeats until nothing changes.
    loop {
        let before = required.clone();
        let nodes = plan.nodes.values().zip(&before);
        let dependencies = nodes
            .filter(|(_, required)| **required)
            .flat_map(|(node, _)| &node.depends_on);
        for needed in dependencies.filter(|needed| !needed.optional) {
            if let Some(needed) = plan.nodes.get_index_of(&needed.node) {
                required[needed] = true;
            }
        }
        if required == before {
            return required;
        }
    }
}
