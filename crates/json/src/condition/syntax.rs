//! Parses conditions, and walks over the parsed expressions.

use std::sync::LazyLock;

use cel::{
    Context, Env, IdedExpr, ParseError,
    common::ast::{EntryExpr, Expr, SourceInfo, operators},
};

use super::{ConditionError, operation::Operator};

/// Maximum length of a condition in bytes.
const LONGEST: usize = 1024;

/// Number of opening brackets with which a condition is parsed on the stack of the caller.
const FEW_BRACKETS: usize = 4;

/// Number of signs with which a condition is parsed on the stack of the caller.
const FEW_SIGNS: usize = 32;

/// Size of the stack of the thread that parses the other conditions: enough for brackets only, in a debug build.
const STACK: usize = 64 << 20;

/// Maximum nesting of the operations of a condition, which the parser does not limit.
const DEEPEST: usize = 32;

/// The functions and macros of conditions. The check of types decides which of them a condition may use.
static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| Context::with_env(ENV.clone()));

static ENV: LazyLock<std::sync::Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    env.add_extension(cel::extensions::strings)
        .expect("the names of the extension are free");
    env.into()
});

/// Returns a scope for the variables of one evaluation.
pub(super) fn scope<'v>() -> Context<'static, 'v> {
    let root: &'static Context<'static, 'v> = &ROOT;
    root.new_inner_scope()
}

/// A parsed condition.
pub(super) struct Syntax {
    pub(super) text: Box<str>,
    root: IdedExpr,
    source: SourceInfo,
}

impl Syntax {
    /// Parses `text`.
    ///
    /// # Errors
    /// Returns an error if `text` is too long, too deeply nested or not an expression of the language.
    pub(super) fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            let message = format!("expected at most {LONGEST} bytes, got {}", text.len());
            return Err(ConditionError::new(message, LONGEST + 1));
        }
        if let Some(offset) = comment_after_operand(text) {
            let column = text[..offset].chars().count() + 1;
            let error = ConditionError::new("\"//\" begins a comment", column);
            return Err(error.help("write / to divide, or put the comment on a line of its own"));
        }
        if let Some(offset) = has_of_has(text) {
            let column = text[..offset].chars().count() + 1;
            return Err(ConditionError::new(HAS, column).help(HOW_TO_WRITE_HAS));
        }
        if let Some(offset) = many_signs(text) {
            let message = format!("expected at most {DEEPEST} operations inside each other");
            let error = ConditionError::new(message, text[..offset].chars().count() + 1);
            return Err(error.help("write the sign at most once"));
        }
        let (root, source) = parse_with_room(text).map_err(|error| match error {
            Some(error) => reworded(text, &error),
            None => ConditionError::new("expected an expression", 1),
        })?;
        let syntax = Self {
            text: text.into(),
            root,
            source,
        };
        let depth = depth(syntax.root());
        if depth > DEEPEST {
            let message =
                format!("expected at most {DEEPEST} operations inside each other, got {depth}");
            return Err(syntax
                .error(syntax.root(), message)
                .help("split the condition, or group its operations with parentheses"));
        }
        Ok(syntax)
    }

    /// Returns the whole expression.
    pub(super) fn root(&self) -> &IdedExpr {
        &self.root
    }

    /// Returns an error at the first character of `expression`.
    pub(super) fn error(
        &self,
        expression: &IdedExpr,
        message: impl Into<String>,
    ) -> ConditionError {
        ConditionError::new(message, self.column(expression))
    }

    /// Returns the number of the first character of `expression`, from 1.
    pub(super) fn column(&self, expression: &IdedExpr) -> usize {
        let offset = first(expression, &self.source).unwrap_or_default();
        let before = self.text.get(..offset).unwrap_or_default();
        before.chars().count() + 1
    }
}

/// Returns the offset of the first comment that follows an operand on its line, and may be meant as a division.
fn comment_after_operand(text: &str) -> Option<usize> {
    let code = without_texts(text);
    let mut starts = code.match_indices("//").map(|(offset, _)| offset);
    starts.find(|offset| {
        let before = code[..*offset].trim_end_matches([' ', '\t', '\r']);
        before.ends_with(|one: char| one.is_alphanumeric() || "_)]'\"".contains(one))
    })
}

