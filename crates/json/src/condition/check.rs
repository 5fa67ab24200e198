//! Checks the types of a condition before any request arrives.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr},
};
use http::HeaderName;
use tower_fanout::nearest_name;

use super::{
    Condition, ConditionError,
    former::{UNDEFINED, constant},
    operation::{Operator, spelling},
    syntax::{Syntax, literal, operands},
    types::{FUNCTIONS, MACROS, TYPE_NAMES, Type},
};
use crate::template::Root;

/// A type, or the mistake that leaves none.
pub(super) type Checked = Result<Type, ConditionError>;

/// Checks that each operation of the condition is known, has operands of its types, and that the result may be a
/// boolean.
///
/// # Errors
/// Returns all mistakes, in the order of the text. An operation on a value with a mistake is not checked.
pub(super) fn check(syntax: &Syntax) -> Result<(), Vec<ConditionError>> {
    let mut checker = Checker::new(syntax);
    let result = checker
        .type_of(syntax.root())
        .and_then(|result| checker.result(result));
    let mut errors = checker.others;
    errors.extend(result.err());
    if errors.is_empty() {
        return Ok(());
    }
    errors.sort_by_key(|error| error.column);
    Err(errors)
}

pub(super) struct Checker<'s> {
    pub(super) syntax: &'s Syntax,
    /// The mistakes in other operands than the first one that has a mistake.
    pub(super) others: Vec<ConditionError>,
    /// The variables of a comprehension and their types. Empty outside of one.
    pub(super) variables: Vec<(&'s str, Type)>,
    /// `true` if the expression is a suggestion itself, for whose mistakes nothing is suggested.
    pub(super) is_suggestion: bool,
}

impl<'s> Checker<'s> {
    pub(super) const fn new(syntax: &'s Syntax) -> Self {
        Self {
            syntax,
            others: Vec::new(),
            variables: Vec::new(),
            is_suggestion: false,
        }
    }

    /// Checks the type of the whole condition.
    fn result(&self, result: Type) -> Result<(), ConditionError> {
        let root = self.syntax.root();
        if result.may_be_bool() {
            return Ok(());
        }
        let written = spelling(root);
        let message = match &written {
            Some(written) => format!("expected a condition of type bool, got {result} ({written})"),
            None => format!("expected a condition of type bool, got {result}"),
        };
        let error = self.syntax.error(root, message);
        let meant = literal(root).filter(|text| Condition::compile(text).is_ok());
        if let Some(text) = meant.filter(|_| !self.is_suggestion) {
            return Err(error.suggest("remove the quotes:", text));
        }
        let (of, example) = match (written, &result) {
            (Some(written), Type::Text) => ("the value", format!("{written} == 'a'")),
            (Some(written), Type::Map(_)) => ("a member", format!("{written}.name == 'a'")),
            _ => ("the value", "size(tier) > 3".to_owned()),
        };
        let before = format!("compare {of}, as in");
        Err(self.suggest(error, root, [(&*before, example)]))
    }

    /// Returns the types of expressions that are checked independently of each other, each `None` if it has a mistake, and
    /// the first mistake.
    pub(super) fn types_of(
        &mut self,
        all: impl IntoIterator<Item = &'s IdedExpr>,
    ) -> (Vec<Option<Type>>, Result<(), ConditionError>) {
        let (mut types, mut first) = (Vec::new(), Ok(()));
        for one in all {
            let own = self.type_of(one);
            types.push(own.as_ref().ok().cloned());
            if let Err(error) = own {
                first = self.and(first, error);
            }
        }
        (types, first)
    }

    /// Returns the first of two mistakes, and keeps the other one.
    pub(super) fn and(
        &mut self,
        first: Result<(), ConditionError>,
        error: ConditionError,
    ) -> Result<(), ConditionError> {
        match first {
            Ok(()) => Err(error),
            Err(_) => {
                self.others.push(error);
                first
            }
        }
    }

