//! Rejects requests that lack input of required nodes, before anything is sent.

use std::error::Error;

use bytes::Bytes;
use http::Request;
use tower_fanout::{BranchError, Choice};
use tower_fanout_http::problem::{Code, FieldError, Problem};
use tower_fanout_json::{
    condition::EvalError,
    template::{Reference, RenderError, Root},
};

use crate::{
    inbound::{Inbound, Source},
    route::Route,
};

/// Input of the client request that makes a required node fail.
enum MissingInput {
    Missing(Reference),
    Unusable,
}

/// Renders the requests of required nodes that read no responses of other nodes. Returns a problem if
/// the client request lacks a value that one of them or a condition in `failed` needs.
pub(super) fn check(
    route: &Route,
    inbound: &Inbound,
    choices: &[Choice],
    failed: Vec<(usize, BranchError)>,
) -> Result<Vec<Option<Request<Bytes>>>, Problem> {
    let source = Source {
        inbound,
        answers: None,
    };
    let failed = failed.into_iter();
    let mut failures: Vec<_> = failed
        .map(|(node, error)| (node, MissingInput::from(error)))
        .collect();
    let mut prepared = vec![None; choices.len()];
    for (node, choice) in choices.iter().enumerate() {
        let has_failed = failures.iter().any(|(other, _)| *other == node);
        if *choice == (Choice::Run { required: true }) && !has_failed {
            match route.templates[node].prepare(&source) {
                Ok(request) => prepared[node] = request,
                Err(error) => failures.push((node, error.into())),
            }
        }
    }
    // Errors are reported in the order of the plan.
    failures.sort_by_key(|(node, _)| *node);
    let mut missing = Vec::new();
    let mut unusable = false;
    for (node, failure) in failures {
        match failure {
            MissingInput::Unusable => unusable = true,
            MissingInput::Missing(reference) if inbound.is_unknown(&reference.root) => {}
            MissingInput::Missing(reference) => {
                let detail = format!("required by service \"{}\"", route.names()[node]);
                missing.push(FieldError::new(pointer(&reference), "missing", detail));
            }
        }
    }
    // Missing values take precedence, as only they can be listed by their pointers.
    if !missing.is_empty() {
        return Err(Problem::new(Code::MissingParam).errors(missing));
    }
    if unusable {
        return Err(Problem::new(Code::BadParam));
    }
    Ok(prepared)
}

impl From<RenderError> for MissingInput {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Missing(reference) => Self::Missing(reference),
            _ => Self::Unusable,
        }
    }
}

/// Converts the error of a condition.
impl From<BranchError> for MissingInput {
    fn from(error: BranchError) -> Self {
        match error.source().and_then(<dyn Error>::downcast_ref) {
            Some(EvalError::Missing(reference)) => Self::Missing(reference.clone()),
            _ => Self::Unusable,
        }
    }
}

/// Returns a JSON pointer to the missing value in the client request.
fn pointer(reference: &Reference) -> String {
    let escaped = reference
        .path
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    let path = escaped.fold(String::new(), |path, name| path + "/" + &name);
    match reference.root {
        Root::Body => path,
        // Values outside the body get the name of their source as the first segment, such as `/query/id`.
        _ => format!("/{}{path}", reference.root),
    }
}
