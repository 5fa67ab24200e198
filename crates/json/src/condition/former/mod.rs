//! Rewrites conditions of the language before CEL, a part of Jinja, for the messages about them. Operators, constants and
//! quotes of other languages are rewritten too.

mod tokens;

use self::tokens::{FORMER_OPERATORS, foreign_text, in_lower_case, is_value, tokens};
pub(super) use self::tokens::{UNDEFINED, constant};
use super::{
    Condition,
    level::{AND, CHOICE, OR, PRODUCT, RELATION, SUM, UNARY, VALUE},
    syntax::RESERVED,
};

/// Maximum nesting of a condition that is rewritten.
const DEEPEST: usize = 32;

/// A condition of the former language.
pub(super) struct Former<'t> {
    /// The first word or sign that CEL does not have.
    pub(super) token: &'t str,
    /// The number of its first character, from 1.
    pub(super) column: usize,
    /// The condition in CEL.
    pub(super) rewritten: String,
}

/// Returns `text` in CEL, if it is a condition of the former language and the result is a condition of CEL.
pub(super) fn rewrite(text: &str) -> Option<Former<'_>> {
    let mut rewriter = Rewriter {
        tokens: tokens(text),
        place: 0,
        depth: 0,
        former: None,
        guards: Vec::new(),
    };
    let rewritten = rewriter.expression(CHOICE)?;
    let rewritten = rewriter.guarded(rewritten);
    let is_whole = rewriter.place == rewriter.tokens.len();
    let (offset, token) = *rewriter.tokens.get(rewriter.former?)?;
    let is_former = is_whole && Condition::compile(&rewritten.text).is_ok();
    is_former.then(|| Former {
        token,
        column: text[..offset].chars().count() + 1,
        rewritten: rewritten.text,
    })
}

/// An expression of CEL.
struct Rewritten {
    text: String,
    /// The level of its outermost operator.
    level: u8,
    /// For a member of a value: the value, and the name as it is written in brackets, or as it is after a dot.
    member: Option<(String, Result<String, String>)>,
}

impl Rewritten {
    fn new(text: impl Into<String>, level: u8) -> Self {
        Self {
            text: text.into(),
            level,
            member: None,
        }
    }

    /// Returns the text as an operand of an operator of `level`.
    fn at(self, level: u8) -> String {
        match self.level < level {
            true => format!("({})", self.text),
            false => self.text,
        }
    }

    /// Returns the test for the presence of the value. For an item of a list, this is a test of the size.
    fn presence(&self) -> Self {
        let is_index = |key: &str| key.bytes().all(|byte| byte.is_ascii_digit());
        match &self.member {
            Some((of, Ok(key))) if is_index(key) => {
                Self::new(format!("size({of}) > {key}"), RELATION)
            }
            Some((of, Ok(key))) => Self::new(format!("{key} in {of}"), RELATION),
            Some((of, Err(name))) => Self::new(format!("has({of}.{name})"), VALUE),
            None => Self::new("true", VALUE),
        }
    }

    /// Returns the test for the absence of the value.
    fn absence(&self) -> Self {
        Self::new(format!("!{}", self.presence().at(VALUE)), UNARY)
    }

    /// Returns `true` for a member of which every value is a string, and therefore never `null`.
    fn is_text(&self) -> bool {
        let texts = ["query", "header", "route"];
        let of = self.member.as_ref().map(|(of, _)| &**of);
        of.is_some_and(|of| texts.contains(&of))
    }
}

struct Rewriter<'t> {
    /// The tokens with their offsets in bytes.
    tokens: Vec<(usize, &'t str)>,
    place: usize,
    depth: usize,
    /// The index of the first token that CEL does not have.
    former: Option<usize>,
    /// The tests for the values that `?.` reads in the comparison that is rewritten.
    guards: Vec<String>,
}

