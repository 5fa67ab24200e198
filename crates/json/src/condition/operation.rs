//! The operators of conditions, the types of their operands, and what to write instead of a mistake.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    ConditionError,
    check::{Checked, Checker},
    reads::reference,
    suggest::{converted, cures, is_literal},
    syntax::{Syntax, literal},
    types::Type,
    written::replaced,
};
use crate::template::Root;

/// An operator, by the rule for its operands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Operator {
    /// `&&`, `||` and `!`.
    Logical,
    /// `a ? b : c`.
    Choice,
    /// `==` and `!=`.
    Equality,
    /// `<`, `<=`, `>` and `>=`.
    Order,
    /// `+`.
    Sum,
    /// `-`, `*`, `/` and `%`, also `-` before a number.
    Arithmetic,
    /// `a in b`.
    In,
    /// `a[b]`.
    Index,
}

impl Operator {
    /// Returns the operator that the parser calls `name`, or `None` for the name of a function.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE => Self::Logical,
            operators::CONDITIONAL => Self::Choice,
            operators::EQUALS | operators::NOT_EQUALS => Self::Equality,
            operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => Self::Order,
            operators::ADD => Self::Sum,
            operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE => Self::Arithmetic,
            operators::IN => Self::In,
            operators::INDEX => Self::Index,
            _ => return None,
        })
    }
}

impl<'s> Checker<'s> {
    /// Checks a call of `operator`.
    pub(super) fn operator(
        &mut self,
        expression: &'s IdedExpr,
        operator: Operator,
        of: &'s [IdedExpr],
    ) -> Checked {
        if let (Operator::Index, [value, key]) = (operator, of) {
            return self.index(expression, value, key);
        }
        self.hyphen(operator, of)?;
        let (types, mut errors) = self.types_of(of);
        let of_bool = match operator {
            Operator::Logical => of.len(),
            Operator::Choice => 1,
            _ => 0,
        };
        for (one, own) in of.iter().zip(&types).take(of_bool) {
            if let Some(error) = own.as_ref().and_then(|own| self.not_bool(one, own)) {
                errors = self.and(errors, error);
            }
        }
        errors?;
        self.quoted_value(expression, operator, of)?;
        let types: Vec<Type> = types.into_iter().flatten().collect();
        match (operator, of, &types[..]) {
            (Operator::Logical, ..) => Ok(Type::Bool),
            (Operator::Choice, [_, yes, no], [_, first, second]) => {
                let either = first.clone().or(second.clone());
                either.ok_or_else(|| self.mismatch(expression, "? :", (yes, no), (first, second)))
            }
            (Operator::In, [left, right], [item, list]) => {
                self.inside(expression, (left, right), (item, list))
            }
            (_, [left, right], [first, second]) => {
                let symbol = symbol(expression);
                let result = match operator {
                    Operator::Equality => first.is_comparable(second).then_some(Type::Bool),
                    Operator::Order => is_ordered(first, second).then_some(Type::Bool),
                    _ => combined(operator, first, second),
                };
                result.ok_or_else(|| {
                    self.mismatch(expression, symbol, (left, right), (first, second))
                })
            }
            (_, _, [one @ (Type::Int | Type::Double | Type::Dyn)]) => Ok(one.clone()),
            _ => {
                let message = format!("expected a number after \"-\", got {}", joined(&types));
                let error = self.syntax.error(expression, message);
                // A tier has a name, which is no number.
                let text = of
                    .first()
                    .filter(|one| types == [Type::Text] && !is_literal(one));
                let text = text.and_then(spelling).filter(|text| text != "tier");
                let cure = text.map(|text| ("write", format!("-int({text})")));
                Err(self.suggest(error, expression, cure))
            }
        }
    }

