//! Typed access to the answers of a run, by the key of their node.

use std::{fmt, marker::PhantomData, mem};

use crate::{
    call::{BoxErasedCall, discard},
    outcome::{BranchError, ErrorKind},
    plan::{Plan, Reference},
    report::Report,
};

/// A handle to one node of a plan that carries the type of the node's answer.
///
/// [`Node::key`](crate::Node::key) returns it. A key is valid only for the plan that it was created
/// with.
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

    /// Returns the index of the node in its plan.
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

/// The answers that a node may read while its request is made: those of its direct and indirect
/// dependencies.
pub struct Answers {
    plan: Plan,
    /// One entry per node of the plan: the running call, or its answer.
    pub(crate) cells: Vec<Option<BoxErasedCall>>,
    /// The node whose request is being made. `None` if all answers may be read.
    pub(crate) reader: Option<usize>,
}

impl Answers {
    /// Creates a set without answers.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            cells: plan.names().iter().map(|_| None).collect(),
            plan,
            reader: None,
        }
    }

    /// Returns the answer of the node `key`.
    ///
    /// # Errors
    /// Returns an error of kind [`Template`](ErrorKind::Template) that names the node if it failed
    /// or was skipped, or if the reading node does not depend on it. In the latter case the answer
    /// is not returned even if it exists, so that results do not depend on timing. Add
    /// [`after`](crate::Node::after) to the reading node.
    ///
    /// A key of another plan is an error too. Its kind is [`Internal`](ErrorKind::Internal) if this
    /// plan has no node with the key's index, and `Template` otherwise.
    pub fn get<T: 'static>(&self, key: Key<T>) -> Result<&T, BranchError> {
        self.find(key).ok_or_else(|| self.no_answer(key))
    }

    fn no_answer<T>(&self, key: Key<T>) -> BranchError {
        let (names, index) = (self.plan.names(), key.index());
        let Some(name) = names.get(index) else {
            return BranchError::new(ErrorKind::Internal, "the key belongs to another plan");
        };
        let own = key.plan == self.plan.graph.id;
        BranchError::template(match self.reader {
            Some(reader) if own && !self.may_read(reader, index) => format!(
                "\"{}\" reads \"{name}\" but does not depend on it: add .after({name})",
                names[reader]
            ),
            _ => format!("no answer from \"{name}\""),
        })
    }

    fn may_read(&self, reader: usize, index: usize) -> bool {
        self.plan.graph.ancestors.contains(reader, index)
    }

    /// Returns the answer of the node with the index `index`.
    ///
    /// Returns `None` if the node has no answer, if its answer is not a `T`, or if the reading node
    /// does not depend on it.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        if let Some(reader) = self.reader {
            if !self.may_read(reader, index) {
                return None;
            }
        }
        self.cells.get(index)?.as_ref()?.answer()?.downcast_ref()
    }

    fn find<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        (key.plan == self.plan.graph.id).then(|| self.at(key.index()))?
    }

    /// Moves all answers out, for a reader that may read all of them.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            plan: self.plan.clone(),
            cells: mem::take(&mut self.cells),
            reader: None,
        }
    }

    /// Drops the call or the answer of a node, if it has one.
    pub(crate) fn drop_cell(&mut self, node: usize) {
        self.cells[node].take().into_iter().for_each(discard);
    }

    /// Drops all calls and answers.
    pub(crate) fn drop_all(&mut self) {
        (0..self.cells.len()).for_each(|node| self.drop_cell(node));
    }
}

/// The response of a [`FanOut`](crate::FanOut): the answers of the nodes, and the [`Report`].
pub struct FanOutResponse {
    pub(crate) answers: Answers,
    pub(crate) report: Report,
}

impl FanOutResponse {
    /// Returns the answer of the node `key`, or `None` if the node has no answer or the key belongs
    /// to another plan.
    #[must_use]
    pub fn get<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        self.answers.find(key)
    }

    /// Returns the answer of the node with the index `index`, or `None` if the node has no answer
    /// or its answer is not a `T`.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        self.answers.at(index)
    }

    /// Removes and returns the answer of the node `key`. Returns `None` in the same cases as
    /// [`get`](Self::get).
    pub fn take<T: 'static>(&mut self, key: Key<T>) -> Option<T> {
        // Checks the plan of the key and the type of the answer before anything is taken.
        self.answers.find(key)?;
        let cell = self.answers.cells.get_mut(key.index())?.as_mut()?;
        cell.as_mut()
            .answer_slot()?
            .downcast_mut::<Option<T>>()?
            .take()
    }

    /// Returns the name of the node with the index `node`, which must come from the report of the
    /// same plan.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.answers.plan.names()[node]
    }

    /// Returns the report, with one entry per branch.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

impl fmt::Debug for FanOutResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOutResponse")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
