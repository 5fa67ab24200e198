//! Bounds the cost of a condition before any request arrives.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators},
};

use super::{
    ConditionError,
    operation::Operator,
    request::{MAX_ITEMS, MAX_VALUE},
    syntax::{Syntax, literal, operands},
};
use crate::template::Root;

/// Maximum number of steps of an evaluation. A step takes at most 50 ns, see the bench `conditions`.
pub(super) const MAX_STEPS: u64 = 12_000;

/// Number of bytes of text that are copied or searched in one step.
const COPIED: u64 = 256;
const SEARCHED: u64 = 64;

/// Returns the number of steps that an evaluation takes at most.
///
/// # Errors
/// Returns an error if it is above [`MAX_STEPS`].
pub(super) fn check(syntax: &Syntax) -> Result<u64, ConditionError> {
    let mut estimator = Estimator {
        variables: Vec::new(),
    };
    let steps = estimator.estimate(syntax.root()).steps;
    if steps <= MAX_STEPS {
        return Ok(steps);
    }
    let message = format!(
        "the condition is too costly: {steps} steps for lists of {MAX_ITEMS} items and texts of {MAX_VALUE} bytes, of {MAX_STEPS} allowed"
    );
    let advice = "compare fewer members of each item, join fewer texts, or use several nodes";
    let parts = parts(syntax.root()).into_iter();
    let parts = parts.map(|part| (estimator.estimate(part).steps, part));
    Err(match parts.max_by_key(|(steps, _)| *steps) {
        Some((own, part)) if own > steps / 2 && own < steps => {
            let error = syntax.error(part, message);
            error.help(format!("the part here takes {own} of them; {advice}"))
        }
        _ => syntax.error(syntax.root(), message).help(advice),
    })
}

/// Returns the operands of `&&`, `||` and `!` that are not such operations themselves.
fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) if Operator::of(&call.func_name) == Some(Operator::Logical) => {
            call.args.iter().flat_map(parts).collect()
        }
        _ => vec![expression],
    }
}

/// The cost of an expression, and the largest value that it can have.
#[derive(Clone, Copy, Default)]
struct Estimate {
    steps: u64,
    /// Bytes of the value, with all its items.
    bytes: u64,
    /// Items of the value, with those of its items.
    items: u64,
    /// `true` if members of the value are looked up in the request.
    is_request: bool,
}

struct Estimator<'s> {
    variables: Vec<(&'s str, Estimate)>,
}