    /// Returns the error for an operand that must be a boolean, and has the type `got`. Returns `None` if it may be one.
    fn not_bool(&self, wrong: &IdedExpr, got: &Type) -> Option<ConditionError> {
        if got.may_be_bool() {
            return None;
        }
        let written = spelling(wrong);
        let shown = written
            .as_ref()
            .map_or_else(String::new, |one| format!(" ({one})"));
        let error = self
            .syntax
            .error(wrong, format!("expected bool, got {got}{shown}"));
        Some(match written.filter(|_| *got == Type::Text) {
            Some(written) => {
                let code = format!("{written} == 'a'");
                self.suggest(error, wrong, [("compare the value, as in", code)])
            }
            None => error,
        })
    }

    /// Checks `item in list`.
    fn inside(
        &self,
        expression: &IdedExpr,
        (left, right): (&IdedExpr, &IdedExpr),
        (item, list): (&Type, &Type),
    ) -> Checked {
        let fits = match list {
            Type::List(of) => item.is_comparable(of),
            Type::Map(_) => matches!(item, Type::Text | Type::Dyn),
            Type::Dyn => !matches!(item, Type::Map(_)),
            _ => false,
        };
        if fits {
            return Ok(Type::Bool);
        }
        if let Type::List(_) | Type::Map(_) = list {
            let written = spelling(left).map_or_else(String::new, |one| format!(" ({one})"));
            let message =
                format!("expected an item of the {list} before \"in\", got {item}{written}");
            let error = self.syntax.error(left, message);
            return Err(self.suggest(error, expression, converted((left, item), (right, list))));
        }
        let message = format!("expected a list or a map after \"in\", got {list}");
        let error = self.syntax.error(right, message);
        Err(match (spelling(left), spelling(right)) {
            (Some(part), Some(whole)) if *list == Type::Text => self.suggest(
                error,
                expression,
                [("write", format!("{whole}.contains({part})"))],
            ),
            _ => error.help("write a list in brackets, as in tier in ['free', 'pro']"),
        })
    }

    /// Returns the error for operands that do not fit together.
    fn mismatch(
        &self,
        expression: &IdedExpr,
        symbol: &str,
        (left, right): (&IdedExpr, &IdedExpr),
        (first, second): (&Type, &Type),
    ) -> ConditionError {
        let show = |one: &IdedExpr, of: &Type| match spelling(one) {
            Some(written) => format!("{of} ({written})"),
            None => of.to_string(),
        };
        let message = format!(
            "expected operands of one type for \"{symbol}\", got {} and {}",
            show(left, first),
            show(right, second)
        );
        let error = self.syntax.error(expression, message);
        let fixed = cures(symbol, (left, first), (right, second));
        if fixed.is_empty() && matches!((first, second), (Type::Map(_), _) | (_, Type::Map(_))) {
            return error.help("compare the members of the map one by one");
        }
        self.suggest(error, expression, fixed)
    }

    /// Finds a value of the request in quotes, which is a text: `'query.a' == 'b'`.
    fn quoted_value(
        &self,
        expression: &'s IdedExpr,
        operator: Operator,
        of: &'s [IdedExpr],
    ) -> Result<(), ConditionError> {
        let is_relation = matches!(
            operator,
            Operator::Equality | Operator::Order | Operator::In
        );
        let texts = of.iter().flat_map(|one| match &one.expr {
            Expr::List(list) => list.elements.iter().collect(),
            _ => vec![one],
        });
        let mut texts = texts.filter(|_| is_relation);
        if !texts.clone().all(is_literal) {
            return Ok(());
        }
        let named = texts.find_map(|one| {
            let value = Syntax::parse(literal(one)?).ok()?;
            let reference = reference(value.root())?;
            let is_value = reference.root == Root::Tier || !reference.path.is_empty();
            is_value.then_some((one, value))
        });
        let Some((text, value)) = named else {
            return Ok(());
        };
        let message = format!(
            "\"{}\" in quotes is a text, not a value of the request",
            value.text
        );
        let error = self.syntax.error(text, message);
        let code = replaced(expression, text, (&value.text, value.root()));
        let cure = code.map(|code| ("remove the quotes:", code));
        Err(self.suggest(error, expression, cure))
    }

