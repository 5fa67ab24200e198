//! The typed answers of a run, by the key of their node.

use std::{fmt, marker::PhantomData, mem};

use crate::{
    call::{BoxErasedCall, discard},
    outcome::{BranchError, ErrorKind},
    plan::{Plan, Reference},
    report::Report,
};

/// Names a node and the type of its answer.
pub struct Key<T> {
    plan: u64,
    index: usize,
    answer: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Creates the key of the node at `index` of the plan with the id `plan`.
    pub(crate) const fn new(plan: u64, index: usize) -> Self {
        Self {
            plan,
            index,
            answer: PhantomData,
        }
    }

    /// The place of the node in its plan.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.index)
    }
}

impl<T> From<Key<T>> for Reference {
    fn from(key: Key<T>) -> Self {
        Self::Key {
            plan: key.plan,
            index: key.index,
        }
    }
}

/// The answers that a node may read: those of the nodes that it comes after, directly or not.
pub struct Answers {
    plan: Plan,
    /// Calls that run, and answers: one entry for each node of the plan.
    pub(crate) cells: Vec<Option<BoxErasedCall>>,
    /// Who reads; none if the run is over.
    pub(crate) reader: Option<usize>,
}

impl Answers {
    /// No answers yet.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            cells: plan.names().iter().map(|_| None).collect(),
            plan,
            reader: None,
        }
    }

    /// The answer of the node `key`.
    ///
    /// # Errors
    /// There is none: it failed or was skipped. Or this node does not come after it: then it has none
    /// even if it has ended by chance. The error says which node it was, and is of kind `template`.
    pub fn get<T: 'static>(&self, key: Key<T>) -> Result<&T, BranchError> {
        self.find(key)
            .ok_or_else(|| match self.plan.names().get(key.index()) {
                Some(name) => BranchError::template(format!("there is no answer of \"{name}\"")),
                None => BranchError::new(ErrorKind::Internal, "the key is of another plan"),
            })
    }

    /// The answer of the node at `index` of the plan, if it is there, of type `T`, and of a node that
    /// this one comes after.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        if let Some(reader) = self.reader
            && !self.plan.graph.ancestors.contains(reader, index)
        {
            return None;
        }
        self.cells.get(index)?.as_ref()?.answer()?.downcast_ref()
    }

    fn find<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        (key.plan == self.plan.graph.id).then(|| self.at(key.index()))?
    }

    /// What there is, for whoever gets the answer as a whole.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            plan: self.plan.clone(),
            cells: mem::take(&mut self.cells),
            reader: None,
        }
    }

    /// Drops the call or the answer of a node, if there is one.
    pub(crate) fn drop_cell(&mut self, node: usize) {
        self.cells[node].take().into_iter().for_each(discard);
    }

    pub(crate) fn drop_all(&mut self) {
        (0..self.cells.len()).for_each(|node| self.drop_cell(node));
    }
}

/// What a run ended with: the answers there are, and the report.
pub struct Answer {
    pub(crate) answers: Answers,
    pub(crate) report: Report,
}

impl Answer {
    /// The answer of the node `key`, unless it has none.
    #[must_use]
    pub fn get<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        self.answers.find(key)
    }

    /// The answer of the node at `index` of the plan, if it is there and of type `T`.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        self.answers.at(index)
    }

    /// Takes the answer of the node `key` out.
    pub fn take<T: 'static>(&mut self, key: Key<T>) -> Option<T> {
        self.answers.find(key)?;
        let cell = self.answers.cells.get_mut(key.index())?.as_mut()?;
        cell.as_mut().place()?.downcast_mut::<Option<T>>()?.take()
    }

    /// How the node at `node` of the plan is called. `node` comes from the report of the same plan.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.answers.plan.names()[node]
    }

    /// What happened, branch by branch.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