    pub(super) fn type_of(&mut self, expression: &'s IdedExpr) -> Checked {
        match &expression.expr {
            Expr::Literal(value) => self.literal(expression, value),
            Expr::Ident(name) => self.name(expression, name),
            Expr::Select(select) => self.select(expression, select),
            Expr::List(list) => self.list(&list.elements),
            Expr::Comprehension(of) => self.comprehension(expression, of),
            Expr::Call(call) => match Operator::of(&call.func_name) {
                Some(operator) => self.operator(expression, operator, &call.args),
                None => self.call(expression, call),
            },
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(self
                .syntax
                .error(expression, "maps cannot be written in a condition")
                .help("compare the members one by one")),
        }
    }

    fn literal(&self, expression: &IdedExpr, value: &LiteralValue) -> Checked {
        Ok(match value {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Double(_) => Type::Double,
            LiteralValue::Int(_) => Type::Int,
            LiteralValue::UInt(_) => Type::Uint,
            LiteralValue::Null => Type::Null,
            LiteralValue::String(_) => Type::Text,
            LiteralValue::Bytes(_) => {
                let error = self.syntax.error(expression, "bytes are not supported");
                return Err(error.help("remove the b before the quote"));
            }
        })
    }

    fn name(&self, expression: &IdedExpr, name: &str) -> Checked {
        if let Some((_, known)) = self.variables.iter().find(|(known, _)| *known == name) {
            return Ok(known.clone());
        }
        Ok(match Root::parse(name) {
            Root::Tier => Type::Text,
            Root::Query | Root::Header | Root::Route => Type::Map(Type::Text.into()),
            Root::Jwt | Root::Body => Type::Map(Type::Dyn.into()),
            Root::Node(_) if TYPE_NAMES.contains(&name) => Type::Name,
            Root::Node(_) => {
                let known = Root::RESERVED.join(", ");
                let message = format!("unknown name \"{name}\"; expected one of {known}");
                let error = self.syntax.error(expression, message);
                if let Some(constant) = constant(name) {
                    return Err(error.help(format!("write {constant}")));
                }
                if name == UNDEFINED {
                    return Err(error.help("test if a value exists, as in !has(query.page)"));
                }
                return Err(match nearest_name(name, Root::RESERVED) {
                    Some(near) => error.help(format!("did you mean \"{near}\"?")),
                    None => error.help(format!("write a text in quotes, as in '{name}'")),
                });
            }
        })
    }

    fn select(&mut self, expression: &'s IdedExpr, select: &'s SelectExpr) -> Checked {
        let of = self.owner(&select.operand)?;
        let member = self.member(expression, &select.operand, &of, &select.field)?;
        Ok(if select.test { Type::Bool } else { member })
    }

    /// Returns the type of a value of which a member is read.
    fn owner(&mut self, value: &'s IdedExpr) -> Checked {
        let is_name = matches!(value.expr, Expr::Ident(_));
        self.type_of(value).map_err(|error| match is_name {
            true if error
                .help
                .as_ref()
                .is_some_and(|help| help.starts_with("write")) =>
            {
                error.help("a condition reads only the request of the caller")
            }
            _ => error,
        })
    }

    /// Returns the type of the member `name` of `value`, which has the type `of`.
    fn member(&self, expression: &IdedExpr, value: &IdedExpr, of: &Type, name: &str) -> Checked {
        if matches!(&value.expr, Expr::Ident(root) if root == "header")
            && HeaderName::try_from(name).is_err()
        {
            let message = format!("expected a header name, got \"{name}\"");
            let error = self.syntax.error(expression, message);
            return Err(error.help("write a name such as header['x-client']"));
        }
        match of {
            Type::Map(member) => Ok((**member).clone()),
            Type::Dyn => Ok(Type::Dyn),
            other => {
                let written = spelling(value).unwrap_or_else(|| "the value before it".into());
                let message = format!(
                    "unknown member \"{name}\": {written} is a {other}, which has no members"
                );
                let error = self.syntax.error(expression, message);
                Err(error.help(format!("remove \".{name}\"")))
            }
        }
    }