    /// Finds a name with a hyphen, which reads as a subtraction: `header.x-client`.
    fn hyphen(&self, operator: Operator, of: &[IdedExpr]) -> Result<(), ConditionError> {
        let (Operator::Arithmetic, [left, right]) = (operator, of) else {
            return Ok(());
        };
        let Expr::Select(select) = &left.expr else {
            return Ok(());
        };
        let (Some(whole), Expr::Ident(last)) = (spelling(&select.operand), &right.expr) else {
            return Ok(());
        };
        let text = &self.syntax.text;
        let written = format!("{whole}.{}-{last}", select.field);
        let Some(place) = text.find(&written) else {
            return Ok(());
        };
        let name = &text[place + whole.len() + 1..];
        let end = name.find(|one: char| !one.is_ascii_alphanumeric() && !"-_".contains(one));
        let name = &name[..end.unwrap_or(name.len())];
        let error = self
            .syntax
            .error(left, format!("\"-\" in {whole}.{name} is a subtraction"));
        // The rest of the name is a part of another operation, so it is not replaced.
        Err(self.suggest_alone(
            error,
            "for a name with \"-\", write",
            &format!("{whole}['{name}']"),
        ))
    }
}

/// Returns the type of `first + second` and the like, or `None` if the operator does not have it.
fn combined(operator: Operator, first: &Type, second: &Type) -> Option<Type> {
    let adds = |one: &Type| {
        one.is_number()
            || *one == Type::Dyn
            || operator == Operator::Sum && matches!(one, Type::Text | Type::List(_))
    };
    match (first, second) {
        _ if !adds(first) || !adds(second) => None,
        (Type::Dyn, other) | (other, Type::Dyn) => Some(other.clone()),
        (Type::List(_), Type::List(_)) => first.clone().or(second.clone()),
        _ => (first == second).then(|| first.clone()),
    }
}

fn is_ordered(first: &Type, second: &Type) -> bool {
    let orders = |one: &Type| one.is_number() || matches!(one, Type::Text | Type::Dyn);
    orders(first) && orders(second) && first.is_comparable(second)
}

fn joined(types: &[Type]) -> String {
    let names: Vec<_> = types.iter().map(ToString::to_string).collect();
    names.join(" and ")
}

/// Returns the operator of `expression` as it is written.
fn symbol(expression: &IdedExpr) -> &str {
    match &expression.expr {
        Expr::Call(call) => call.func_name.trim_matches(['_', '@']),
        _ => "",
    }
}

/// Returns a short expression as it can be written, or `None` for one that is not a value by itself.
pub(super) fn spelling(expression: &IdedExpr) -> Option<String> {
    Some(match &expression.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) if !select.test => {
            format!("{}.{}", spelling(&select.operand)?, select.field)
        }
        Expr::Literal(value) => match value {
            LiteralValue::Boolean(value) => value.inner().to_string(),
            LiteralValue::Double(value) => format!("{:?}", value.inner()),
            LiteralValue::Int(value) => value.inner().to_string(),
            LiteralValue::UInt(value) => format!("{}u", value.inner()),
            LiteralValue::Null => "null".to_owned(),
            LiteralValue::String(_) => quoted(literal(expression)?),
            LiteralValue::Bytes(_) => return None,
        },
        Expr::Call(call) if call.func_name == operators::INDEX => match &call.args[..] {
            [of, key] => format!("{}[{}]", spelling(of)?, spelling(key)?),
            _ => return None,
        },
        Expr::Call(call) if Operator::of(&call.func_name).is_none() => {
            let arguments = call.args.iter().map(spelling);
            let arguments = arguments.collect::<Option<Vec<_>>>()?.join(", ");
            match &call.target {
                Some(of) => format!("{}.{}({arguments})", spelling(of)?, call.func_name),
                None => format!("{}({arguments})", call.func_name),
            }
        }
        _ => return None,
    })
}

pub(super) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}