impl<'t> Rewriter<'t> {
    fn peek(&self) -> &'t str {
        self.at(self.place)
    }

    /// Returns the token at `place`, or an empty text after the last one.
    fn at(&self, place: usize) -> &'t str {
        let token = |place: usize| self.tokens.get(place).map_or("", |(_, token)| token);
        // After a dot, a word is a name.
        match place.checked_sub(1).map(token) {
            Some(".") => token(place),
            _ => in_lower_case(token(place)),
        }
    }

    /// Returns `value` after the tests for the values that `?.` reads in it.
    fn guarded(&mut self, value: Rewritten) -> Rewritten {
        let mut guards = std::mem::take(&mut self.guards);
        guards.retain(|guard| *guard != value.text);
        if guards.is_empty() {
            return value;
        }
        Rewritten::new(format!("{} && {}", guards.join(" && "), value.at(AND)), AND)
    }

    /// Notes that CEL does not have the token at `place`.
    fn note_former(&mut self, place: usize) {
        let first = self.former.unwrap_or(place);
        self.former = Some(first.min(place));
    }

    fn next(&mut self) -> &'t str {
        let token = self.peek();
        if self
            .tokens
            .get(self.place)
            .is_some_and(|(_, written)| *written != token)
        {
            self.note_former(self.place);
        }
        self.place += 1;
        token
    }

    /// Skips the token if it is `token`, and returns `true` then.
    fn skip(&mut self, token: &str) -> bool {
        let is_next = self.peek() == token;
        if is_next {
            self.next();
        }
        is_next
    }

    /// Rewrites an expression whose operators have at least `level`.
    fn expression(&mut self, level: u8) -> Option<Rewritten> {
        let mut left = self.unary()?;
        while let Some((operator, own)) = self.operator().filter(|(_, own)| *own >= level) {
            left = self.binary(left, operator, own)?;
        }
        Some(left)
    }

    /// Rewrites `operator`, which is the next token, and the operand after it.
    fn binary(&mut self, left: Rewritten, operator: &str, level: u8) -> Option<Rewritten> {
        if FORMER_OPERATORS.contains(&self.next()) {
            self.note_former(self.place - 1);
        }
        if operator == "not in" {
            self.next();
        }
        if operator == "if" {
            return self.choice(left);
        }
        let right = self.expression(level + 1)?;
        let is_undefined = right.text == UNDEFINED;
        let is_null = left.is_text() && right.text == "null" || is_undefined;
        if is_undefined && left.member.is_none() {
            return None;
        }
        let relation = match operator {
            "==" if is_null => left.absence(),
            "!=" if is_null => left.presence(),
            "not in" if right.is_text() => {
                let text = format!("!{}.contains({})", right.text, left.text);
                Rewritten::new(text, UNARY)
            }
            "not in" => {
                let (left, right) = (left.at(level), right.at(level + 1));
                Rewritten::new(format!("!({left} in {right})"), UNARY)
            }
            _ => {
                let (left, right) = (left.at(level), right.at(level + 1));
                Rewritten::new(format!("{left} {operator} {right}"), level)
            }
        };
        Some(match level {
            RELATION => self.guarded(relation),
            _ => relation,
        })
    }

    /// Rewrites the rest of `yes if condition else no`.
    fn choice(&mut self, yes: Rewritten) -> Option<Rewritten> {
        let condition = self.expression(OR)?.at(OR);
        let yes = yes.at(OR);
        let otherwise = self.skip("else").then(|| self.expression(CHOICE))??;
        let text = format!("{condition} ? {yes} : {}", otherwise.text);
        Some(Rewritten::new(text, CHOICE))
    }

    /// Returns the next token in CEL and its level, if it is an operator.
    fn operator(&self) -> Option<(&'t str, u8)> {
        Some(match self.peek() {
            "if" => ("if", CHOICE),
            "or" | "||" | "|" => ("||", OR),
            "and" | "&&" | "&" => ("&&", AND),
            "=" | "===" => ("==", RELATION),
            "<>" | "!==" => ("!=", RELATION),
            same @ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") => (same, RELATION),
            "not" if self.at(self.place + 1) == "in" => ("not in", RELATION),
            "~" => ("+", SUM),
            same @ ("+" | "-") => (same, SUM),
            "//" => ("/", PRODUCT),
            same @ ("*" | "/" | "%") => (same, PRODUCT),
            _ => return None,
        })
    }

    /// Rewrites an operand. Each level of nesting passes through this function.
    fn unary(&mut self) -> Option<Rewritten> {
        self.depth += 1;
        let operand = (self.depth <= DEEPEST).then(|| self.operand())?;
        self.depth -= 1;
        operand
    }

    fn operand(&mut self) -> Option<Rewritten> {
        if self.skip("not") {
            self.note_former(self.place - 1);
            // Unlike `!`, `not` takes a whole comparison.
            let operand = self.expression(RELATION)?;
            return Some(Rewritten::new(format!("!{}", operand.at(VALUE)), UNARY));
        }
        if let sign @ ("!" | "-") = self.peek() {
            self.next();
            let operand = self.unary()?.at(UNARY);
            return Some(Rewritten::new(format!("{sign}{operand}"), UNARY));
        }
        let mut value = self.primary()?;
        loop {
            value = match self.peek() {
                "." => self.after_dot(value)?,
                "?." | ".?" => {
                    self.note_former(self.place);
                    let value = self.after_dot(value)?;
                    self.guards.push(value.presence().at(VALUE));
                    value
                }
                "[" => self.after_bracket(value)?,
                "|" if FILTERS.contains(&self.at(self.place + 1)) => self.filter(value)?,
                "is" => self.test(value)?,
                _ => return Some(value),
            };
        }
    }

    fn primary(&mut self) -> Option<Rewritten> {
        match self.next() {
            "(" => self.in_brackets(")"),
            "[" => self.in_brackets("]"),
            // A placeholder of a template.
            "{" => {
                self.note_former(self.place - 1);
                let value = self.expression(CHOICE)?;
                self.skip("}").then_some(value)
            }
            text if foreign_text(text).is_some() => {
                self.note_former(self.place - 1);
                let content = foreign_text(text)?;
                let content = content.replace('\\', "\\\\").replace('\'', "\\'");
                Some(Rewritten::new(format!("'{content}'"), VALUE))
            }
            name if is_value(name) => {
                let value = Rewritten::new(self.word(name), VALUE);
                match self.peek() {
                    // A call, which only CEL has.
                    "(" => {
                        self.next();
                        let arguments = self.list(")")?.join(", ");
                        Some(Rewritten::new(format!("{name}({arguments})"), VALUE))
                    }
                    _ => Some(value),
                }
            }
            _ => None,
        }
    }

    /// Returns the token before `place`, a value, in CEL.
    fn word(&mut self, name: &'t str) -> &'t str {
        if name == UNDEFINED {
            self.note_former(self.place - 1);
        }
        match constant(name) {
            Some(constant) if self.peek() != "(" => {
                self.note_former(self.place - 1);
                constant
            }
            _ => name,
        }
    }

    /// Rewrites what is in brackets: a group, or a list, which was also written in parentheses.
    fn in_brackets(&mut self, end: &str) -> Option<Rewritten> {
        let start = self.place.saturating_sub(1);
        let is_list_after_in = start > 0 && self.at(start - 1) == "in";
        let items = self.list(end)?;
        let is_list = is_list_after_in && !items.first().is_some_and(|item| item.starts_with('['));
        if end == "]" || items.len() != 1 || is_list {
            if end == ")" {
                self.note_former(start);
            }
            return Some(Rewritten::new(format!("[{}]", items.join(", ")), VALUE));
        }
        Some(Rewritten::new(format!("({})", items[0]), VALUE))
    }

    /// Rewrites expressions with commas between them, up to `end`.
    fn list(&mut self, end: &str) -> Option<Vec<String>> {
        let mut items = Vec::new();
        while !self.skip(end) {
            items.push(self.expression(CHOICE)?.text);
            if !self.skip(",") && self.peek() != end {
                return None;
            }
        }
        Some(items)
    }

    fn after_dot(&mut self, of: Rewritten) -> Option<Rewritten> {
        self.next();
        let name = self.next();
        let of = of.at(VALUE);
        if !name.starts_with(|first: char| first.is_alphabetic() || first == '_') {
            return None;
        }
        if RESERVED.contains(&name) {
            self.note_former(self.place - 1);
            let key = format!("'{name}'");
            return Some(Rewritten {
                member: Some((of.clone(), Ok(key.clone()))),
                ..Rewritten::new(format!("{of}[{key}]"), VALUE)
            });
        }
        if self.skip("(") {
            let arguments = self.list(")")?.join(", ");
            return Some(Rewritten::new(format!("{of}.{name}({arguments})"), VALUE));
        }
        Some(Rewritten {
            member: Some((of.clone(), Err(name.to_owned()))),
            ..Rewritten::new(format!("{of}.{name}"), VALUE)
        })
    }

    fn after_bracket(&mut self, of: Rewritten) -> Option<Rewritten> {
        self.next();
        let key = self.expression(CHOICE)?.text;
        let of = of.at(VALUE);
        self.skip("]").then(|| Rewritten {
            member: Some((of.clone(), Ok(key.clone()))),
            ..Rewritten::new(format!("{of}[{key}]"), VALUE)
        })
    }

    /// Rewrites a filter, such as `|int`.
    fn filter(&mut self, value: Rewritten) -> Option<Rewritten> {
        self.next();
        self.note_former(self.place - 1);
        let name = self.next();
        let mut arguments = match self.skip("(") {
            true => self.list(")")?,
            false => Vec::new(),
        };
        let presence = value.presence().at(OR);
        let text = value.at(VALUE);
        Some(match (name, arguments.pop()) {
            ("int", None) => Rewritten::new(format!("int({text})"), VALUE),
            ("float", None) => Rewritten::new(format!("double({text})"), VALUE),
            ("length", None) => Rewritten::new(format!("size({text})"), VALUE),
            ("lower", None) => Rewritten::new(format!("{text}.lowerAscii()"), VALUE),
            ("upper", None) => Rewritten::new(format!("{text}.upperAscii()"), VALUE),
            ("default", Some(other)) => {
                Rewritten::new(format!("({presence} ? {text} : {other})"), VALUE)
            }
            _ => return None,
        })
    }

    /// Rewrites a test, such as `is not defined`.
    fn test(&mut self, value: Rewritten) -> Option<Rewritten> {
        self.next();
        self.note_former(self.place - 1);
        let is_negated = self.skip("not");
        let name = self.next();
        let argument = match name {
            "startingwith" | "endingwith" | "in" => Some(self.unary()?),
            _ => None,
        };
        let (presence, absence) = (value.presence(), value.absence());
        let is_text = value.is_text();
        let text = value.at(VALUE);
        let of_type = |name: &str| format!("type({text}) == {name}");
        // A group that `primary` has rewritten keeps its parentheses.
        let argument = argument.map(|one| one.text).unwrap_or_default();
        let argument = argument.trim_start_matches('(').trim_end_matches(')');
        let tested = match name {
            "defined" => presence,
            "undefined" => absence,
            "none" if is_text => match is_negated {
                true => return Some(presence),
                false => absence,
            },
            "none" => Rewritten::new(format!("{text} == null"), RELATION),
            "string" => Rewritten::new(of_type("string"), RELATION),
            "boolean" => Rewritten::new(of_type("bool"), RELATION),
            "number" => Rewritten::new(format!("type({text}) in [int, uint, double]"), RELATION),
            "startingwith" => Rewritten::new(format!("{text}.startsWith({argument})"), VALUE),
            "endingwith" => Rewritten::new(format!("{text}.endsWith({argument})"), VALUE),
            "in" => Rewritten::new(format!("{text} in {argument}"), RELATION),
            _ => return None,
        };
        Some(match is_negated {
            true => Rewritten::new(format!("!{}", tested.at(VALUE)), UNARY),
            false => tested,
        })
    }
}

/// The filters of the former language. Before another word, `|` is an operator.
const FILTERS: [&str; 6] = ["default", "float", "int", "length", "lower", "upper"];
