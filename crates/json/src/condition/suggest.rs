//! Finds what to write instead of a mistake.

use cel::{IdedExpr, common::ast::Expr};

use super::{
    ConditionError,
    check::Checker,
    operation::{quoted, spelling},
    syntax::{Syntax, literal, member},
    types::{TYPE_NAMES, Type},
    written::{condition_around, replaced},
};

impl Checker<'_> {
    /// Adds the help `{before} {code}` of the first of `cures` to the error, with the condition around `part` if that has
    /// no mistake with `code` in the place of `part`. Adds no help if all have a mistake.
    pub(super) fn suggest<'c>(
        &self,
        error: ConditionError,
        part: &IdedExpr,
        cures: impl IntoIterator<Item = (&'c str, String)>,
    ) -> ConditionError {
        if self.is_suggestion {
            return error;
        }
        let cures = cures.into_iter().filter_map(|(before, code)| {
            let (code, is_condition) = self.in_place_of(part, &code)?;
            Some((before, code, is_condition))
        });
        let cures: Vec<_> = cures.collect();
        let is_condition = |cure: &&(_, _, bool)| cure.2;
        match cures.iter().find(is_condition).or(cures.first()) {
            Some((before, code, _)) => error.suggest(before, code),
            None => error,
        }
    }

    /// Adds the help `{before} {code}` to the error, unless `code` has a mistake itself.
    pub(super) fn suggest_alone(
        &self,
        error: ConditionError,
        before: &str,
        code: &str,
    ) -> ConditionError {
        let is_valid = |syntax: Syntax| Checker::new(&syntax).type_of(syntax.root()).is_ok();
        match !self.is_suggestion && Syntax::parse(code).is_ok_and(is_valid) {
            true => error.suggest(before, code),
            false => error,
        }
    }

    /// Returns the condition around `part` with `code` in its place, and `true` if its type is that of a condition. Returns
    /// `None` if it has a mistake.
    fn in_place_of(&self, part: &IdedExpr, code: &str) -> Option<(String, bool)> {
        let by = Syntax::parse(code).ok()?;
        let around =
            condition_around(self.syntax.root(), part).filter(|_| self.variables.is_empty());
        let whole = around.and_then(|around| replaced(around, part, (code, by.root())));
        let whole = whole.unwrap_or_else(|| code.to_owned());
        let syntax = Syntax::parse(&whole).ok()?;
        let mut checker = Checker {
            variables: self.variables.clone(),
            is_suggestion: true,
            ..Checker::new(&syntax)
        };
        let result = checker.type_of(syntax.root()).ok()?;
        Some((whole, result.may_be_bool()))
    }
}

/// A way to write an operation: words, and the expression after them.
type Cure = (&'static str, String);

/// Returns what to write instead of an operation on a text and another type, or on two types of numbers, beginning with
/// what is most likely to be meant.
pub(super) fn cures(
    symbol: &str,
    (left, first): (&IdedExpr, &Type),
    (right, second): (&IdedExpr, &Type),
) -> Vec<Cure> {
    let (Some(one), Some(other)) = (spelling(left), spelling(right)) else {
        return Vec::new();
    };
    let names_type = |of: &IdedExpr| literal(of).is_some_and(|name| TYPE_NAMES.contains(&name));
    let convert_left = || conversion(second, &one).map(|one| format!("{one} {symbol} {other}"));
    let convert_right = || conversion(first, &other).map(|other| format!("{one} {symbol} {other}"));
    let codes = match (first, second) {
        _ if symbol == "? :" => return Vec::new(),
        (Type::Null, Type::Text) => return absent(symbol, &other, right),
        (Type::Text, Type::Null) => return absent(symbol, &one, left),
        (Type::Name, Type::Text) if names_type(right) => {
            let name = literal(right).unwrap_or_default();
            [Some(format!("{one} {symbol} {name}")), None]
        }
        (Type::Text, Type::Name) if names_type(left) => {
            let name = literal(left).unwrap_or_default();
            [Some(format!("{name} {symbol} {other}")), None]
        }
        // Tiers have names, which are no numbers.
        (Type::Text, _) if one == "tier" && symbol != "+" => return vec![tier()],
        (_, Type::Text) if other == "tier" && symbol != "+" => return vec![tier()],
        // The side that is not written out is converted. A sum may be one of numbers or of texts.
        (Type::Text, _) if symbol == "+" => {
            let converts = second.is_number() && !is_literal(left) && one != "tier";
            [convert_left().filter(|_| converts), convert_right()]
        }
        (_, Type::Text) if symbol == "+" => {
            let converts = first.is_number() && !is_literal(right) && other != "tier";
            [convert_right().filter(|_| converts), convert_left()]
        }
        (Type::Text, _) if !is_literal(left) => [convert_left(), None],
        (Type::Text, _) => [convert_right(), None],
        (_, Type::Text) if is_literal(right) => [convert_left(), None],
        _ if first.is_number() && *second != Type::Text => [convert_left(), None],
        _ => [convert_right(), None],
    };
    let codes = codes.into_iter().flatten();
    codes.map(|code| ("write", code)).collect()
}

/// Returns `value` converted to the type `wanted`, or `None` if there is no such conversion.
fn conversion(wanted: &Type, value: &str) -> Option<String> {
    let is_function = matches!(
        wanted,
        Type::Text | Type::Int | Type::Uint | Type::Double | Type::Bool
    );
    is_function.then(|| format!("{wanted}({value})"))
}

/// Returns what to write instead of a search in a list whose items have another type.
pub(super) fn converted(
    (left, item): (&IdedExpr, &Type),
    (right, list): (&IdedExpr, &Type),
) -> Option<Cure> {
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

/// Returns what to write instead of a comparison of the text `value` with `null`.
fn absent(symbol: &str, written: &str, value: &IdedExpr) -> Vec<Cure> {
    let is_negated = match symbol {
        "==" => false,
        "!=" => true,
        _ => return Vec::new(),
    };
    let presence = match member(value) {
        Some((of, name)) if written.ends_with(']') => {
            let test = format!("{} in {}", quoted(name), spelling(of).unwrap_or_default());
            if is_negated {
                test
            } else {
                format!("({test})")
            }
        }
        Some(_) => format!("has({written})"),
        None => {
            let code = format!("{written} {symbol} ''");
            return vec![("a string is never null; compare it, as in", code)];
        }
    };
    let code = if is_negated {
        presence
    } else {
        format!("!{presence}")
    };
    vec![(ABSENT, code)]
}

/// Returns the help for a comparison of the tier with another type.
fn tier() -> Cure {
    (
        "compare it with the name of a tier, as in",
        "tier == 'free'".to_owned(),
    )
}

const ABSENT: &str = "a string is never null; if it may be missing, write";

pub(super) const fn is_literal(expression: &IdedExpr) -> bool {
    matches!(expression.expr, Expr::Literal(_))
}
