//! Conditions on a caller's request: `tier != 'free' && has(query.page)`.
//!
//! A condition is an expression of [CEL](https://cel.dev), the Common Expression Language, over the values that
//! placeholders can read from a request: `tier`, and the members of `jwt`, `query`, `header`, `route` and `body`. A
//! name that is not an identifier is written in brackets, as in `header['x-client']`.
//!
//! | value | type |
//! |---|---|
//! | `tier`, `query.name`, `header.name`, `route.name` | `string` |
//! | `jwt.name`, `body.name` | that of the JSON value: `null`, `bool`, `int`, `uint`, `double`, `string`, `list` or `map` |
//!
//! - Operators: `&&`, `||`, `!`, `? :`, `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `+`, `-`, `*`, `/`, `%` and `[ ]`.
//! - Functions: `size`, `type`, `bool`, `int`, `uint`, `double` and `string`.
//! - Methods: `contains`, `startsWith`, `endsWith`, `lowerAscii`, `upperAscii` and `size`.
//! - Macros: `has`, and `all`, `exists`, `exists_one`, `filter` and `map` on lists.
//!
//! # Notes
//! - [`Condition::parse`] checks types. Query parameters, headers and route parameters are strings, so numbers are
//!   written as in `int(query.page) > 3`. The types of claims and of members of the body are known only per request:
//!   there, values of different types are not equal, and any other operation on them is an error.
//! - Reading a missing value is an error, also with `!=`. `has(query.page)` and `'x-client' in header` test if a value
//!   exists. `&&`, `||` and `? :` do not read an operand that cannot change the result, so
//!   `has(jwt.sub) && jwt.sub == 'ada'` is never an error. `null` counts as a value.
//! - As in all CEL, `a && b` is `false` and `a || b` is `true` if one operand alone decides so, even if the other one
//!   is an error.
//! - The division of two integers is an integer, and no operator but a comparison takes an integer and a double.
//! - To be compared with a double, an integer is rounded to one. Above 2^53 several integers are equal to the same double,
//!   so compare large integers with integers.
//! - The result must be a boolean.
//!
//! # Cost
//! A condition has at most 1024 bytes and 32 operations inside each other. The macros on lists cannot be nested. A text
//! that a condition uses has at most 8 KiB, and a list or object as a whole has at most 8 KiB and 256 items. With these
//! limits, `parse` computes the number of steps of an evaluation, and refuses a condition that can take more than
//! 12,000. A step takes about 50 ns. An evaluation passes at most 4,096 members of the body to find its values. It fails
//! if it uses a value above the limits.
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
//! assert_eq!(Condition::parse("has(jwt.sub)")?.holds(&Pro), Ok(false));
//! let error = Condition::parse("jwt.sub != 'ada'")?.holds(&Pro).unwrap_err();
//! assert_eq!(error.to_string(), "missing value for jwt.sub");
//! # Ok::<(), tower_fanout_json::condition::ConditionError>(())
//! ```

mod check;
mod convert;
mod cost;
mod evaluate;
mod former;
mod level;
mod operation;
mod reads;
mod request;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod types;
mod written;

use std::{error::Error, fmt, sync::Arc};

use tower_fanout::BranchError;

use self::syntax::Syntax;
use crate::template::{Lookup, Reference, Root};

/// A condition on a caller's request.
///
/// Clones share the compiled expression.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    syntax: Syntax,
    /// Maximum number of steps of an evaluation.
    steps: u64,
    references: Vec<(Reference, usize)>,
}

/// The error returned by [`Condition::parse`] for text that is not a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConditionError {
    /// Description of the problem.
    pub message: String,
    /// Number of the character at which the problem begins, counted from 1.
    pub column: usize,
    /// A way to mend the condition, if one is known.
    pub help: Option<String>,
    /// The part of a condition that the help shows at its end, if it shows one that has no mistakes.
    pub code: Option<String>,
}

impl ConditionError {
    fn new(message: impl Into<String>, column: usize) -> Self {
        Self {
            message: message.into(),
            column,
            help: None,
            code: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            code: None,
            ..self
        }
    }

