//! One document of all services' answers.

use tower_fanout::Answer;
use tower_fanout_http::problem::{Code, Problem};
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeError, MergeMode},
};

/// Whether `merge` makes a document of its own: answers by the names of their services stand in every
/// envelope.
pub(super) fn is_apart(merge: &Merge) -> bool {
    merge.config().mode != MergeMode::Group
}

/// The document of what was answered.
///
/// # Errors
/// There is none; what two answers disagree on is not the client's to know, but it is logged.
pub(super) fn merged(merge: &Merge, names: &[Box<str>], answer: &Answer) -> Result<Json, Problem> {
    let answered = names.iter().enumerate().filter_map(|(node, name)| {
        let json: &Json = answer.at(node)?;
        Some((&**name, json))
    });
    merge.merge(answered).map_err(|error| {
        tracing::warn!(%error, "answers could not be merged");
        Problem::new(match error {
            MergeError::Conflict { .. } => Code::MergeConflict,
            _ => Code::AggregateTooLarge,
        })
    })
}
