//! The typed answers of a run, by the key of their node.

use std::{fmt, mem, sync::Arc};

use crate::{
    call::{BoxCell, discard},
    outcome::{BranchError, ErrorKind},
    plan::{Index, Key},
    report::Report,
};

/// The answers that a node may read: those of the nodes that it comes after, directly or not.
pub struct Answers {
    index: Arc<Index>,
    /// Calls that run, and answers.
    pub(crate) cells: Vec<Option<BoxCell>>,
    /// Who reads; none if the run is over.
    pub(crate) reader: Option<usize>,
}

impl Answers {
    pub(crate) fn new(index: Arc<Index>) -> Self {
        Self {
            cells: index.names.iter().map(|_| None).collect(),
            index,
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
            .ok_or_else(|| match self.index.names.get(key.index()) {
                Some(name) => BranchError::template(format!("there is no answer of \"{name}\"")),
                None => BranchError::new(ErrorKind::Internal, "the key is of another plan"),
            })
    }

    /// The answer of the node at `index` of the plan, if it is there, of type `T`, and of a node that
    /// this one comes after.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        if let Some(reader) = self.reader
            && !self.index.ancestors.contains(reader, index)
        {
            return None;
        }
        self.cells.get(index)?.as_ref()?.answer()?.downcast_ref()
    }

    fn find<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        (key.plan == self.index.id).then(|| self.at(key.index()))?
    }

    /// What there is, for whoever gets the answer as a whole.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            index: Arc::clone(&self.index),
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
        let cell = self.answers.cells[key.index()].as_mut()?;
        cell.as_mut().place()?.downcast_mut::<Option<T>>()?.take()
    }

    /// How the node at `node` of the plan is called.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.answers.index.names[node]
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
