//! Environment variables that override single values, such as `FANOUT_SERVER__LISTEN`.

use indexmap::IndexMap;
use serde_json::Value;
use tower_fanout::nearest_name;

use super::{
    super::{
        diagnostic::{Diagnostic, Position, Severity, Source},
        schema::{self, Place},
        tree::{Kind, Tree},
    },
    Environment,
};

/// The start of the names of variables that override values.
pub(super) const PREFIX: &str = "FANOUT_";

/// Variables that are not overrides: that of the command line, and one that images often have.
const OTHERS: [&str; 2] = ["FANOUT_CONFIG", "FANOUT_VERSION"];

/// The variables that override values.
#[derive(Default)]
pub(in super::super) struct Overrides {
    /// The names of the variables, each with the path of its value.
    pub(in super::super) applied: Vec<(String, String)>,
    /// The sources of the values, one for each variable.
    pub(in super::super) sources: Vec<Source>,
    /// Variables that override nothing, or several values.
    pub(in super::super) diagnostics: Vec<Diagnostic>,
}

/// A value with the name that a variable for it would have.
struct Target<'s> {
    variable: String,
    form: Form,
    steps: Vec<Step>,
    place: Option<Place<'s>>,
}

impl Target<'_> {
    /// Returns the scalar with this text, of a type that the target may have.
    fn scalar(&self, text: &str) -> Value {
        self.place
            .map_or_else(|| text.into(), |place| place.scalar(text))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A text, a number or a boolean, which a variable can override.
    Scalar,
    Map,
    List,
    /// A map that the file does not have, and that has no default.
    Absent,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Item(usize),
}

/// Overrides values of `tree` by the variables of `env`. `source` is the index of the first source that is returned.
pub(in super::super) fn override_values(
    tree: &mut Tree,
    env: &Environment,
    source: usize,
) -> Overrides {
    let mut overrides = Overrides::default();
    let variables = env.with_prefix(PREFIX);
    let variables = variables.filter(|(name, _)| !OTHERS.contains(name) && !is_service_link(name));
    let variables: Vec<_> = variables.collect();
    if variables.is_empty() || tree.members().is_none() {
        return overrides;
    }
    let all = targets(tree, Place::root(schema::of_file()));
    let (targets, others): (Vec<_>, Vec<_>) =
        all.iter().partition(|target| target.form == Form::Scalar);
    for (name, value) in variables {
        let position = Position {
            source: source + overrides.sources.len(),
            ..Position::START
        };
        let upper = name.to_ascii_uppercase();
        let named = targets.iter().filter(|target| target.variable == name);
        let wrong = match named.copied().collect::<Vec<_>>().as_slice() {
            [target] => {
                let value = Tree::of_variable(target.scalar(value), name, position);
                overrides.apply(tree, target, name, value)
            }
            [] => {
                let help = match targets.iter().any(|target| target.variable == upper) {
                    true => Some(format!("write the name in upper case: {upper}")),
                    false => contained(&upper, &targets, &others),
                };
                Some(unknown(name, help, &targets, position))
            }
            several => Some(ambiguous(name, several, position)),
        };
        overrides.diagnostics.extend(wrong);
        overrides.sources.push(Source::variable(name));
    }
    overrides
}

impl Overrides {
    /// Overrides the target by the value of the variable `name`. Returns an error if another variable prevents that.
    fn apply(
        &mut self,
        tree: &mut Tree,
        target: &Target<'_>,
        name: &str,
        value: Tree,
    ) -> Option<Diagnostic> {
        let (path, position) = (path(&target.steps), value.position);
        let mut applied = self.applied.iter();
        if let Some((other, _)) = applied.find(|(_, other)| *other == path) {
            return Some(twice([other, name], &path, position));
        }
        if !set(tree, &target.steps, value) {
            return Some(contrary(name, &path, position));
        }
        self.applied.push((name.to_owned(), path));
        None
    }
}