    /// Checks `of[key]`.
    pub(super) fn index(
        &mut self,
        expression: &'s IdedExpr,
        of: &'s IdedExpr,
        key: &'s IdedExpr,
    ) -> Checked {
        let value = self.owner(of)?;
        if let Some(name) = literal(key) {
            return self.member(expression, of, &value, name);
        }
        let (expected, item) = match (value, self.type_of(key)?) {
            (Type::Map(member), Type::Text | Type::Dyn) => return Ok(*member),
            (Type::List(item), Type::Int | Type::Uint | Type::Dyn) => return Ok(*item),
            (Type::Dyn, Type::Text | Type::Int | Type::Uint | Type::Dyn) => return Ok(Type::Dyn),
            (Type::Map(_), key) => ("a name of type string", key),
            (Type::List(_) | Type::Dyn, key) => ("an index of type int", key),
            (value, _) => {
                let message = format!("expected a list or a map before \"[\", got {value}");
                return Err(self.syntax.error(of, message));
            }
        };
        let message = format!("expected {expected} in brackets, got {item}");
        Err(self.syntax.error(key, message))
    }

    fn list(&mut self, items: &'s [IdedExpr]) -> Checked {
        let mut all: Option<Type> = None;
        let (types, first) = self.types_of(items);
        first?;
        for (item, own) in items.iter().zip(types.into_iter().flatten()) {
            let before = all.clone();
            all = match before.clone() {
                _ if matches!(own, Type::Map(_)) => None,
                None => Some(own.clone()),
                Some(before) => before.or(own.clone()),
            };
            if all.is_none() {
                let expected = before.map_or_else(
                    || "a value that can be compared".into(),
                    |one| one.to_string(),
                );
                let message = format!("expected {expected} in the list, got {own}");
                let error = self.syntax.error(item, message);
                return Err(error.help("write items of one type, such as texts in quotes"));
            }
        }
        Ok(Type::List(all.unwrap_or(Type::Dyn).into()))
    }

    fn comprehension(&mut self, expression: &'s IdedExpr, of: &'s ComprehensionExpr) -> Checked {
        if !self.variables.is_empty() || has_comprehension(&of.iter_range) {
            let message = "all, exists, exists_one, filter and map must not be inside each other, or be called on a result of each other";
            let error = self.syntax.error(expression, message);
            return Err(
                error.help("use one of them on a list of the request, or compare items by index")
            );
        }
        let item = match self.type_of(&of.iter_range)? {
            Type::List(item) => *item,
            Type::Dyn => Type::Dyn,
            other => {
                let written =
                    spelling(&of.iter_range).map_or_else(String::new, |one| format!(" ({one})"));
                let message = format!("expected a list, got {other}{written}");
                let error = self.syntax.error(&of.iter_range, message);
                return Err(match other {
                    Type::Map(_) => whole_map(error, &of.iter_range),
                    _ => error,
                });
            }
        };
        let variable = of.iter_var.as_str();
        if Root::RESERVED.contains(&variable) || TYPE_NAMES.contains(&variable) {
            let message = format!("\"{variable}\" has a meaning already");
            let error = self.syntax.error(expression, message);
            return Err(error.help("choose another name for the item"));
        }
        let result = self.type_of(&of.accu_init)?;
        self.variables = vec![(variable, item), (&of.accu_var, result)];
        let parts = [&of.loop_cond, &of.loop_step, &of.result];
        let types = parts.map(|part| self.type_of(part));
        self.variables.clear();
        let [condition, step, result] = types;
        condition.and(step).and(result)
    }

