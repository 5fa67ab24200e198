//! Finds conditions that name what no request has, or that never hold.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use indexmap::IndexSet;
use tower_fanout_json::{
    condition::{Condition, EvalError},
    template::{Found, Lookup, Reference, Root},
};

use super::{
    super::{Node, RouteAuth, check::Nodes, plan::Names, reader::ValueReader, value::known_names},
    tiers::{admits, quoted},
};

/// Reports conditions that name what no request of the route has, or that hold for no tier of its callers.
/// `parameters` are those of the path of the route, or `None` if the path is invalid. `possible` are the tiers of
/// the callers.
pub(in crate::config) fn check_conditions(
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[String]>,
    auth: Option<&RouteAuth>,
    possible: &[&str],
    names: &Names<'_>,
) {
    let known = names.tiers.keys().map(String::as_str);
    let known: IndexSet<&str> = known.chain(possible.iter().copied()).collect();
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        let Some(condition) = &node.when else {
            continue;
        };
        let references = condition.references().iter();
        let wrong = references.filter_map(|(reference, column)| {
            let problem = wrong_reference(name, reference, parameters, auth.is_some())?;
            Some((problem, *column))
        });
        let problems: Vec<_> = wrong
            .chain(unknown_tiers(condition, &known, reader))
            .collect();
        let never = (problems.is_empty() && has_known_tiers(condition, &known)).then(|| {
            let tiers = (&known, possible);
            never_runs(name, node, condition, tiers, auth, &names.outcomes)
        });
        let reader = reader.at("when");
        for ((code, message, help), column) in problems {
            let reader = reader.at_character(column);
            reader.error_with_help(code, reader.masked(&message), Some(help));
        }
        if let Some((code, message, help)) = never.flatten() {
            reader.error_with_help(code, message, Some(help));
        }
    }
}

/// Returns `false` if the condition compares the tier with one whose definition has an error.
fn has_known_tiers(condition: &Condition, known: &IndexSet<&str>) -> bool {
    let compared = condition.tiers();
    compared.iter().all(|(tier, _)| known.contains(tier))
}

