//! The types of values, and the functions that take and return them.

use std::fmt;

/// The type of a value, as far as it is known before a request arrives.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Null,
    /// The type of a type, such as `string`, which `type(x)` returns.
    Name,
    List(Box<Self>),
    /// A map of texts to values of one type.
    Map(Box<Self>),
    /// A type that only the request decides.
    Dyn,
}

impl Type {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Returns `true` if a value of this type may be a boolean.
    pub(super) fn may_be_bool(&self) -> bool {
        matches!(self, Self::Bool | Self::Dyn)
    }

    /// Returns `true` if values of the two types can be equal. Numbers of different types can be.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Map(_), _) | (_, Self::Map(_)) => false,
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(own), Self::List(other)) => own.is_comparable(other),
            _ => self == other || self.is_number() && other.is_number(),
        }
    }

    /// Returns the type of a value that has either type, or `None` if no operation could use it.
    pub(super) fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (own, other) if own == other => Some(own),
            (Self::List(own), Self::List(other)) => {
                own.or(*other).map(|item| Self::List(item.into()))
            }
            (Self::Dyn, _) | (_, Self::Dyn) => Some(Self::Dyn),
            _ => None,
        }
    }
}

/// Writes the name of the type in the language.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::Null => "null",
            Self::Name => "type",
            Self::Dyn => "dyn",
            Self::List(item) => return write!(f, "list({item})"),
            Self::Map(value) => return write!(f, "map(string, {value})"),
        })
    }
}

/// The names of types, for `type(x) == string`.
pub(super) const TYPE_NAMES: [&str; 8] = [
    "bool",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];

/// A type that a function accepts.
#[derive(Clone, Copy)]
enum Accepts {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    List,
}

impl Accepts {
    fn accepts(self, given: &Type) -> bool {
        match (self, given) {
            (_, Type::Dyn) | (Self::List, Type::List(_)) => true,
            (Self::Bool, given) => *given == Type::Bool,
            (Self::Int, given) => *given == Type::Int,
            (Self::Uint, given) => *given == Type::Uint,
            (Self::Double, given) => *given == Type::Double,
            (Self::Text, given) => *given == Type::Text,
            (Self::List, _) => false,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Text => "string",
            Self::List => "list",
        }
    }
}

/// A function of the language.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// `true` for `text.contains('a')`, `false` for `size(text)`.
    pub(super) is_method: bool,
    /// The types that each argument can have. A method takes its value as the first one. An empty list is any type.
    takes: &'static [&'static [Accepts]],
    pub(super) returns: Type,
}

const TEXT: &[Accepts] = &[Accepts::Text];
const SIZED: &[Accepts] = &[Accepts::Text, Accepts::List];
const NUMBER_OR_TEXT: &[Accepts] = &[Accepts::Text, Accepts::Int, Accepts::Uint, Accepts::Double];
const SCALAR: &[Accepts] = &[
    Accepts::Text,
    Accepts::Int,
    Accepts::Uint,
    Accepts::Double,
    Accepts::Bool,
];

/// All functions. `matches` is missing, because it compiles its pattern for each request.
pub(super) static FUNCTIONS: [Function; 13] = [
    function("bool", &[&[Accepts::Text, Accepts::Bool]], Type::Bool),
    function("double", &[NUMBER_OR_TEXT], Type::Double),
    function("int", &[NUMBER_OR_TEXT], Type::Int),
    function("size", &[SIZED], Type::Int),
    function("string", &[SCALAR], Type::Text),
    function("type", &[&[]], Type::Name),
    function("uint", &[NUMBER_OR_TEXT], Type::Uint),
    method("contains", &[TEXT, TEXT], Type::Bool),
    method("endsWith", &[TEXT, TEXT], Type::Bool),
    method("lowerAscii", &[TEXT], Type::Text),
    method("size", &[SIZED], Type::Int),
    method("startsWith", &[TEXT, TEXT], Type::Bool),
    method("upperAscii", &[TEXT], Type::Text),
];

/// The macros, which the parser replaces if their arguments are as in these examples.
pub(super) const MACROS: [(&str, &str); 6] = [
    ("all", "list.all(item, item > 1)"),
    ("exists", "list.exists(item, item > 1)"),
    ("exists_one", "list.exists_one(item, item > 1)"),
    ("filter", "list.filter(item, item > 1)"),
    ("has", "has(query.page)"),
    ("map", "list.map(item, item + 1)"),
];

const fn function(
    name: &'static str,
    takes: &'static [&'static [Accepts]],
    returns: Type,
) -> Function {
    Function {
        name,
        is_method: false,
        takes,
        returns,
    }
}

const fn method(
    name: &'static str,
    takes: &'static [&'static [Accepts]],
    returns: Type,
) -> Function {
    Function {
        name,
        is_method: true,
        takes,
        returns,
    }
}

impl Function {
    /// Returns the index of the first argument with a wrong type. Each argument that is missing or left over counts.
    pub(super) fn mismatch(&self, given: &[Type]) -> Option<usize> {
        let accepts = |(place, given): (usize, &Type)| match self.takes.get(place) {
            Some([]) => true,
            Some(types) => types.iter().any(|one| one.accepts(given)),
            None => false,
        };
        let wrong = given.iter().enumerate().position(|one| !accepts(one));
        wrong.or_else(|| (given.len() < self.takes.len()).then_some(given.len()))
    }

    /// Returns the form of a call, such as `string.contains(string)`.
    pub(super) fn form(&self) -> String {
        let takes = self.takes.iter().map(|types| match types {
            [] => "dyn".to_owned(),
            types => {
                let names: Vec<_> = types.iter().map(|one| one.name()).collect();
                names.join("|")
            }
        });
        let takes: Vec<_> = takes.collect();
        match &takes[..] {
            [first, rest @ ..] if self.is_method => {
                format!("{first}.{}({})", self.name, rest.join(", "))
            }
            all => format!("{}({})", self.name, all.join(", ")),
        }
    }
}