impl<'s> Estimator<'s> {
    fn estimate(&mut self, expression: &'s IdedExpr) -> Estimate {
        match &expression.expr {
            Expr::Literal(value) => Estimate {
                steps: 0,
                bytes: match value {
                    LiteralValue::String(_) => literal(expression).map_or(0, length),
                    _ => 0,
                },
                ..Estimate::default()
            },
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let of = self.estimate(&select.operand);
                member(of, true)
            }
            Expr::Comprehension(of) => self.comprehension(of),
            Expr::Call(call) => self.call(call, expression),
            Expr::List(list) => self.list(&list.elements),
            // The check of types has refused the others.
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Estimate::default(),
        }
    }

    fn name(&self, name: &str) -> Estimate {
        if let Some((_, known)) = self.variables.iter().find(|(known, _)| *known == name) {
            return *known;
        }
        let is_request = !matches!(Root::parse(name), Root::Node(_));
        let root = Estimate {
            steps: 2,
            bytes: MAX_VALUE as u64,
            // The members of the other roots are texts.
            items: match Root::parse(name) {
                Root::Jwt | Root::Body => MAX_ITEMS as u64,
                _ => 0,
            },
            is_request,
        };
        match Root::parse(name) {
            Root::Tier => member(root, true),
            _ => root,
        }
    }

    fn list(&mut self, items: &'s [IdedExpr]) -> Estimate {
        let estimates: Vec<Estimate> = items.iter().map(|one| self.estimate(one)).collect();
        let (count, mut all) = (items.len() as u64, sum(&estimates));
        // A list copies its items.
        all.steps = add(all.steps, 2 + 2 * count + all.bytes / COPIED + all.items);
        all.items = add(all.items, count);
        all
    }

    fn call(&mut self, call: &'s CallExpr, expression: &'s IdedExpr) -> Estimate {
        if let (operators::INDEX, [of, key]) = (call.func_name.as_str(), &call.args[..]) {
            let is_literal = matches!(key.expr, Expr::Literal(_));
            let (of, key) = (self.estimate(of), self.estimate(key));
            let mut member = member(of, is_literal);
            member.steps = add(member.steps, key.steps);
            return member;
        }
        let operands: Vec<Estimate> = operands(expression)
            .into_iter()
            .map(|one| self.estimate(one))
            .collect();
        let all = sum(&operands);
        // Two values differ at the latest where the smaller one ends.
        let least =
            |size: fn(&Estimate) -> u64| operands.iter().map(size).min().unwrap_or_default();
        let compared = least(|one| one.bytes) / COPIED + least(|one| one.items);
        let own = match Operator::of(&call.func_name) {
            Some(Operator::Logical) if call.args.len() == 1 => 5,
            Some(Operator::Logical | Operator::Choice | Operator::Index) => 1,
            Some(Operator::Equality) => 1 + compared,
            Some(Operator::Order) => 7 + compared,
            Some(Operator::Arithmetic) => 5 + compared,
            Some(Operator::Sum) => 3 + all.bytes / COPIED + 2 * all.items,
            Some(Operator::In) => 8 + all.bytes / COPIED + all.items,
            None => 6 + all.bytes / SEARCHED,
        };
        // The results of the other operators are numbers and booleans.
        let keeps = matches!(
            Operator::of(&call.func_name),
            None | Some(Operator::Sum | Operator::Choice)
        );
        Estimate {
            steps: add(all.steps, own),
            bytes: if keeps { add(all.bytes, 32) } else { 0 },
            items: if keeps { all.items } else { 0 },
            is_request: false,
        }
    }

    fn comprehension(&mut self, of: &'s ComprehensionExpr) -> Estimate {
        let list = self.estimate(&of.iter_range);
        let count = list.items.max(1);
        let item = Estimate {
            steps: 1,
            bytes: list.bytes.div_ceil(count),
            items: list.items.div_ceil(count),
            is_request: false,
        };
        self.variables = vec![
            (&of.iter_var, item),
            (
                &of.accu_var,
                Estimate {
                    steps: 1,
                    ..Estimate::default()
                },
            ),
        ];
        let step = self.estimate(&of.loop_step);
        let condition = self.estimate(&of.loop_cond);
        let each = add(condition.steps, add(step.steps, 3));
        let result = self.estimate(&of.result);
        self.variables.clear();
        Estimate {
            steps: add(add(list.steps, result.steps), count.saturating_mul(each)),
            bytes: count.saturating_mul(step.bytes),
            items: count.saturating_mul(add(step.items, 1)),
            is_request: false,
        }
    }
}

/// Returns the estimate of a member of `of`.
fn member(of: Estimate, has_literal_name: bool) -> Estimate {
    // A value of the request is looked up once, and all lookups together have a limit of their own.
    let own = match (of.is_request, has_literal_name) {
        (true, true) => 8,
        (true, false) => 30,
        (false, _) => 3,
    };
    Estimate {
        steps: add(of.steps, own),
        ..of
    }
}

/// Returns the sums of `estimates`.
fn sum(estimates: &[Estimate]) -> Estimate {
    let sum = |size: fn(&Estimate) -> u64| estimates.iter().map(size).fold(0, add);
    Estimate {
        steps: sum(|one| one.steps),
        bytes: sum(|one| one.bytes),
        items: sum(|one| one.items),
        is_request: false,
    }
}

const fn add(one: u64, other: u64) -> u64 {
    one.saturating_add(other)
}

fn length(text: &str) -> u64 {
    text.len() as u64
}