/// Code, message and help of a diagnostic.
type Problem = (&'static str, String, String);

/// Returns the problems of a condition that compares the tier with one that is not in `known`, each with the number of its
/// first character.
fn unknown_tiers(
    condition: &Condition,
    known: &IndexSet<&str>,
    reader: &ValueReader<'_>,
) -> Vec<(Problem, usize)> {
    let is_unknown = |tier: &str| !known.contains(tier) && !reader.may_define("tiers", tier);
    let compared = condition.tiers().into_iter();
    let unknown = compared.filter(|(tier, _)| is_unknown(tier));
    let problems = unknown.map(|(tier, column)| {
        let help = reader.known_names(tier, known.len(), known.iter().copied());
        let help = help.unwrap_or_else(|| "define it under tiers".to_owned());
        let message = format!("unknown tier \"{tier}\"");
        (("unknown_name", message, help), column)
    });
    problems.collect()
}

/// Returns the problem of a condition that holds in none of the `possible` tiers that run `node`. `known` are all tiers.
fn never_runs(
    name: &str,
    node: &Node,
    condition: &Condition,
    (known, possible): (&IndexSet<&str>, &[&str]),
    auth: Option<&RouteAuth>,
    outcomes: &Outcomes,
) -> Option<Problem> {
    let reached = possible.iter().copied().filter(|tier| admits(node, tier));
    let reached: Vec<&str> = reached.collect();
    // A node that no caller reaches is reported with its tiers.
    let never = !reached.is_empty() && outcomes.never_holds(condition, &reached);
    // The tier is no reason if the condition holds in no other one either.
    let compared = condition.tiers().into_iter().map(|(tier, _)| tier);
    // Most conditions hold in a tier that they name.
    let others = compared.chain(known.iter().copied()).chain([OTHER_TIER]);
    let others: Vec<&str> = others.collect();
    let fails = |tier: &&str| matches!(outcomes.of(condition, tier), Some(Err(_)));
    never.then(|| {
        let (why, help) = if reached.iter().all(fails) {
            let help = "change the operation that no value supports, or remove the node";
            ("is an error in every request".to_owned(), help)
        } else if outcomes.never_holds(condition, &others) {
            let help = "change the condition, or remove the node";
            ("never holds".to_owned(), help)
        } else {
            let (why, help) = tiers_of_callers(reached.len() < possible.len(), auth.is_some());
            let tiers = quoted(reached, " or ");
            (format!("does not hold in tier {tiers}, and {why}"), help)
        };
        let message = format!("\"{name}\" never runs: its condition {why}");
        ("never_runs", message, help.into())
    })
}

/// A tier that no file has.
const OTHER_TIER: &str = "\u{0}";

/// Returns the reason why callers are in no other tier, and a change.
const fn tiers_of_callers(is_limited: bool, has_auth: bool) -> (&'static str, &'static str) {
    if is_limited {
        (
            "its tiers allow no other",
            "change the condition, or the tiers",
        )
    } else if has_auth {
        (
            "the tokens of the route give no other",
            "change the condition, or set tier.claim of the provider",
        )
    } else {
        (
            "callers are in no other, because the route has no auth",
            "change the condition, or add auth to the route",
        )
    }
}

/// Returns the problem of a value that no request of a route has.
fn wrong_reference(
    name: &str,
    reference: &Reference,
    parameters: Option<&[String]>,
    has_auth: bool,
) -> Option<Problem> {
    match (&reference.root, reference.path.first()) {
        (Root::Jwt, _) if !has_auth => Some((
            "never_runs",
            format!("\"{name}\" never runs: {reference} needs a token, but the route has no auth"),
            "add auth to the route, or remove the claim from the condition".into(),
        )),
        (Root::Route, Some(step)) if parameters.is_some_and(|known| !known.contains(step)) => {
            let known = parameters.unwrap_or_default();
            let help = known_names(step, known.iter().map(String::as_str));
            Some((
                "reference",
                format!("unknown route parameter {reference}"),
                help.unwrap_or_else(|| "add the parameter to match.path".into()),
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

/// The results of conditions by their texts and tiers. Nodes of many routes have the same conditions.
#[derive(Default)]
pub(in crate::config) struct Outcomes(RefCell<HashMap<String, HashMap<String, Outcome>>>);

/// The result of a condition for callers in a tier, or `None` if it depends on other values.
type Outcome = Option<Result<bool, EvalError>>;

impl Outcomes {
    /// Returns `true` if `condition` holds for none of `tiers`, whatever else a request has.
    pub(super) fn never_holds(&self, condition: &Condition, tiers: &[&str]) -> bool {
        let mut tiers = tiers.iter();
        tiers.all(|tier| self.decided(condition, tier) == Some(false))
    }

    /// Returns `true` if `condition` holds for each of `tiers`, whatever else a request has.
    pub(super) fn always_holds(&self, condition: &Condition, tiers: &[&str]) -> bool {
        let mut tiers = tiers.iter();
        tiers.all(|tier| self.decided(condition, tier) == Some(true))
    }

    /// Returns whether `condition` holds for callers in `tier`, or `None` if that depends on other values. An error
    /// of the condition counts as `false`.
    fn decided(&self, condition: &Condition, tier: &str) -> Option<bool> {
        self.of(condition, tier).map(Result::unwrap_or_default)
    }

    /// Returns the result of `condition` for callers in `tier`, or `None` if it depends on other values.
    fn of(&self, condition: &Condition, tier: &str) -> Outcome {
        let mut all = self.0.borrow_mut();
        let tiers = all.entry(condition.to_string()).or_default();
        match tiers.get(tier) {
            Some(known) => known.clone(),
            None => {
                let new = outcome(condition, tier);
                tiers.insert(tier.to_owned(), new.clone());
                new
            }
        }
    }
}

fn outcome(condition: &Condition, tier: &str) -> Outcome {
    let request = OnlyTier {
        tier,
        reads_others: AtomicBool::new(false),
    };
    let holds = condition.holds(&request);
    // An operand that is an error does not count if the other one decides.
    let is_decided = holds.is_ok() || !request.reads_others.into_inner();
    is_decided.then_some(holds)
}
