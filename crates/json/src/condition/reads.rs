//! The values of a request that a condition names.

use cel::{
    IdedExpr,
    common::ast::{Expr, operators},
};

use super::syntax::{Syntax, literal, member, operands};
use crate::template::{Reference, Root};

/// Returns the values that the condition reads or asks for, each with the number of its first character. A name that
/// is not literal, such as that in `body.list[int(query.page)]`, ends the path before it.
pub(super) fn references(syntax: &Syntax) -> Vec<(Reference, usize)> {
    let mut found = Vec::new();
    collect(syntax, syntax.root(), &mut found);
    found
}

fn collect(syntax: &Syntax, expression: &IdedExpr, found: &mut Vec<(Reference, usize)>) {
    if let Some(reference) = asked(expression).or_else(|| reference(expression)) {
        found.push((reference, syntax.column(expression)));
        return;
    }
    let operands = operands(expression);
    operands
        .into_iter()
        .for_each(|one| collect(syntax, one, found));
}

/// Returns the value that `'name' in query` asks for.
fn asked(expression: &IdedExpr) -> Option<Reference> {
    let (operators::IN, [name, of]) = call(expression)? else {
        return None;
    };
    let is_map = matches!(&of.expr, Expr::Ident(root) if root != "tier");
    let of = reference(of).filter(|_| is_map)?;
    Some(step(of, literal(name)?))
}

/// Returns the value that `expression` reads from the request, or `None` for another expression.
pub(super) fn reference(expression: &IdedExpr) -> Option<Reference> {
    if let Some((of, name)) = member(expression) {
        return Some(step(reference(of)?, name));
    }
    if let Some((operators::INDEX, [of, key])) = call(expression)
        && let Expr::Literal(cel::common::ast::LiteralValue::Int(index)) = &key.expr
    {
        return Some(step(reference(of)?, &index.inner().to_string()));
    }
    let Expr::Ident(name) = &expression.expr else {
        return None;
    };
    let root = Root::parse(name);
    (!matches!(root, Root::Node(_))).then(|| Reference::to(root))
}

/// Returns a reference to the member `name` of `reference`. Names of headers are the same in any case.
pub(super) fn step(mut reference: Reference, name: &str) -> Reference {
    let mut name = name.to_owned();
    if reference.root == Root::Header {
        name.make_ascii_lowercase();
    }
    reference.path.push(name);
    reference
}

/// Returns the texts that the condition compares the tier with, each with the number of its first character.
pub(super) fn tiers(syntax: &Syntax) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    collect_tiers(syntax.root(), &mut found);
    let place = |one| Some((literal(one)?, syntax.column(one)));
    found.into_iter().filter_map(place).collect()
}

fn collect_tiers<'e>(expression: &'e IdedExpr, found: &mut Vec<&'e IdedExpr>) {
    let is_tier = |one: &IdedExpr| matches!(&one.expr, Expr::Ident(name) if name == "tier");
    match call(expression) {
        Some((operators::EQUALS | operators::NOT_EQUALS, [left, right])) => {
            found.extend(is_tier(left).then_some(right));
            found.extend(is_tier(right).then_some(left));
        }
        Some((operators::IN, [left, right])) if is_tier(left) => found.extend(operands(right)),
        _ => {}
    }
    let operands = operands(expression);
    operands
        .into_iter()
        .for_each(|one| collect_tiers(one, found));
}

fn call(expression: &IdedExpr) -> Option<(&str, &[IdedExpr])> {
    match &expression.expr {
        Expr::Call(call) => Some((&call.func_name, &call.args)),
        _ => None,
    }
}
