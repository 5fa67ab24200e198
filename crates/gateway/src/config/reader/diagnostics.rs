//! Collects diagnostics, and knows which values have errors.

use std::{
    cell::{Cell, OnceCell, Ref, RefCell, RefMut},
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
};

use super::super::{
    diagnostic::{Diagnostic, Severity},
    redact::Redactor,
    tree::Tree,
};

/// Maximum number of names of the file that are compared with unknown ones. A file may have thousands of both.
const MOST_COMPARISONS: usize = 100_000;

/// The diagnostics of a file, collected while the file is read.
#[derive(Default)]
pub(in crate::config) struct Diagnostics {
    all: RefCell<Vec<Diagnostic>>,
    /// Paths of the values with errors. In their order, the values inside another one are neighbors, so that a value is found
    /// to have an error without a look at all diagnostics.
    wrong: RefCell<BTreeSet<String>>,
    /// Says which parts of the file they may show. It is created for the first one.
    redactor: OnceCell<Redactor>,
    /// Number of names that unknown ones were compared with.
    compared: Cell<usize>,
    /// Names in unknown keys that may be meant to be missing sections, by the paths of the sections.
    misplaced: RefCell<HashMap<String, HashSet<String>>>,
}

impl Diagnostics {
    /// Creates the collection with the diagnostics in `found`.
    pub(in crate::config) fn new(found: Vec<Diagnostic>) -> Self {
        let all = Self::default();
        found.into_iter().for_each(|one| all.push(one));
        all
    }

    /// Returns the parts of the file that diagnostics may show.
    pub(super) fn redactor(&self, file: &Tree) -> &Redactor {
        self.redactor.get_or_init(|| Redactor::new(file))
    }

    /// Returns the parts of the file that diagnostics may show, if there is one.
    pub(in crate::config) fn into_redactor(self, file: &Tree) -> Redactor {
        let is_needed = !self.all.borrow().is_empty();
        let needed = || is_needed.then(|| Redactor::new(file));
        let redactor = self.redactor.into_inner().or_else(needed);
        redactor.unwrap_or_default()
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.wrong.borrow_mut().insert(diagnostic.path.clone());
        }
        self.all.borrow_mut().push(diagnostic);
    }

    /// Returns `true` if an error was reported for the value at `path`, or for a value inside it.
    pub(super) fn has_error_in(&self, path: &str) -> bool {
        let wrong = self.wrong.borrow();
        // Paths are compared as text: `a` contains `a.b` and `a[0]`, but not `ab`.
        let is_inside = |sign: &str| {
            let start = [path, sign].concat();
            let from = (Bound::Included(&*start), Bound::Unbounded);
            let first = wrong.range::<str, _>(from).next();
            first.is_some_and(|first| first.starts_with(&start))
        };
        wrong.contains(path) || [".", "["].into_iter().any(is_inside)
    }

    /// Returns `true` if an unknown name can be compared with this number of names, which then count as compared.
    pub(super) fn can_compare(&self, names: usize) -> bool {
        let compared = self.compared.get().saturating_add(names);
        self.compared.set(compared);
        compared <= MOST_COMPARISONS
    }

    /// Returns `true` if an unknown key in place of the missing `section` has the name. `names` returns the names of all such
    /// keys.
    pub(super) fn is_misplaced(
        &self,
        section: &str,
        name: &str,
        names: impl FnOnce() -> HashSet<String>,
    ) -> bool {
        let mut misplaced = self.misplaced.borrow_mut();
        match misplaced.get(section) {
            Some(known) => known.contains(name),
            None => {
                let known = misplaced.entry(section.to_owned());
                known.or_insert_with(names).contains(name)
            }
        }
    }

    pub(in crate::config) fn borrow(&self) -> Ref<'_, Vec<Diagnostic>> {
        self.all.borrow()
    }

    /// Returns the diagnostics for a last change. Values keep the errors that are removed.
    pub(in crate::config) fn borrow_mut(&self) -> RefMut<'_, Vec<Diagnostic>> {
        self.all.borrow_mut()
    }

    #[cfg(test)]
    pub(in crate::config) fn into_inner(self) -> Vec<Diagnostic> {
        self.all.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::diagnostic::Position, *};

    fn at(path: &str, severity: Severity) -> Diagnostic {
        Diagnostic {
            path: path.to_owned(),
            severity,
            ..Diagnostic::error("invalid", Position::START, "wrong".to_owned())
        }
    }

    #[test]
    fn an_error_is_inside_all_values_around_it() {
        let errors = ["ab-c.d", "a-b", "ab[1].x", "e", "é.f"];
        let found = errors.map(|path| at(path, Severity::Error));
        let all = Diagnostics::new(found.into());
        all.push(at("w.x", Severity::Warning));
        for path in ["ab-c.d", "ab-c", "a-b", "ab", "ab[1]", "ab[1].x", "e", "é"] {
            assert!(all.has_error_in(path), "{path}");
        }
        for path in [
            "a", "ab-", "ab-c.", "ab-c.dd", "ab[", "ab[0]", "f", "w", "w.x",
        ] {
            assert!(!all.has_error_in(path), "{path}");
        }
    }

    #[test]
    fn fault_j7_finds_an_error_without_a_look_at_all_diagnostics() {
        let all = Diagnostics::default();
        let paths = (0..1_000).map(|index| format!("routes[{index}].name"));
        paths.for_each(|path| all.push(at(&path, Severity::Error)));
        // The answer needs only the paths, each of which is stored once.
        all.borrow_mut().clear();
        all.push(at("routes[7].name", Severity::Error));
        assert_eq!(all.wrong.borrow().len(), 1_000);
        assert!(all.has_error_in("routes[999]") && !all.has_error_in("routes[1000]"));
    }

    #[test]
    fn fault_j7_compares_a_bounded_number_of_names() {
        let all = Diagnostics::default();
        let compared = (0..10_000).filter(|_| all.can_compare(1_000)).count();
        assert_eq!(compared, MOST_COMPARISONS / 1_000);
    }
}