    /// Adds the help `{before} {code}`.
    fn suggest(self, before: &str, code: &str) -> Self {
        Self {
            help: Some(format!("{before} {code}")),
            code: Some(code.to_owned()),
            ..self
        }
    }
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at character {}", self.message, self.column)
    }
}

impl Error for ConditionError {}

/// The error returned by [`Condition::holds`] if a condition cannot be evaluated for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalError {
    /// The condition reads a value that is missing.
    Missing(Reference),
    /// The condition applies an operation to a value that does not support it. Holds the first value that the operation
    /// reads, or `None` if it reads no value.
    Unusable(Option<Reference>),
    /// The condition uses a value that is larger than a condition can use.
    TooLarge(Reference),
    /// The result is not a boolean. Holds the first value that it is read from, or `None` if it is from no value.
    NotBoolean(Option<Reference>),
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "missing value for {reference}"),
            Self::Unusable(_) => f.write_str(
                "the condition applies an operation to a value that does not support it",
            ),
            Self::NotBoolean(_) => f.write_str("the result of the condition is not a boolean"),
            Self::TooLarge(reference) => {
                write!(f, "the value of {reference} is too large for a condition")
            }
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
    /// Parses `text` and checks its types and its cost.
    ///
    /// # Errors
    /// Returns the first mistake: `text` is not an expression, reads something other than the request, applies an
    /// operation to types that do not have it, has a result that is no boolean, or costs too much. For a condition of
    /// the language before CEL, or with operators and quotes of other languages, the help is the condition in CEL.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        Self::parse_all(text).map_err(|errors| errors.into_iter().next().expect("there is one"))
    }

    /// Parses `text` as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// Returns all mistakes of the types, in the order of `text`, or the first mistake of another kind.
    pub fn parse_all(text: &str) -> Result<Self, Vec<ConditionError>> {
        Self::compile(text).map_err(|errors| match former::rewrite(text) {
            Some(former) => {
                let message = format!("\"{}\" is not CEL", former.token);
                let error = ConditionError::new(message, former.column);
                vec![error.suggest("write", &former.rewritten)]
            }
            None => errors,
        })
    }

    fn compile(text: &str) -> Result<Self, Vec<ConditionError>> {
        let syntax = Syntax::parse(text).map_err(|error| vec![error])?;
        check::check(&syntax)?;
        Ok(Self(Arc::new(Compiled {
            steps: cost::check(&syntax).map_err(|error| vec![error])?,
            references: reads::references(&syntax),
            syntax,
        })))
    }

    /// Returns `true` if the condition reads `root` of a request.
    #[must_use]
    pub fn reads(&self, root: &Root) -> bool {
        self.0.references.iter().any(|(one, _)| one.root == *root)
    }

    /// Returns the values of a request that the condition reads or tests for, each with the number of its first
    /// character, counted from 1. A name that is not literal, such as `body.list[int(query.page)]`, ends the path before
    /// it.
    #[must_use]
    pub fn references(&self) -> &[(Reference, usize)] {
        &self.0.references
    }

    /// Returns the texts that the condition compares the tier with, each with the number of its first character,
    /// counted from 1.
    #[must_use]
    pub fn tiers(&self) -> Vec<(&str, usize)> {
        reads::tiers(&self.0.syntax)
    }

    /// Evaluates the condition for the request behind `source`, and returns `true` if it holds.
    ///
    /// Each value that the evaluation reads is looked up at most once, and no other value is. For a member of the body,
    /// the body itself is looked up. Responses of nodes are never looked up.
    ///
    /// # Errors
    /// Returns an [`EvalError`] if a value is missing, unusable or too large, or if the result is not a boolean.
    pub fn holds(&self, source: &(impl Lookup + Sync)) -> Result<bool, EvalError> {
        evaluate::evaluate(self.0.syntax.root(), self.0.steps, source)
    }
}

/// Writes the condition as it was parsed.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.syntax.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition")
            .field(&self.0.syntax.text)
            .finish()
    }
}
