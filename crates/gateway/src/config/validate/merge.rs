//! Detects merge conflicts: members that the configuration declares for more than one node.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use serde_json::{Map, Value};
use tower_fanout::Strategy;
use tower_fanout_json::{
    Json,
    filter::{FieldFilter, FieldFilterConfig},
    merge::DeclaredConflict,
};

use super::super::{FallbackTarget, Node, aggregate::Aggregate, check::Nodes, reader::ValueReader};

/// Reports members that several nodes of a plan declare. `choose` is `true` if a request may select
/// nodes, so that no two of them always run together.
pub(in crate::config) fn check_conflicts(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    choose: bool,
) {
    let known: Vec<(&str, &Node)> = nodes
        .iter()
        .filter_map(|(name, (node, _))| Some((&**name, node.as_ref()?)))
        .collect();
    let filters = known.iter().map(|(name, node)| (*name, &node.filter));
    let declared = aggregate.merge.declared_conflicts(filters);
    check_fallbacks(aggregate, nodes, &known, &declared);
    let mut always = Always::new(nodes, aggregate.strategy);
    let mut readers = HashMap::new();
    for conflict in &declared {
        // The first node for each group of nodes that always run together.
        let mut firsts = HashMap::new();
        for (index, second) in conflict.nodes.iter().enumerate() {
            // A pair that always runs together conflicts in every run, which is an error.
            // Otherwise the conflict is only possible, which is a warning.
            let group = always.group(second).filter(|_| !choose);
            let first = group.map(|group| *firsts.entry(group).or_insert(second));
            let certain = first.filter(|first| *first != second);
            if index > 0 {
                let first = certain.unwrap_or(&conflict.nodes[0]);
                let names = readers
                    .entry(&**second)
                    .or_insert_with(|| new_names(nodes, second));
                report(names, &conflict.key, [first, second], certain.is_some());
            }
        }
    }
}

/// Warns about members of static fallbacks that other nodes have too. `declared` are the conflicts without fallbacks.
fn check_fallbacks(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    known: &[(&str, &Node)],
    declared: &[DeclaredConflict],
) {
    let fixed = known.iter().flat_map(|(name, node)| {
        let steps = node.fallback.iter().enumerate();
        steps.filter_map(move |(index, step)| match &step.target {
            FallbackTarget::Static(answer) => {
                Some((format!("\0{name}\0{index}"), members(answer)?))
            }
            FallbackTarget::Service(_) => None,
        })
    });
    let fixed: Vec<_> = fixed.collect();
    let filters = known.iter().map(|(name, node)| (*name, &node.filter));
    let fallbacks = fixed.iter().map(|(label, filter)| (&**label, filter));
    let declared: HashSet<_> = declared.iter().map(|conflict| &*conflict.key).collect();
    for conflict in aggregate.merge.declared_conflicts(filters.chain(fallbacks)) {
        if declared.contains(&*conflict.key) {
            continue;
        }
        let owners = conflict.nodes.iter().map(|label| owner(label));
        let owners: Vec<_> = owners.collect();
        let (first, _) = owners[0];
        let second = owners
            .iter()
            .map(|(name, _)| *name)
            .position(|name| name != first);
        for (place, (name, index)) in owners.iter().enumerate() {
            let other = match *name == first {
                true => second
                    .filter(|second| *second < place)
                    .map(|second| owners[second].0),
                false => Some(first),
            };
            if let (Some(index), Some(other)) = (index, other) {
                report_fallback(nodes, (name, *index), other, &conflict.key);
            }
        }
    }
}

/// Returns the node and the index of the fallback with a label, or the node with a name.
fn owner(label: &str) -> (&str, Option<usize>) {
    let fallback = label.strip_prefix('\0').and_then(|rest| {
        let (name, index) = rest.rsplit_once('\0')?;
        Some((name, index.parse().ok()))
    });
    fallback.unwrap_or((label, None))
}

/// Warns about the member `key` of a fallback that another node has too.
fn report_fallback(nodes: &Nodes<'_, '_>, (name, index): (&str, usize), other: &str, key: &str) {
    let (_, reader) = &nodes[name];
    let reader = reader.item("fallback", index).at("static").at(key);
    let message = format!(
        "the static fallback of \"{name}\" and \"{other}\" may both set \"{key}\" in the merged response"
    );
    let help = "rename it in one of them, or set on_conflict to first, last or rename";
    reader.warning("conflict", reader.masked(&message), help);
}

/// Returns a filter that declares the members of an object, or `None` for another value.
fn members(answer: &Json) -> Option<FieldFilter> {
    let object: Map<String, Value> = serde_json::from_str(answer.as_raw()).ok()?;
    let escaped = |name: &String| name.replace('\\', "\\\\").replace('.', "\\.");
    let mut filter = FieldFilterConfig::default();
    filter.allow = object.keys().map(escaped).collect();
    FieldFilter::new(filter).ok()
}