/// Returns `true` for the variables with addresses of services that Kubernetes sets, if a service is called `fanout`.
fn is_service_link(name: &str) -> bool {
    let is_address = |part| name.contains(part) || name.ends_with("_PORT");
    !name.contains("__")
        && ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"]
            .iter()
            .any(is_address)
}

/// Returns the help for a variable with the name of a map or list, or of a value in a map that the file does not have.
fn contained(name: &str, targets: &[&Target<'_>], others: &[&Target<'_>]) -> Option<String> {
    let inside = |outer: &str| format!("{outer}__");
    let fits = |one: &&&Target<'_>| {
        let is_outer = one.form == Form::Absent && name.starts_with(&inside(&one.variable));
        one.variable == name || is_outer
    };
    let outer = others.iter().find(fits)?;
    let (path, prefix) = (path(&outer.steps), inside(&outer.variable));
    let what = match outer.form {
        Form::Absent => return Some(format!("the file has no {path}; add it there")),
        Form::List => "list",
        _ => "map",
    };
    let mut values = targets.iter().map(|target| &target.variable);
    let cure = match values.find(|value| value.starts_with(&prefix)) {
        Some(value) => format!("name one of its values, such as {value}"),
        None => "set it in the file".to_owned(),
    };
    Some(format!("{path} is a {what}; {cure}"))
}

fn unknown(
    name: &str,
    help: Option<String>,
    targets: &[&Target<'_>],
    position: Position,
) -> Diagnostic {
    let known = targets.iter().map(|target| target.variable.as_str());
    let near = || nearest_name(name, known).map(|near| format!("did you mean \"{near}\"?"));
    let help = help.or_else(near).unwrap_or_else(|| {
        "a name has the keys on the path of the value, joined by \"__\"".to_owned()
    });
    Diagnostic {
        severity: Severity::Warning,
        help: Some(help),
        ..Diagnostic::error(
            "unknown_variable",
            position,
            format!("environment variable {name} overrides no value"),
        )
    }
}

fn ambiguous(name: &str, targets: &[&Target<'_>], position: Position) -> Diagnostic {
    let paths: Vec<_> = targets.iter().map(|target| path(&target.steps)).collect();
    let message = format!(
        "environment variable {name} could override {}",
        paths.join(" or ")
    );
    Diagnostic {
        help: Some("rename one of them in the file, or set the value there".to_owned()),
        ..Diagnostic::error("ambiguous_variable", position, message)
    }
}

fn twice([first, second]: [&str; 2], path: &str, position: Position) -> Diagnostic {
    let message = format!("environment variables {first} and {second} both override {path}");
    Diagnostic {
        help: Some("remove one of the two variables".to_owned()),
        ..Diagnostic::error("ambiguous_variable", position, message)
    }
}

fn contrary(name: &str, path: &str, position: Position) -> Diagnostic {
    let message = format!(
        "environment variable {name} overrides {path}, but another variable overrides the map that has it"
    );
    Diagnostic {
        help: Some("remove one of the two variables".to_owned()),
        ..Diagnostic::error("ambiguous_variable", position, message)
    }
}

/// Returns a path as diagnostics have it.
fn path(steps: &[Step]) -> String {
    let path = steps.iter().fold(String::new(), |path, step| match step {
        Step::Key(key) => format!("{path}.{key}"),
        Step::Item(index) => format!("{path}[{index}]"),
    });
    path.trim_start_matches('.').to_owned()
}

/// Returns the values of the file and the keys that its maps could have. The keys of a map that the file does not have
/// count if it has a default.
fn targets<'s>(tree: &Tree, place: Place<'s>) -> Vec<Target<'s>> {
    let mut found = Vec::new();
    let root = Target {
        variable: PREFIX.trim_end_matches('_').to_owned(),
        form: Form::Map,
        steps: Vec::new(),
        place: Some(place),
    };
    collect(Some(tree), &root, "_", &mut found);
    found
}