/// Returns the offset of the first `has` of the result of another one. The parser takes both for one.
fn has_of_has(text: &str) -> Option<usize> {
    let code = without_texts(text);
    let mut calls = code.match_indices("has").map(|(offset, _)| offset);
    let is_part = |one: char| one.is_alphanumeric() || "_.".contains(one);
    calls.find(|offset| {
        let is_name = !code[..*offset].ends_with(is_part);
        let inside = opened(&code[offset + "has".len()..])
            .map(|inside| inside.trim_start_matches(|one: char| one.is_whitespace() || one == '('));
        let inner = inside.and_then(|inside| inside.strip_prefix("has"));
        is_name && inner.and_then(opened).is_some_and(ends_alone)
    })
}

/// Returns the offset of more signs of the same kind than operations may be nested. The parser takes two for none.
fn many_signs(text: &str) -> Option<usize> {
    let code = without_texts(text);
    let is_many = |sign: char| {
        let (mut start, mut count) = (0, 0);
        let last = code.char_indices().find(|(offset, one)| {
            match *one {
                one if one == sign && count == 0 => (start, count) = (*offset, 1),
                one if one == sign => count += 1,
                one if one.is_whitespace() => {}
                _ => count = 0,
            }
            count > DEEPEST
        });
        last.map(|_| start)
    };
    ['!', '-'].into_iter().find_map(is_many)
}

/// Returns the text after a bracket at the start of `code`.
fn opened(code: &str) -> Option<&str> {
    code.trim_start().strip_prefix('(')
}

/// Returns `true` if another bracket is closed directly after the one before `code`.
fn ends_alone(code: &str) -> bool {
    let mut depth = 1;
    let end = code.char_indices().find(|(_, one)| {
        match one {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.is_some_and(|(end, _)| code[end + 1..].trim_start().starts_with(')'))
}

/// Returns `text` with the characters inside of quotes and in comments as spaces, of which each has the length of its
/// character.
fn without_texts(text: &str) -> String {
    let (mut quote, mut is_escaped, mut is_comment) = (None, false, false);
    let mut code = String::with_capacity(text.len());
    for one in text.chars() {
        let is_hidden = match quote {
            _ if is_comment => {
                is_comment = one != '\n';
                is_comment
            }
            Some(end) => {
                quote = Some(end).filter(|end| *end != one || is_escaped);
                is_escaped = one == '\\' && !is_escaped;
                quote.is_some()
            }
            None => {
                // The two slashes of a comment stay.
                is_comment = code.ends_with('/') && one == '/';
                quote = Some(one).filter(|one| "'\"".contains(*one));
                false
            }
        };
        match is_hidden {
            true => code.extend(std::iter::repeat_n(' ', one.len_utf8())),
            false => code.push(one),
        }
    }
    code
}

type Parsed = Result<(IdedExpr, SourceInfo), Option<ParseError>>;

/// Parses `text`, on a thread with a large stack if brackets or signs could be nested deeply: the parser recurses for
/// them before it counts them. Returns its first error.
fn parse_with_room(text: &str) -> Parsed {
    let parse = || {
        let parser = ENV.parser().max_recursion_depth(DEEPEST as u16);
        let parsed = parser.parse_with_source_info(text);
        parsed.map_err(|errors| errors.errors.into_iter().next())
    };
    let few = |signs: &[char], most| text.matches(signs).count() <= most;
    if few(&['(', '[', '{'], FEW_BRACKETS) && few(&['-', '!'], FEW_SIGNS) {
        return parse();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let parsed = thread
            .spawn_scoped(scope, parse)
            .map(|thread| thread.join());
        // Without a thread or after a panic of the parser, the condition is refused.
        parsed.ok().and_then(Result::ok).unwrap_or(Err(None))
    })
}

/// Returns the operands of `expression`. Those of a comprehension are its list and its parts.
pub(super) fn operands(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => entries(map.entries.iter().map(|entry| &entry.expr)),
        Expr::Struct(of) => entries(of.entries.iter().map(|entry| &entry.expr)),
        Expr::Comprehension(of) => vec![
            &of.iter_range,
            &of.accu_init,
            &of.loop_cond,
            &of.loop_step,
            &of.result,
        ],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entries<'e>(entries: impl Iterator<Item = &'e EntryExpr>) -> Vec<&'e IdedExpr> {
    let values = entries.map(|entry| match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    });
    values.flatten().collect()
}

