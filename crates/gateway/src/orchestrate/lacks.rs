//! What a request lacks of what its required services need: it is refused before anything is sent.

use tower_fanout::Choice;
use tower_fanout_http::problem::{Code, FieldError, Problem};
use tower_fanout_json::{
    condition::EvalError,
    template::{Reference, RenderError, Root},
};

use super::Job;
use crate::inbound::Source;

/// Something of the caller's request that a service cannot do with.
enum Lack {
    Missing(Reference),
    Unusable,
}

/// Refuses a request with `choices` that lacks something.
pub(super) fn check(job: &Job<'_>, choices: &[Choice]) -> Result<(), Problem> {
    let source = Source::of(&job.inbound);
    let required = |choices: &[Choice], node: usize| {
        choices.get(node) == Some(&Choice::Run { required: true })
    };
    // A condition that lacks something does not hold, so its node is looked for among those that
    // would be run if all conditions held.
    let candidates = match job.route.conditions.iter().any(Option::is_some) {
        true => job.fan_out().candidates().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut missing = Vec::new();
    let mut unusable = false;
    for (node, name) in job.route.names().iter().enumerate() {
        let condition = job.route.conditions[node].as_ref();
        let condition = condition.filter(|_| required(&candidates, node));
        let condition = condition.and_then(|condition| condition.holds(&source).err());
        let template = required(choices, node).then(|| job.route.templates[node].check(&source));
        let template = template.and_then(Result::err);
        let lacks = condition.map(Lack::from).into_iter();
        for lack in lacks.chain(template.map(Lack::from)) {
            match lack {
                Lack::Unusable => unusable = true,
                Lack::Missing(reference) if job.is_unknown(&reference.root) => {}
                Lack::Missing(reference) => {
                    let detail = format!("the service \"{name}\" needs it");
                    missing.push(FieldError::new(pointer(&reference), "missing", detail));
                }
            }
        }
    }
    if !missing.is_empty() {
        return Err(Problem::new(Code::MissingParam).errors(missing));
    }
    if unusable {
        return Err(Problem::new(Code::BadParam));
    }
    Ok(())
}

impl Job<'_> {
    /// Whether a real request may have what this one does not say.
    fn is_unknown(&self, root: &Root) -> bool {
        self.supposed && (*root != Root::Body || self.inbound.body.is_none())
    }
}

impl From<RenderError> for Lack {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Missing(reference) => Self::Missing(reference),
            _ => Self::Unusable,
        }
    }
}

impl From<EvalError> for Lack {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Missing(reference) => Self::Missing(reference),
            _ => Self::Unusable,
        }
    }
}

/// Where in the caller's request something is missing.
fn pointer(reference: &Reference) -> String {
    let escaped = reference
        .path
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    let path = escaped.fold(String::new(), |path, name| path + "/" + &name);
    match reference.root {
        Root::Body => path,
        _ => format!("/{}{path}", reference.root),
    }
}
