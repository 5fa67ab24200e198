//! The operators of conditions, the types of their operands, and what to write instead of a mistake.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue, operators},
};

use super::{
    ConditionError,
    check::{Checked, Checker},
    syntax::{literal, member},
    types::{TYPE_NAMES, Type},
};

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
        let types = of.iter().map(|one| self.type_of(one));
        let types: Vec<Type> = types.collect::<Result<_, _>>()?;
        match (operator, of, &types[..]) {
            (Operator::Logical, ..) => self.logical(of, &types),
            (Operator::Choice, [_, yes, no], [_, first, second]) => {
                self.logical(&of[..1], &types[..1])?;
                let either = first.clone().or(second.clone());
                either.ok_or_else(|| self.mismatch(expression, "? :", (yes, no), (first, second)))
            }
            (Operator::In, [left, right], [item, list]) => self.inside((left, right), (item, list)),
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
                Err(self.syntax.error(expression, message))
            }
        }
    }

    /// Checks operands that must be booleans.
    fn logical(&self, of: &[IdedExpr], types: &[Type]) -> Checked {
        let mut operands = of.iter().zip(types);
        let Some((wrong, got)) = operands.find(|(_, one)| !one.may_be_bool()) else {
            return Ok(Type::Bool);
        };
        let written = spelling(wrong);
        let shown = written
            .as_ref()
            .map_or_else(String::new, |one| format!(" ({one})"));
        let error = self
            .syntax
            .error(wrong, format!("expected bool, got {got}{shown}"));
        Err(match written.filter(|_| *got == Type::Text) {
            Some(written) => self.suggest(
                error,
                "compare the value, as in",
                &format!("{written} == 'a'"),
            ),
            None => error,
        })
    }

    /// Checks `item in list`.
    fn inside(
        &self,
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
            return Err(match converted((left, item), (right, list)) {
                Some((before, code)) => self.suggest(error, before, &code),
                None => error,
            });
        }
        let message = format!("expected a list or a map after \"in\", got {list}");
        let error = self.syntax.error(right, message);
        Err(match (spelling(left), spelling(right)) {
            (Some(part), Some(whole)) if *list == Type::Text => {
                self.suggest(error, "write", &format!("{whole}.contains({part})"))
            }
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
        let fixed = cure(symbol, (left, first), (right, second));
        match fixed {
            Some((before, code)) => self.suggest(error, before, &code),
            None if matches!((first, second), (Type::Map(_), _) | (_, Type::Map(_))) => {
                error.help("compare the members of the map one by one")
            }
            None => error,
        }
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
        Err(self.suggest(
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

/// Returns what to write instead of an operation on a text and another type, or on two types of numbers: words, and the
/// expression after them.
fn cure(
    symbol: &str,
    (left, first): (&IdedExpr, &Type),
    (right, second): (&IdedExpr, &Type),
) -> Option<(&'static str, String)> {
    let (mut one, mut other) = (spelling(left)?, spelling(right)?);
    let names_type = |of: &IdedExpr| literal(of).is_some_and(|name| TYPE_NAMES.contains(&name));
    // Texts are added to texts. For other operators, the side that is not written out is converted.
    let converts_left = match (first, second) {
        (Type::Null, Type::Text) => return Some(absent(&other, right)),
        (Type::Text, Type::Null) => return Some(absent(&one, left)),
        (Type::Name, Type::Text) if names_type(right) => {
            return Some(("write", format!("{one} {symbol} {}", literal(right)?)));
        }
        (Type::Text, Type::Name) if names_type(left) => {
            return Some(("write", format!("{} {symbol} {other}", literal(left)?)));
        }
        // Tiers have names, which are no numbers.
        (Type::Text, _) if one == "tier" && symbol != "+" => return Some(tier()),
        (_, Type::Text) if other == "tier" && symbol != "+" => return Some(tier()),
        (Type::Text, _) => symbol != "+" && !is_literal(left),
        (_, Type::Text) => symbol == "+" || is_literal(right),
        _ => first.is_number(),
    };
    let (value, wanted) = match converts_left {
        true => (&mut one, second),
        false => (&mut other, first),
    };
    let function = match wanted {
        Type::Text | Type::Int | Type::Uint | Type::Double | Type::Bool if symbol != "? :" => {
            wanted
        }
        _ => return None,
    };
    *value = format!("{function}({value})");
    Some(("write", format!("{one} {symbol} {other}")))
}

/// Returns what to write instead of a search in a list whose items have another type: words, and the expression after
/// them.
fn converted(
    (left, item): (&IdedExpr, &Type),
    (right, list): (&IdedExpr, &Type),
) -> Option<(&'static str, String)> {
    let (Type::List(of), Expr::List(items)) = (list, &right.expr) else {
        return None;
    };
    let (written, is_text) = (spelling(left)?, *item == Type::Text);
    let converts =
        is_text && (of.is_number() || **of == Type::Bool) || item.is_number() && **of == Type::Text;
    if !converts || is_literal(left) {
        return None;
    }
    if written == "tier" {
        return Some(tier());
    }
    let items: Option<Vec<_>> = items.elements.iter().map(spelling).collect();
    let items = items?.join(", ");
    Some(("write", format!("{of}({written}) in [{items}]")))
}

/// Returns the help for a comparison of a text with `null`: words, and the expression after them.
fn absent(written: &str, value: &IdedExpr) -> (&'static str, String) {
    match member(value) {
        Some((_, name)) if written.ends_with(']') => {
            let of = member(value)
                .and_then(|(of, _)| spelling(of))
                .unwrap_or_default();
            (ABSENT, format!("!({} in {of})", quoted(name)))
        }
        Some(_) => (ABSENT, format!("!has({written})")),
        None => (
            "a string is never null; compare it, as in",
            format!("{written} == ''"),
        ),
    }
}

/// Returns the help for a comparison of the tier with another type: words, and the expression after them.
fn tier() -> (&'static str, String) {
    (
        "compare it with the name of a tier, as in",
        "tier == 'free'".to_owned(),
    )
}

const ABSENT: &str = "a string is never null; if it may be missing, write";

const fn is_literal(expression: &IdedExpr) -> bool {
    matches!(expression.expr, Expr::Literal(_))
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

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}
