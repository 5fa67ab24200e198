//! Conditions on a caller's request: `tier != 'free' and query.page is defined`.
//!
//! A condition is a
//! [Jinja expression](https://jinja.palletsprojects.com/en/stable/templates/#expressions) over the
//! values that placeholders can read from a request: `tier`, and the members of `jwt`, `query`,
//! `header`, `route` and `body`. A name that is not an identifier is written in brackets, as in
//! `header['x-client']`.
//!
//! All operators are supported. The filters are `default`, `float`, `int`, `length`, `lower` and
//! `upper`. The tests are `boolean`, `defined`, `endingwith`, `in`, `none`, `number`,
//! `startingwith`, `string` and `undefined`. Function and method calls are not supported.
//!
//! # Notes
//! - Reading a missing value is an error, also with `!=`, `not`, `in` or `is none`. Only the tests
//!   `is defined` and `is undefined` and the filter `default` accept a missing value. An operand that
//!   `and` or `or` skips is not read, so `jwt.sub is defined and jwt.sub == 'ada'` is never an error.
//!   Members of a missing value are missing too. `null` counts as a value.
//! - Query parameters, headers and route parameters are text, so numbers need a filter:
//!   `query.page|int > 3`.
//! - The result must be a boolean.
//! - The only operation on an object is reading its members.
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
//! assert_eq!(error.to_string(), "missing value for jwt.sub");
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

/// A condition on a caller's request.
///
/// Clones share the compiled expression.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    expression: Expression<'static, 'static>,
}

/// The error returned by [`Condition::parse`] for text that is not a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionError {
    /// Description of the problem.
    pub message: String,
    /// Number of the character at which the problem begins, counted from 1.
    pub column: usize,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at character {}", self.message, self.column)
    }
}

impl Error for ConditionError {}

/// Maximum length of a condition in bytes. The limit also bounds the nesting, so that parsing and
/// evaluation cannot overflow a stack.
const LONGEST: usize = 1024;

/// The error returned by [`Condition::holds`] if a condition cannot be evaluated for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalError {
    /// The condition reads a value that is missing.
    Missing(Reference),
    /// The condition applies an operation to a value that does not support it. Holds the value that it read last,
    /// which is the operand unless the operation has two, or `None` if it read no value.
    Unusable(Option<Reference>),
    /// The result is not a boolean.
    NotBoolean,
    /// The evaluation takes more than 50,000 steps.
    ///
    /// Each operation takes one step. An operation on a list takes one more step for every two items
    /// that it visits, and an operation on text takes one more step for every 64 bytes.
    OutOfFuel,
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "missing value for {reference}"),
            Self::Unusable(_) => f.write_str(
                "the condition applies an operation to a value that does not support it",
            ),
            Self::NotBoolean => f.write_str("the result of the condition is not a boolean"),
            Self::OutOfFuel => f.write_str("the condition takes too many evaluation steps"),
        }
    }
}

impl Error for EvalError {}

/// The kind is [`Template`](tower_fanout::ErrorKind::Template), the message is the text of the error,
/// and the source is the [`EvalError`].
impl From<EvalError> for BranchError {
    fn from(error: EvalError) -> Self {
        Self::template(error.to_string()).with_source(Box::new(error))
    }
}

impl Condition {
    /// Parses `text`.
    ///
    /// # Errors
    /// Returns an error if `text` is longer than 1024 bytes or not an expression, if it reads
    /// something other than the request, or if it uses an unknown filter, an unknown test or a
    /// call.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            let message = format!("expected at most {LONGEST} bytes, got {}", text.len());
            return Err(ConditionError {
                message,
                column: LONGEST + 1,
            });
        }
        let compiled = ENVIRONMENT.compile_expression_owned(text.to_owned());
        let expression = compiled.map_err(|error| ConditionError {
            message: error.detail().unwrap_or("invalid expression").to_owned(),
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

    /// Returns `true` if the condition reads `root` of a request.
    #[must_use]
    pub fn reads(&self, root: &Root) -> bool {
        let names = self.0.expression.undeclared_variables(false);
        names.contains(&root.to_string())
    }

    /// Returns the values of a request that the condition reads. A name that is not literal, such as
    /// `body.list[query.page|int]`, ends the path before it.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        language::references(&self.0.text)
    }

    /// Returns the texts that the condition compares the tier with.
    #[must_use]
    pub fn tiers(&self) -> Vec<&str> {
        language::tiers(&self.0.text)
    }

    /// Evaluates the condition for the request behind `source`, and returns `true` if it holds.
    ///
    /// Each value that the evaluation reads is looked up once, and no other value is. Responses of
    /// nodes are never looked up.
    ///
    /// # Errors
    /// Returns an [`EvalError`] if a value is missing or unusable, if the result is not a boolean,
    /// or if the evaluation takes too many steps.
    pub fn holds(&self, source: &impl Lookup) -> Result<bool, EvalError> {
        let request = Arc::new(Request::default());
        // Each turn either learns one more value or ends with a result.
        loop {
            let result = self
                .0
                .expression
                .eval(Value::from_dyn_object(request.clone()));
            match request.take_wanted() {
                Some(reference) => request.learn(reference, source),
                None => {
                    request.verdict()?;
                    return match result {
                        Ok(value) if value.kind() == ValueKind::Bool => Ok(value.is_true()),
                        Ok(_) => Err(EvalError::NotBoolean),
                        Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                            Err(EvalError::OutOfFuel)
                        }
                        Err(_) => Err(EvalError::Unusable(request.last_read())),
                    };
                }
            }
        }
    }
}

/// Writes the condition as it was parsed.
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

/// Returns the number of the character that begins at the byte `offset`, counted from 1.
fn column(text: &str, offset: usize) -> usize {
    // Counts all bytes except UTF-8 continuation bytes, so `offset` need not be a boundary.
    text.bytes()
        .take(offset)
        .filter(|byte| byte & 0xC0 != 0x80)
        .count()
        + 1
}