    fn call(&mut self, expression: &'s IdedExpr, call: &'s CallExpr) -> Checked {
        let name = call.func_name.as_str();
        let of_name = || FUNCTIONS.iter().filter(|one| one.name == name);
        if of_name().next().is_none() {
            return Err(self.unknown_function(expression, call));
        }
        let arguments = operands(expression);
        let (given, first) = self.types_of(arguments.iter().copied());
        first?;
        let given: Vec<Type> = given.into_iter().flatten().collect();
        let is_method = call.target.is_some();
        let Some(function) = of_name().find(|one| one.is_method == is_method) else {
            let forms: Vec<_> = of_name().map(|one| one.form()).collect();
            let message = format!("\"{name}\" is called in another form");
            let error = self.syntax.error(expression, message);
            return Err(error.help(format!("write it as {}", forms.join(" or "))));
        };
        let Some(wrong) = function.mismatch(&given) else {
            return Ok(function.returns.clone());
        };
        let got = given.get(wrong).map_or_else(
            || format!("{} arguments", given.len()),
            |one| match spelling(arguments[wrong]) {
                Some(written) => format!("{one} ({written})"),
                None => one.to_string(),
            },
        );
        let message = format!("expected {}, got {got}", function.form());
        let place = arguments.get(wrong).copied().unwrap_or(expression);
        let error = self.syntax.error(place, message);
        Err(match given.get(wrong) {
            Some(one) if one.is_number() && is_method => {
                let written = spelling(place).unwrap_or_else(|| "…".into());
                let text = match place.expr {
                    Expr::Literal(_) => format!("'{written}'"),
                    _ => format!("string({written})"),
                };
                self.suggest(error, place, [("write", text)])
            }
            Some(Type::Map(_)) if name == "size" => whole_map(error, place),
            _ => error,
        })
    }

    fn unknown_function(&self, expression: &IdedExpr, call: &CallExpr) -> ConditionError {
        let name = call.func_name.as_str();
        if let Some((_, example)) = MACROS.iter().find(|(known, _)| *known == name) {
            let message = format!("\"{name}\" has other arguments");
            let error = self.syntax.error(expression, message);
            let of = call.target.as_deref();
            return match of.map(|of| &of.expr) {
                Some(Expr::Ident(of)) if Root::RESERVED.contains(&of.as_str()) && of != "tier" => {
                    error.help(test_member(of))
                }
                _ => error.help(format!("write it as {example}")),
            };
        }
        let known = FUNCTIONS.iter().map(|one| one.name);
        let mut known: Vec<_> = known.chain(MACROS.map(|(name, _)| name)).collect();
        known.dedup();
        let near = nearest_name(name, known.iter().copied());
        known.sort_unstable();
        known.dedup();
        let message = format!(
            "unknown function \"{name}\"; expected one of {}",
            known.join(", ")
        );
        let error = self.syntax.error(expression, message);
        match (name, near) {
            ("matches", _) => error
                .help("use startsWith, endsWith or contains: the cost of a pattern has no bound"),
            ("lower", _) => error.help("did you mean \"lowerAscii\"?"),
            ("upper", _) => error.help("did you mean \"upperAscii\"?"),
            (_, Some(near)) => error.help(format!("did you mean \"{near}\"?")),
            _ => error,
        }
    }
}

/// Adds the help for an operation on `map` as a whole.
fn whole_map(error: ConditionError, map: &IdedExpr) -> ConditionError {
    match spelling(map) {
        Some(of) => error.help(test_member(&of)),
        None => error,
    }
}

/// Returns the help for an operation on the map `of` that maps do not have.
fn test_member(of: &str) -> String {
    let name = if of == "header" {
        "['x-client']"
    } else {
        ".name"
    };
    let test = match of {
        "header" => "'x-client' in header".to_owned(),
        _ => format!("has({of}.name)"),
    };
    format!("test and compare single members, as in {test} && {of}{name} == 'a'")
}

fn has_comprehension(expression: &IdedExpr) -> bool {
    matches!(expression.expr, Expr::Comprehension(_))
        || operands(expression).into_iter().any(has_comprehension)
}
