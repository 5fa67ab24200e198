//! Finds conditions that name what no request has, or that never hold.

use std::sync::atomic::{AtomicBool, Ordering};

use indexmap::IndexMap;
use tower_fanout_json::{
    condition::Condition,
    template::{Found, Lookup, Reference, Root},
};

use super::{
    super::{Node, RouteAuth, Tier, check::Nodes, value::did_you_mean},
    tiers::{admits, quoted},
};

/// Reports conditions that name what no request of the route has, or that hold for no tier of its callers.
/// `parameters` are those of the path of the route, or `None` if the path is invalid. `possible` are the tiers of
/// the callers, and `tiers` those of the file.
pub(in crate::config) fn check_conditions(
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[String]>,
    auth: Option<&RouteAuth>,
    possible: &[&str],
    tiers: &IndexMap<String, Tier>,
) {
    let known = tiers.keys().map(String::as_str);
    let known: Vec<&str> = known.chain(possible.iter().copied()).collect();
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        let Some(condition) = &node.when else {
            continue;
        };
        let references = condition.references().iter();
        let mut wrong = references.filter_map(|(reference, column)| {
            let problem = wrong_reference(reference, parameters, auth.is_some())?;
            Some((problem, *column))
        });
        let problem = wrong.next().or_else(|| unknown_tier(condition, &known));
        let reader = reader.at("when");
        if let Some(((code, message, help), column)) = problem {
            let reader = reader.at_character(column);
            reader.error_with_help(code, message, Some(help));
        } else if let Some((code, message, help)) = never_runs(name, node, condition, possible) {
            reader.error_with_help(code, message, Some(help));
        }
    }
}

/// Code, message and help of a diagnostic.
type Problem = (&'static str, String, String);

/// Returns the problem of a condition that compares the tier with one that is not in `known`, and the number of its
/// first character.
fn unknown_tier(condition: &Condition, known: &[&str]) -> Option<(Problem, usize)> {
    let mut compared = condition.tiers().into_iter();
    let (tier, column) = compared.find(|(tier, _)| !known.contains(tier))?;
    let help = did_you_mean(tier, known.iter().copied()).unwrap_or_else(|| match known {
        [] => "add the tier to the tiers of the file".to_owned(),
        _ => format!("expected {}", quoted(known.to_vec())),
    });
    let message = format!("unknown tier \"{tier}\"");
    Some((("unknown_name", message, help), column))
}

/// Returns the problem of a condition that holds in none of the `possible` tiers that run `node`.
fn never_runs(
    name: &str,
    node: &Node,
    condition: &Condition,
    possible: &[&str],
) -> Option<Problem> {
    let reached = possible.iter().copied().filter(|tier| admits(node, tier));
    let reached: Vec<&str> = reached.collect();
    // A node that no caller reaches is reported with its tiers.
    let never = !reached.is_empty() && never_holds(condition, &reached);
    never.then(|| {
        if condition.references().is_empty() {
            let message = format!("\"{name}\" never runs: its condition never holds");
            return ("never_runs", message, "change the condition, or remove the node".into());
        }
        let message = format!(
            "\"{name}\" never runs: its condition does not hold in tier {}, and no caller in another tier reaches the node",
            quoted(reached)
        );
        let help = "change the condition, the tiers of the node, or the auth of the route";
        ("never_runs", message, help.into())
    })
}

/// Returns the problem of a value that no request of a route has.
fn wrong_reference(
    reference: &Reference,
    parameters: Option<&[String]>,
    has_auth: bool,
) -> Option<Problem> {
    match (&reference.root, reference.path.first()) {
        (Root::Jwt, _) if !has_auth => Some((
            "never_runs",
            format!("{reference} needs a token, but the route has no auth"),
            "add auth to the route, or remove the claim from the condition".into(),
        )),
        (Root::Route, Some(name)) if parameters.is_some_and(|known| !known.contains(name)) => {
            let known = parameters.unwrap_or_default();
            let help = did_you_mean(name, known.iter().map(String::as_str));
            Some((
                "reference",
                format!("unknown route parameter {reference}"),
                help.unwrap_or_else(|| "add the parameter to the path of the route".into()),
            ))
        }
        _ => None,
    }
}

/// A request of which only the tier is known. Other values exist, but the condition cannot use them.
struct OnlyTier<'t> {
    tier: &'t str,
    /// `true` if another value was read.
    reads_others: AtomicBool,
}

impl Lookup for OnlyTier<'_> {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        if reference.root == Root::Tier {
            return Some(Found::Text(self.tier.into()));
        }
        self.reads_others.store(true, Ordering::Relaxed);
        Some(Found::Unusable)
    }
}

/// Returns `true` if `condition` holds for none of `tiers`, whatever else a request has.
pub(super) fn never_holds(condition: &Condition, tiers: &[&str]) -> bool {
    tiers
        .iter()
        .all(|tier| decided(condition, tier) == Some(false))
}

/// Returns `true` if `condition` holds for each of `tiers`, whatever else a request has.
pub(super) fn always_holds(condition: &Condition, tiers: &[&str]) -> bool {
    tiers
        .iter()
        .all(|tier| decided(condition, tier) == Some(true))
}

/// Returns whether `condition` holds for callers in `tier`, or `None` if that depends on other values. An error
/// of the condition counts as `false`.
fn decided(condition: &Condition, tier: &str) -> Option<bool> {
    let request = OnlyTier {
        tier,
        reads_others: AtomicBool::new(false),
    };
    let holds = condition.holds(&request);
    // An operand that is an error does not count if the other one decides.
    holds
        .ok()
        .or_else(|| (!request.reads_others.into_inner()).then_some(false))
}
