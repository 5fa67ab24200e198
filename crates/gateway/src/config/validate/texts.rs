//! Finds nodes that need a value as text and as an object.

use std::{borrow::Cow, collections::HashMap};

use tower_fanout::Strategy;
use tower_fanout_json::template::{Position, Reference};

use super::{
    super::{Node, aggregate::Aggregate, check::Nodes, locate::placeholder},
    merge::required,
};

/// Reports values that must be text and an object at once: a node, or all nodes that each request needs, insert the
/// value as text, and a member of it that has no default. `choose` is `true` if a request may select the nodes.
pub(in crate::config) fn check_texts(nodes: &Nodes<'_, '_>, aggregate: &Aggregate, choose: bool) {
    let required = required(nodes);
    let is_needed = |name: &str, node: &Node| {
        let is_chosen = match aggregate.strategy {
            Strategy::All => node.tiers.is_empty() || required.contains(name),
            // A strategy that counts requires no single node.
            Strategy::First | Strategy::Quorum(_) => false,
            _ => required.contains(name),
        };
        !choose && node.when.is_none() && is_chosen
    };
    let mut needed = Uses::default();
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        let mut own = Uses::default();
        let uses = match is_needed(name, node) {
            true => &mut needed,
            false => &mut own,
        };
        let found = node.request.uses().filter_map(|one| uses.add(one));
        let first = found.min_by_key(|found| found.places);
        if let Some(Contradiction { text, member, .. }) = first {
            let message = format!(
                "\"{name}\" never runs: {{{text}}} must be text, but {{{member}}} needs a member of it"
            );
            let help = format!("remove one of them, or add a default such as {{{member}|none}}");
            // One of the two may be in a node before this one.
            let mut own = node.request.uses().map(|(reference, _)| reference);
            let at = own.find(|one| *one == member).unwrap_or(text);
            let reader = placeholder(&reader.at("request"), at);
            let help = Some(reader.masked(&help));
            reader.error_with_help("never_runs", reader.masked(&message), help);
            // The uses of later nodes would report the same values again.
            needed = Uses::default();
        }
    }
}

/// Two placeholders of which the first inserts a value as text, and the second a member of that value without a default.
struct Contradiction<'u> {
    text: &'u Reference,
    member: &'u Reference,
    /// The places of the two among all placeholders.
    places: (usize, usize),
}

/// A placeholder with its place among all placeholders.
type Placed<'u> = (usize, &'u Reference);

/// The uses of values, as a tree of the steps of their paths. A contradiction is found without a look at all of them.
#[derive(Default)]
struct Uses<'u> {
    values: Vec<Value<'u>>,
    /// The index of each value, by that of the value around it and the step to it.
    steps: HashMap<(Option<usize>, Cow<'u, str>), usize>,
    count: usize,
}

/// The first uses of a value.
#[derive(Default)]
struct Value<'u> {
    /// Inserts the value as text.
    text: Option<Placed<'u>>,
    /// Inserts a member of the value, without a default.
    member: Option<Placed<'u>>,
}

impl<'u> Uses<'u> {
    /// Adds a placeholder. Returns the first contradiction that it is a part of.
    fn add(&mut self, (own, position): (&'u Reference, Position)) -> Option<Contradiction<'u>> {
        let placed = (self.count, own);
        self.count += 1;
        let mut value = self.value(None, own.root.to_string().into());
        let mut text = None;
        for step in &own.path {
            if own.default.is_none() {
                text = match (text, self.values[value].text) {
                    (Some(one), Some(other)) => Some(std::cmp::min_by_key(one, other, place)),
                    (one, other) => one.or(other),
                };
                self.values[value].member.get_or_insert(placed);
            }
            value = self.value(Some(value), step.into());
        }
        let own_value = &mut self.values[value];
        let is_text = position != Position::Json;
        let member = own_value.member.filter(|_| is_text);
        if is_text {
            own_value.text.get_or_insert(placed);
        }
        let pairs = [text.zip(Some(placed)), Some(placed).zip(member)];
        let pairs = pairs
            .into_iter()
            .flatten()
            .map(|(text, member)| Contradiction {
                text: text.1,
                member: member.1,
                places: (text.0, member.0),
            });
        pairs.min_by_key(|pair| pair.places)
    }

    /// Returns the index of the value at `step` inside the value `around`.
    fn value(&mut self, around: Option<usize>, step: Cow<'u, str>) -> usize {
        let new = self.values.len();
        let index = *self.steps.entry((around, step)).or_insert(new);
        if index == new {
            self.values.push(Value::default());
        }
        index
    }
}

fn place((place, _): &Placed<'_>) -> usize {
    *place
}