/// Returns the text of a literal without its quotes, or `None` for another expression.
pub(super) fn literal(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(cel::common::ast::LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Returns the value and the name of a member that is read by a literal name: `a.b` and `a['b']`.
pub(super) fn member(expression: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    match &expression.expr {
        Expr::Select(select) => Some((&*select.operand, &*select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => match &call.args[..] {
            [of, name] => Some((of, literal(name)?)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the number of operations of which each is an operand of the one before.
fn depth(expression: &IdedExpr) -> usize {
    let deepest = operands(expression).into_iter().map(depth).max();
    1 + deepest.unwrap_or_default()
}

/// Returns the byte offset of the first character of `expression`. The parser has the offset of its operator or bracket.
fn first(expression: &IdedExpr, source: &SourceInfo) -> Option<usize> {
    let own = source
        .offset_for(expression.id)
        .map(|(start, _)| start as usize);
    let own = match &expression.expr {
        // The parser has replaced a macro, of which only the operand is left.
        Expr::Select(select) if select.test => None,
        Expr::Call(call) if call.target.is_none() && Operator::of(&call.func_name).is_none() => {
            own.map(|bracket| before(bracket, &call.func_name, &source.source))
        }
        _ => own,
    };
    let operands = operands(expression).into_iter();
    operands
        .filter_map(|one| first(one, source))
        .chain(own)
        .min()
}

/// Returns the offset of `name`, which is before the bracket at the offset `bracket` of `text`.
fn before(bracket: usize, name: &str, text: &str) -> usize {
    let head = text.get(..bracket).unwrap_or_default();
    head.trim_end().len().saturating_sub(name.len())
}

/// Message and help for `has` of something else than a member.
const HAS: &str = "has() expects a member of a value";
const HOW_TO_WRITE_HAS: &str =
    "write it as in has(query.page), and has(header['x-a']) as 'x-a' in header";

/// Errors of the parser about what it understands, by a part of their texts: the message and the help in their place.
const UNSUPPORTED: [(&str, &str, &str); 6] = [
    ("has() macro", HAS, HOW_TO_WRITE_HAS),
    (
        "unsupported syntax",
        "optional values (\"?\") are not supported",
        "test for the value first, as in has(query.page) && query.page == '1'",
    ),
    (
        "simple name",
        "expected a name for the item",
        "write it as in list.exists(item, item > 1)",
    ),
    (
        "string literal",
        "invalid escape in a string",
        "after \\u, write the four digits of a whole character; for a backslash, write \\\\",
    ),
    (
        "bytes literal",
        "bytes are not supported",
        "remove the b before the quote",
    ),
    (
        "literal",
        "expected a number within the range of its type",
        "an int has 64 bits",
    ),
];

/// Converts an error of the parser, which lists tokens by their internal names.
fn reworded(text: &str, error: &ParseError) -> ConditionError {
    let (line, column) = error.pos;
    let (line, column) = (usize::try_from(line), usize::try_from(column));
    let lines = text.split_inclusive('\n');
    let before = lines.take(line.unwrap_or(1).saturating_sub(1));
    let before: usize = before.map(|line| line.chars().count()).sum();
    let column = before + column.unwrap_or(1).max(1);
    let rest: String = text.chars().skip(column - 1).collect();
    // Only syntax errors quote the condition, in which anything may be written.
    let is_syntax = error.msg.starts_with("Syntax error");
    let mut unsupported = UNSUPPORTED.iter().filter(|_| !is_syntax);
    if let Some((part, message, help)) = unsupported.find(|(part, ..)| error.msg.contains(part)) {
        let number = rest
            .split(|one: char| !one.is_alphanumeric() && !"+-.".contains(one))
            .next();
        let is_double = number.is_some_and(|number| number.contains(['.', 'e', 'E']));
        let help = match *part == "literal" && is_double {
            true => "a double is less than 1.8e308",
            false => help,
        };
        return ConditionError::new(*message, column).help(help);
    }
    if error.msg.starts_with("Syntax error: OtherError") || error.msg.starts_with("error recovery")
    {
        let message = format!("brackets are nested more than {DEEPEST} deep");
        return ConditionError::new(message, column).help("split the condition");
    }
    if rest.starts_with(['"', '\'']) && error.msg.contains("token recognition error") {
        let inside = || rest.chars().skip(1);
        let is_closed = inside().any(|one| rest.starts_with(one));
        let has_break = inside()
            .take_while(|one| !rest.starts_with(*one))
            .any(|one| one == '\n');
        let (message, help) = match is_closed {
            true if has_break => (
                "a string must not contain a line break",
                "close the string on its line, or write \\n for the line break",
            ),
            true => ("unknown escape in a string", "write \\\\ for a backslash"),
            false => ("a string has no closing quote", "add the quote"),
        };
        return ConditionError::new(message, column).help(help);
    }
    if let Some(number) = unfinished_number(text, column) {
        return number;
    }
    unexpected(token(&rest), column)
}

/// Returns the error for a number that ends with a dot before the unexpected character at `column`.
fn unfinished_number(text: &str, column: usize) -> Option<ConditionError> {
    let before: String = text.chars().take(column - 1).collect();
    let number = before.trim_end().strip_suffix('.')?;
    let start = number.trim_end_matches(|one: char| one.is_ascii_digit());
    let digits = &number[start.len()..];
    if digits.is_empty()
        || start.ends_with(|one: char| one.is_alphanumeric() || "_.]".contains(one))
    {
        return None;
    }
    let error = ConditionError::new(
        format!("expected a digit after \"{digits}.\""),
        start.chars().count() + 1,
    );
    Some(error.help(format!("write {digits}.0")))
}

/// Returns the error for a token that is not expected, or for the end of the condition.
fn unexpected(token: &str, column: usize) -> ConditionError {
    let error = ConditionError::new(format!("unexpected \"{token}\""), column);
    match token {
        "" => ConditionError::new("unexpected end of the condition", column)
            .help("add what is missing after the last operator or bracket"),
        "is" | "|" | "~" => {
            error.help("write the condition in CEL, as in has(query.page) && tier != 'free'")
        }
        "=" => error.help("write == to compare"),
        "&" | "and" | "AND" => error.help("write && for \"and\""),
        "like" | "LIKE" | "contains" | "startsWith" | "endsWith" => error.help(
            "call contains, startsWith or endsWith, as in header['user-agent'].contains('bot')",
        ),
        "or" | "OR" => error.help("write || for \"or\""),
        "not" | "NOT" => error.help("write ! for \"not\""),
        "@" | "$" => error.help("write names without a sign, as in tier or query.page"),
        "`" | "\u{2018}" | "\u{2019}" | "\u{201c}" | "\u{201d}" => {
            error.help("write texts in straight quotes, as in 'free'")
        }
        word if RESERVED.contains(&word) => error.help(
            "the word is reserved; write a name with it in brackets, as in header['x-forwarded-for']",
        ),
        _ => error,
    }
}

/// The words that are not names.
pub(super) const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Returns the first word or character of `text`.
fn token(text: &str) -> &str {
    let is_part = |one: char| one.is_alphanumeric() || one == '_';
    let end = match text.chars().next() {
        Some(one) if !is_part(one) => one.len_utf8(),
        _ => text.find(|one| !is_part(one)).unwrap_or(text.len()),
    };
    &text[..end]
}