/// Adds the targets inside `parent`, whose value is `tree`.
fn collect<'s>(tree: Option<&Tree>, parent: &Target<'s>, joint: &str, found: &mut Vec<Target<'s>>) {
    for (name, step, place, tree) in inside(tree, parent.place) {
        let is_scalar = tree.is_some_and(|tree| matches!(tree.kind, Kind::Scalar(_)));
        let has_keys = tree.is_some() || place.is_some_and(Place::has_default);
        let target = Target {
            variable: format!("{}{joint}{}", parent.variable, in_variable(&name)),
            form: match (tree.map(|tree| &tree.kind), place) {
                (Some(Kind::Scalar(_)), _) => Form::Scalar,
                (Some(Kind::List(_)), _) => Form::List,
                (Some(Kind::Map { .. }), _) => Form::Map,
                (None, Some(place)) if place.accepts_scalars() => Form::Scalar,
                (None, Some(place)) if place.item().is_some() => Form::List,
                (None, Some(place)) if place.has_default() => Form::Map,
                (None, _) => Form::Absent,
            },
            steps: [&parent.steps[..], &[step]].concat(),
            place,
        };
        if !is_scalar && has_keys {
            collect(tree, &target, "__", found);
        }
        found.push(target);
    }
}

/// A value inside another: a name of it, the step to it, its place in the schema, and the value if the file has it.
type Inside<'t, 's> = (String, Step, Option<Place<'s>>, Option<&'t Tree>);

/// Returns the values inside `tree`, and those that it could have. An item of a list has a second name if the list is one
/// of named things, such as routes.
fn inside<'t, 's>(tree: Option<&'t Tree>, place: Option<Place<'s>>) -> Vec<Inside<'t, 's>> {
    if let Some(Kind::List(items)) = tree.map(|tree| &tree.kind) {
        let place = place.and_then(Place::item);
        let items = items.iter().enumerate().flat_map(|(index, item)| {
            let name = item.members().and_then(|members| members.get("name"));
            let name = name.and_then(|(_, name)| name.as_text()).map(str::to_owned);
            let index_as_name = index.to_string();
            let name = name.filter(|name| *name != index_as_name);
            let names = [index_as_name].into_iter().chain(name);
            names.map(move |name| (name, Step::Item(index), place, Some(item)))
        });
        return items.collect();
    }
    let members = tree.and_then(Tree::members);
    let keys = place.map(Place::keys).unwrap_or_default();
    let known = keys.iter().map(|(key, place)| {
        let value = members.and_then(|members| members.get(*key));
        let value = value.map(|(_, value)| value);
        let key = (*key).to_owned();
        (key.clone(), Step::Key(key), Some(*place), value)
    });
    let is_known = |name: &str| keys.iter().any(|(key, _)| *key == name);
    let others = members.into_iter().flatten();
    let others = others.filter(|(name, _)| !is_known(name));
    let others = others.map(|(name, (_, value))| {
        let place = place.and_then(|place| place.member(name));
        (name.clone(), Step::Key(name.clone()), place, Some(value))
    });
    known.chain(others).collect()
}

/// Returns a key as variables have it: in upper case, with `_` for all that is neither a letter nor a digit.
fn in_variable(key: &str) -> String {
    let characters = key.chars().map(|c| match c {
        'a'..='z' => c.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => c,
        _ => '_',
    });
    characters.collect()
}

/// Puts `value` at the end of `steps`, and creates the maps on the way. Returns `false` if another value is on the way.
fn set(tree: &mut Tree, steps: &[Step], value: Tree) -> bool {
    let position = value.position;
    let Some((step, rest)) = steps.split_first() else {
        *tree = value;
        return true;
    };
    let inside = match (&mut tree.kind, step) {
        (Kind::Map { members, .. }, Step::Key(key)) => {
            let empty = || (position, value.with_members(IndexMap::new()));
            let (_, inside) = members.entry(key.clone()).or_insert_with(empty);
            inside
        }
        (Kind::List(items), Step::Item(index)) => &mut items[*index],
        _ => return false,
    };
    set(inside, rest, value)
}