/// Returns the values of `response` that give members of a node their names, from `rename` or from `allow`, by the names.
/// Returns the place of others too.
fn new_names<'f>(
    nodes: &Nodes<'_, 'f>,
    node: &str,
) -> (HashMap<&'f str, ValueReader<'f>>, ValueReader<'f>) {
    let (_, reader) = &nodes[node];
    let response = reader.at("response");
    let renamed = response.members("rename").into_iter();
    let all = renamed
        .map(|(_, value)| value)
        .chain(response.items("allow"));
    let mut names = HashMap::new();
    for value in all {
        if let Some(name) = value.tree.as_text() {
            names.entry(name).or_insert(value);
        }
    }
    (names, response.at("allow"))
}

/// Reports a conflict where the second node declares `key`: an error if `certain`, else a warning.
fn report(
    (names, otherwise): &(HashMap<&str, ValueReader<'_>>, ValueReader<'_>),
    key: &str,
    [first, second]: [&str; 2],
    certain: bool,
) {
    let reader = names.get(key).unwrap_or(otherwise);
    let set = if certain { "both set" } else { "may both set" };
    let message = format!("\"{first}\" and \"{second}\" {set} \"{key}\" in the merged response");
    let message = reader.masked(&message);
    let help = "rename it in one of them, or set on_conflict to first, last or rename";
    if certain {
        reader.error_with_help("conflict", message, Some(help.into()));
    } else {
        reader.warning("conflict", message, help);
    }
}

/// The nodes that every successful run includes, for the callers of the same tiers.
struct Always<'n, 'm, 'f> {
    nodes: &'n Nodes<'m, 'f>,
    strategy: Strategy,
    required: HashSet<&'n str>,
    /// The groups of nodes, by their names.
    groups: HashMap<String, Option<Group>>,
}

/// The tier restrictions of a node and of its transitive dependencies.
type Group = Rc<BTreeSet<BTreeSet<String>>>;

impl<'n, 'm, 'f> Always<'n, 'm, 'f> {
    fn new(nodes: &'n Nodes<'m, 'f>, strategy: Strategy) -> Self {
        Self {
            nodes,
            strategy,
            required: required(nodes),
            groups: HashMap::new(),
        }
    }

    /// Returns the group of the nodes that every successful run includes if it includes this one, or `None` if a successful
    /// run may lack the node.
    fn group(&mut self, name: &str) -> Option<Group> {
        if let Some(known) = self.groups.get(name) {
            return known.clone();
        }
        let is_required = match self.strategy {
            Strategy::First | Strategy::Quorum(_) => false,
            Strategy::All => true,
            _ => self.required.contains(name),
        };
        let needed: Vec<_> = match is_required {
            true => needs(self.nodes, vec![name]).collect(),
            false => Vec::new(),
        };
        let is_always = is_required && needed.iter().all(|(_, node)| node.when.is_none());
        let group = is_always.then(|| {
            let restricted = needed.iter().filter(|(_, node)| !node.tiers.is_empty());
            Rc::new(
                restricted
                    .map(|(_, node)| node.tiers.iter().cloned().collect())
                    .collect(),
            )
        });
        self.groups.insert(name.to_owned(), group.clone());
        group
    }
}

/// Returns the names of the nodes that are required, or that a required node needs.
pub(super) fn required<'n>(nodes: &'n Nodes<'_, '_>) -> HashSet<&'n str> {
    let required = nodes
        .iter()
        .filter(|(_, (node, _))| node.as_ref().is_some_and(|node| node.required));
    let required = required.map(|(name, _)| name.as_str());
    needs(nodes, required.collect())
        .map(|(name, _)| name)
        .collect()
}

/// Returns the nodes `found` and their transitive required dependencies, without those that have errors.
fn needs<'n>(
    nodes: &'n Nodes<'_, '_>,
    mut found: Vec<&'n str>,
) -> impl Iterator<Item = (&'n str, &'n Node)> {
    let mut seen: HashSet<&str> = found.iter().copied().collect();
    let mut next = 0;
    while let Some(name) = found.get(next) {
        next += 1;
        let node = nodes.get(*name).and_then(|(node, _)| node.as_ref());
        for dependency in node.iter().flat_map(|node| &node.depends_on) {
            if !dependency.optional && seen.insert(&dependency.node) {
                found.push(&dependency.node);
            }
        }
    }
    found
        .into_iter()
        .filter_map(|name| Some((name, nodes.get(name)?.0.as_ref()?)))
}
