//! Finds the nodes that others name.

use std::collections::HashMap;

use super::{
    place::{PlanPart, PlanPlace},
    problem::PlanProblem,
};

/// How one node names another.
pub(super) enum Reference {
    Key { plan: u64, index: usize },
    Name(Box<str>),
}

/// The nodes of a plan by name, and what is wrong with how they are named.
pub(super) struct Resolver<'n> {
    plan: u64,
    names: &'n [Box<str>],
    places: HashMap<&'n str, usize>,
    pub(super) problems: Vec<PlanProblem>,
}

impl<'n> Resolver<'n> {
    /// Among the nodes called `names`, of which there is a problem for each that stands twice.
    pub(super) fn new(plan: u64, names: &'n [Box<str>]) -> Self {
        let mut problems = Vec::new();
        let mut places = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if places.insert(&**name, index).is_some() {
                let name = name.to_string();
                problems.push(PlanProblem::DuplicateName { name });
            }
        }
        Self {
            plan,
            names,
            places,
            problems,
        }
    }

    /// The node that `part` of `node` refers to; a problem if there is none.
    pub(super) fn resolve(
        &mut self,
        node: usize,
        part: PlanPart,
        reference: Reference,
    ) -> Option<usize> {
        let place = || PlanPlace::part(&self.names[node], part);
        let problem = match reference {
            Reference::Key { plan, index } if plan == self.plan => return Some(index),
            Reference::Key { .. } => PlanProblem::ForeignKey { place: place() },
            Reference::Name(name) => match self.places.get(&*name) {
                Some(&index) => return Some(index),
                None => PlanProblem::UnknownNode {
                    place: place(),
                    nearest: nearest(&name, self.names).map(str::to_owned),
                    name: name.into(),
                },
            },
        };
        self.problems.push(problem);
        None
    }
}

/// The one of `names` that was probably meant by `name`: no more than a third of it differs.
fn nearest<'n>(name: &str, names: &'n [Box<str>]) -> Option<&'n str> {
    let name: Vec<char> = name.chars().collect();
    let near = names.iter().filter_map(|known| {
        let letters: Vec<char> = known.chars().collect();
        let most = letters.len().max(3) / 3;
        // Names of very different lengths need no closer look.
        let close = letters.len().abs_diff(name.len()) <= most;
        let distance = close.then(|| distance(&name, &letters))?;
        // Where all of it differs it is another name.
        let alike = distance < letters.len().max(name.len());
        (distance <= most && alike).then_some((distance, &**known))
    });
    near.min().map(|(_, known)| known)
}

/// How many letters are to be changed, added, left out or swapped with the next one to get from `one`
/// to `other`: the optimal string alignment distance, row by row of its table.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before = vec![0; other.len() + 1];
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1; other.len() + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = last[j] + usize::from(a != b);
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_through() {
        let names: Vec<Box<str>> = ["user", "orders", "größe", "a"].map(Box::from).into();
        for (written, meant) in [
            ("usr", Some("user")),
            ("suer", Some("user")),
            ("odrers", Some("orders")),
            ("orderss", Some("orders")),
            ("große", Some("größe")),
            ("prices", None),
            ("", None),
            ("q", None),
            ("an endless name that is none of these", None),
        ] {
            assert_eq!(nearest(written, &names), meant, "{written}");
        }
    }
}
