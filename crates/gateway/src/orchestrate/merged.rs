//! The merged document of the responses of all nodes.

use tower_fanout::FanOutResponse;
use tower_fanout_http::problem::{Code, Problem};
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeError, MergeMode},
};

/// Returns `true` if `merge` builds a document of its own. In group mode it does not, because every
/// envelope already holds the responses by node name.
pub(super) fn has_merged_document(merge: &Merge) -> bool {
    merge.config().mode != MergeMode::Group
}

/// Merges the responses of a run into one document.
///
/// # Errors
/// Returns a problem if responses conflict or the document is too large. The details are logged, not
/// sent to the client.
pub(super) fn merged_document(
    merge: &Merge,
    names: &[Box<str>],
    answer: &FanOutResponse,
) -> Result<Json, Problem> {
    let responses = names.iter().enumerate().filter_map(|(node, name)| {
        let json: &Json = answer.at(node)?;
        Some((&**name, json))
    });
    merge.merge(responses).map_err(|error| {
        tracing::warn!(%error, "merging responses failed");
        Problem::new(match error {
            MergeError::Conflict { .. } => Code::MergeConflict,
            _ => Code::AggregateTooLarge,
        })
    })
}
