//! Conditions on a caller's request: `tier != 'free' and query.page is defined`.
//!
//! They are [Jinja expressions](https://jinja.palletsprojects.com/en/stable/templates/#expressions)
//! on what placeholders read of a request: `tier`, and the members of `jwt`, `query`, `header`, `route`
//! and `body`; a name that is no word is put in brackets, as in `header['x-client']`. There are the
//! operators, the filters `default`, `float`, `int`, `length`, `lower` and `upper`, and the tests
//! `boolean`, `defined`, `endingwith`, `in`, `none`, `number`, `startingwith`, `string` and
//! `undefined`; nothing can be called.
//!
//! What surprises:
//! - To read what is missing is an error, however the value is used; ask `is defined` first, or give
//!   a `default`. Null is a value.
//! - Query, headers and the parameters of a route are text: say `query.page|int > 3`.
//! - The result must be true or false. An object can only be asked for its members.
//!
//! ```
//! use tower_fanout_json::{
//!     condition::{Condition, EvalError},
//!     template::{Found, Lookup, Reference, Root},
//! };
//!
//! struct Pro;
//!
//! impl Lookup for Pro {
//!     fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
//!         (reference.root == Root::Tier).then(|| Found::Text("pro".into()))
//!     }
//! }
//!
//! assert_eq!(Condition::parse("tier != 'free'")?.holds(&Pro), Ok(true));
//! assert_eq!(Condition::parse("jwt.sub is defined")?.holds(&Pro), Ok(false));
//! let error = Condition::parse("jwt.sub != 'ada'")?.holds(&Pro).unwrap_err();
//! assert_eq!(error.to_string(), "there is no value for jwt.sub");
//! # Ok::<(), tower_fanout_json::condition::ConditionError>(())
//! ```

mod language;
mod request;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt, sync::Arc};

use minijinja::{ErrorKind, Expression, Value, value::ValueKind};
use tower_fanout::BranchError;

use self::{language::ENVIRONMENT, request::Request};
use crate::template::{Lookup, Reference, Root};

/// A condition on a caller's request. Cheap to clone.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    expression: Expression<'static, 'static>,
}

/// Text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionError {
    /// What is wrong.
    pub message: String,
    /// Which character it begins with, from 1.
    pub column: usize,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at character {}", self.message, self.column)
    }
}

impl Error for ConditionError {}

/// The longest text of a condition, in bytes: what is nested in so few of them fits on any stack.
const LONGEST: usize = 1024;

/// Why a condition is neither true nor false of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalError {
    /// It reads what is not there.
    Missing(Reference),
    /// It does with a value what cannot be done with it.
    Unusable,
    /// Its result is neither true nor false.
    NotBoolean,
    /// It takes more than 50,000 steps: an operation is one, and so are two items or 64 bytes that it
    /// goes through.
    OutOfFuel,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "there is no value for {reference}"),
            Self::Unusable => f.write_str("a value cannot be used as the condition does"),
            Self::NotBoolean => f.write_str("a condition is true or false"),
            Self::OutOfFuel => f.write_str("the condition takes too many steps"),
        }
    }
}

impl Error for EvalError {}

/// The source of the branch's error is the [`EvalError`].
impl From<EvalError> for BranchError {
    fn from(error: EvalError) -> Self {
        Self::template(error.to_string()).because_of(Box::new(error))
    }
}

impl Condition {
    /// Reads `text`.
    ///
    /// # Errors
    /// It is no expression, reads something else than the request, or names a filter or a test that
    /// there is not.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            let message = format!("a condition has at most {LONGEST} bytes");
            return Err(ConditionError {
                message,
                column: LONGEST + 1,
            });
        }
        let compiled = ENVIRONMENT.compile_expression_owned(text.to_owned());
        let expression = compiled.map_err(|error| ConditionError {
            message: error.detail().unwrap_or("this is no expression").to_owned(),
            column: column(text, error.range().map_or(0, |range| range.start)),
        })?;
        let names = expression.undeclared_variables(false);
        if let Some((message, offset)) = language::problem(text, &names) {
            let column = column(text, offset);
            return Err(ConditionError { message, column });
        }
        let text = text.into();
        Ok(Self(Arc::new(Compiled { text, expression })))
    }

    /// Whether it reads `root` of a request.
    #[must_use]
    pub fn reads(&self, root: &Root) -> bool {
        let names = self.0.expression.undeclared_variables(false);
        names.contains(&root.to_string())
    }

    /// Whether it is true of the request that `source` knows. Only what it reads is looked up, each
    /// once; the answers of nodes never are.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn holds(&self, source: &impl Lookup) -> Result<bool, EvalError> {
        let request = Arc::new(Request::default());
        loop {
            let result = self
                .0
                .expression
                .eval(Value::from_dyn_object(request.clone()));
            match request.take_wanted() {
                Some(reference) => request.learn(reference, source),
                None => {
                    request.verdict()?;
                    return truth(&result.map_err(|error| unusable(error.kind()))?);
                }
            }
        }
    }
}

/// The condition as it is written.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.0.text).finish()
    }
}

fn truth(value: &Value) -> Result<bool, EvalError> {
    match value.kind() {
        ValueKind::Bool => Ok(value.is_true()),
        _ => Err(EvalError::NotBoolean),
    }
}

fn unusable(kind: ErrorKind) -> EvalError {
    match kind {
        ErrorKind::OutOfFuel => EvalError::OutOfFuel,
        _ => EvalError::Unusable,
    }
}

/// The character at a byte, from 1.
fn column(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| byte & 0xC0 != 0x80)
        .count()
        + 1
}
