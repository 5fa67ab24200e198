//! The typed answers of a run, by the key of their node.

use std::{any::Any, fmt, sync::Arc};

use crate::{
    outcome::{BranchError, ErrorKind},
    plan::Key,
    report::Report,
};

/// One node's answer, whatever its type.
pub(crate) type Value = Box<dyn Any + Send>;

/// The answers that a node may read: those of the nodes that it comes after.
pub struct Answers {
    pub(crate) plan: u64,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) values: Vec<Option<Value>>,
}

impl Answers {
    pub(crate) fn new(plan: u64, names: Arc<[Box<str>]>) -> Self {
        Self {
            plan,
            values: names.iter().map(|_| None).collect(),
            names,
        }
    }

    /// The answer of the node `key`.
    ///
    /// # Errors
    /// There is none: it failed, was skipped, or has not ended because this node does not come
    /// after it. The error says which node it was, and is of kind `template`.
    pub fn get<T: 'static>(&self, key: Key<T>) -> Result<&T, BranchError> {
        self.find(key)
            .ok_or_else(|| match self.names.get(key.index) {
                Some(name) => BranchError::template(format!("there is no answer of \"{name}\"")),
                None => BranchError::new(ErrorKind::Internal, "the key is of another plan"),
            })
    }

    /// The answer of the node at `index` of the plan, if it is there and of type `T`.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        self.values.get(index)?.as_ref()?.downcast_ref()
    }

    fn find<T: 'static>(&self, key: Key<T>) -> Option<&T> {
        if key.plan == self.plan {
            self.at(key.index)
        } else {
            None
        }
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
        let value = self.answers.values[key.index].take()?;
        value.downcast().ok().map(|value| *value)
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
