//! Writes a parsed expression with another one in the place of a part of it.

use cel::{
    IdedExpr,
    common::ast::{Expr, operators},
};

use super::{
    level::{AND, CHOICE, OR, PRODUCT, RELATION, SUM, UNARY, VALUE},
    operation::{Operator, spelling},
};

/// Returns the smallest part of `root` that must be a boolean and contains `part`: an operand of `&&` or `||`, the condition
/// of `? :`, or `root` itself. Returns `None` if `part` is not in `root`.
pub(super) fn condition_around<'e>(root: &'e IdedExpr, part: &IdedExpr) -> Option<&'e IdedExpr> {
    if std::ptr::eq(root, part) {
        return Some(root);
    }
    let Expr::Call(call) = &root.expr else {
        return super::syntax::operands(root)
            .into_iter()
            .any(|one| contains(one, part))
            .then_some(root);
    };
    let of_bool = match Operator::of(&call.func_name) {
        Some(Operator::Logical) if call.args.len() > 1 => &call.args[..],
        Some(Operator::Choice) => &call.args[..1],
        _ => &[],
    };
    let inside = of_bool.iter().find_map(|one| condition_around(one, part));
    inside.or_else(|| contains(root, part).then_some(root))
}

fn contains(whole: &IdedExpr, part: &IdedExpr) -> bool {
    let operands = super::syntax::operands(whole);
    std::ptr::eq(whole, part) || operands.into_iter().any(|one| contains(one, part))
}

/// Returns `whole` with `code`, whose outermost operator has that of `by`, in the place of `part`. Returns `None` if
/// `whole` has a macro other than `has`, of which the parser keeps only the expansion.
pub(super) fn replaced(
    whole: &IdedExpr,
    part: &IdedExpr,
    (code, by): (&str, &IdedExpr),
) -> Option<String> {
    let writer = Writer { part, code, by };
    writer.write(whole, CHOICE)
}

struct Writer<'e> {
    part: &'e IdedExpr,
    code: &'e str,
    by: &'e IdedExpr,
}

impl Writer<'_> {
    /// Writes `expression` as an operand of an operator of `least`.
    fn write(&self, expression: &IdedExpr, least: u8) -> Option<String> {
        let (text, level) = match std::ptr::eq(expression, self.part) {
            true => (self.code.to_owned(), level(self.by)),
            false => (self.written(expression)?, level(expression)),
        };
        Some(match level < least {
            true => format!("({text})"),
            false => text,
        })
    }

    fn written(&self, expression: &IdedExpr) -> Option<String> {
        match &expression.expr {
            Expr::Select(select) => {
                let member = format!("{}.{}", self.write(&select.operand, VALUE)?, select.field);
                Some(match select.test {
                    true => format!("has({member})"),
                    false => member,
                })
            }
            Expr::List(list) => Some(format!("[{}]", self.list(&list.elements)?)),
            Expr::Call(call) => match (call.func_name.as_str(), &call.args[..]) {
                (operators::INDEX, [of, key]) => {
                    let of = self.write(of, VALUE)?;
                    Some(format!("{of}[{}]", self.write(key, CHOICE)?))
                }
                (operators::CONDITIONAL, [condition, yes, no]) => {
                    let [condition, yes] = [self.write(condition, OR)?, self.write(yes, OR)?];
                    Some(format!("{condition} ? {yes} : {}", self.write(no, CHOICE)?))
                }
                (name, [one]) if Operator::of(name).is_some() => {
                    let sign = name.trim_matches('_');
                    Some(format!("{sign}{}", self.write(one, UNARY)?))
                }
                (name, [left, right]) if Operator::of(name).is_some() => {
                    let own = level(expression);
                    let (left, right) = (self.write(left, own)?, self.write(right, own + 1)?);
                    Some(format!("{left} {} {right}", name.trim_matches(['_', '@'])))
                }
                (name, arguments) => {
                    let arguments = self.list(arguments)?;
                    Some(match &call.target {
                        Some(of) => format!("{}.{name}({arguments})", self.write(of, VALUE)?),
                        None => format!("{name}({arguments})"),
                    })
                }
            },
            Expr::Ident(_) | Expr::Literal(_) => spelling(expression),
            _ => None,
        }
    }

    fn list(&self, items: &[IdedExpr]) -> Option<String> {
        let items = items.iter().map(|one| self.write(one, CHOICE));
        Some(items.collect::<Option<Vec<_>>>()?.join(", "))
    }
}

/// Returns the level of the outermost operator of `expression`.
fn level(expression: &IdedExpr) -> u8 {
    let Expr::Call(call) = &expression.expr else {
        return VALUE;
    };
    match call.func_name.as_str() {
        operators::CONDITIONAL => CHOICE,
        operators::LOGICAL_OR => OR,
        operators::LOGICAL_AND => AND,
        operators::LOGICAL_NOT | operators::NEGATE => UNARY,
        operators::MULTIPLY | operators::DIVIDE | operators::MODULO => PRODUCT,
        operators::ADD | operators::SUBSTRACT => SUM,
        name => match Operator::of(name) {
            Some(Operator::Equality | Operator::Order | Operator::In) => RELATION,
            _ => VALUE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::syntax::{Syntax, operands},
        *,
    };

    #[test]
    fn writes_an_expression_with_the_parentheses_that_it_needs() {
        let by = Syntax::parse("1 + 2").unwrap_or_else(|error| panic!("{error}"));
        for text in [
            "(1 + 2) * 3 == body.n",
            "1 - (2 - 3) < -body.n",
            "!(has(query.a) && 'x' in header) || tier == 'a'",
            "(tier == 'a' ? query.a : query.b) == 'x'",
            "body.list[0].name.contains('\\'') == (1 in [1, 2])",
            "string(body.a + 'b').startsWith(tier)",
        ] {
            let syntax = Syntax::parse(text).unwrap_or_else(|error| panic!("{error}"));
            let written = replaced(syntax.root(), by.root(), ("", by.root()));
            assert_eq!(written.as_deref(), Some(text));
        }
        let syntax = Syntax::parse("!true || 5 * 3 == 1").unwrap_or_else(|error| panic!("{error}"));
        let relation = operands(syntax.root())[1];
        let five = operands(operands(relation)[0])[0];
        let around = condition_around(syntax.root(), five).unwrap();
        assert!(std::ptr::eq(around, relation));
        let written = replaced(around, five, ("1 + 2", by.root()));
        assert_eq!(written.as_deref(), Some("(1 + 2) * 3 == 1"));
    }
}
