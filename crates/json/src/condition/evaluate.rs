//! Evaluates conditions, and finds the values that an evaluation failed on.

use cel::{
    Context, ExecutionError, IdedExpr, Value,
    common::{
        ast::{Expr, operators},
        types::CelBool,
        value::CowVal,
    },
};

use super::{
    EvalError,
    cost::MAX_STEPS,
    reads::reference,
    request::Request,
    syntax::{operands, scope},
};
use crate::template::{Lookup, Reference};

/// Evaluates `expression` for the request behind `source`. `steps` is the maximum cost of one evaluation.
pub(super) fn evaluate(
    expression: &IdedExpr,
    steps: u64,
    source: &(dyn Lookup + Sync),
) -> Result<bool, EvalError> {
    let request = Request::new(source);
    let mut context = scope();
    context.set_variable_resolver(&request);
    let result = Value::resolve_val(expression, &context);
    if let Some(reference) = request.too_large() {
        return Err(EvalError::TooLarge(reference.clone()));
    }
    match result {
        Ok(value) => {
            let cause = || EvalError::NotBoolean(chosen(expression, &context));
            is_true(&value).ok_or_else(cause)
        }
        Err(error) => {
            // Finding the cause repeats parts of the evaluation, in half of the steps that it may take.
            let levels = MAX_STEPS / 2 / steps.max(1);
            Err(cause(expression, &context, error, levels))
        }
    }
}

/// Returns the cause of `error`, which `expression` evaluates to, after at most `levels` steps into its operands.
fn cause(
    expression: &IdedExpr,
    context: &Context<'_, '_>,
    error: ExecutionError,
    levels: u64,
) -> EvalError {
    let operands = evaluated(expression, context);
    // The list of a comprehension is cheap, compared with the whole.
    if levels > 0 || matches!(expression.expr, Expr::Comprehension(_)) {
        for operand in &operands {
            if let Err(error) = Value::resolve_val(operand, context) {
                return cause(operand, context, error, levels.saturating_sub(1));
            }
        }
    }
    let own = reference(expression);
    match (error, own) {
        (ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_), Some(reference)) => {
            EvalError::Missing(reference)
        }
        (_, Some(reference)) => EvalError::Unusable(Some(reference)),
        (_, None) => EvalError::Unusable(operands.into_iter().find_map(first_reference)),
    }
}

/// Returns the first value of the request that the result of `expression` is read from.
fn chosen(expression: &IdedExpr, context: &Context<'_, '_>) -> Option<Reference> {
    match &expression.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
            let branch = evaluated(expression, context).into_iter().next()?;
            chosen(branch, context)
        }
        _ => first_reference(expression),
    }
}

/// Returns the operands of `expression` that its evaluation has evaluated, and that can be evaluated alone.
fn evaluated<'e>(expression: &'e IdedExpr, context: &Context<'_, '_>) -> Vec<&'e IdedExpr> {
    match &expression.expr {
        // The other parts of a comprehension have variables of their own.
        Expr::Comprehension(of) => vec![&of.iter_range],
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => match &call.args[..] {
            [condition, yes, no] => match Value::resolve_val(condition, context) {
                Err(_) => vec![condition],
                Ok(value) if is_true(&value) == Some(true) => vec![yes],
                Ok(_) => vec![no],
            },
            _ => operands(expression),
        },
        _ => operands(expression),
    }
}

/// Returns the value of a boolean, or `None` for another value.
fn is_true(value: &CowVal<'_, '_>) -> Option<bool> {
    value.downcast_ref::<CelBool>().map(|value| *value.inner())
}

/// Returns the first value of the request that `expression` reads.
fn first_reference(expression: &IdedExpr) -> Option<Reference> {
    let inside = || operands(expression).into_iter().find_map(first_reference);
    reference(expression).or_else(inside)
}
