//! Random mistakes in valid files: each is refused where it was made, or the file is still valid.

use std::{fs, ops::RangeInclusive};

use fastrand::Rng;
use jsonschema::validator_for;
use serde_json::Value;

use super::{
    super::{
        Config, Extent, Report, Text,
        diagnostic::Severity,
        read,
        tests::corpus_env,
        tree::{Kind, Tree},
    },
    alternatives, json_schema, of_file, resolve,
    tests::assert_agreement,
};

/// Number of mutations. They are the same in each run.
const MUTATIONS: usize = 200;

/// A key of the format in a file, as the position of its text.
struct Key<'t> {
    name: &'t str,
    line: usize,
    column: usize,
    value: &'t Tree,
}

/// A changed file.
struct Mutation {
    text: String,
    /// The lines that are different.
    lines: RangeInclusive<usize>,
    /// The key that was changed or moved.
    key: String,
}

/// Collects the keys of the format in `tree`. Names that the user chose are none.
fn keys<'t>(schema: &Value, tree: &'t Tree, out: &mut Vec<Key<'t>>) {
    let mut schema = resolve(of_file(), schema);
    let expected = match &tree.kind {
        Kind::Map { .. } => "object",
        Kind::List(_) => "array",
        Kind::Scalar(_) => return,
    };
    if let Some(choice) = alternatives(schema) {
        let mut choice = choice.iter().map(|one| resolve(of_file(), one));
        let Some(fitting) = choice.find(|one| one["type"] == expected) else {
            return;
        };
        schema = fitting;
    }
    if let Kind::List(items) = &tree.kind {
        items
            .iter()
            .for_each(|item| keys(&schema["items"], item, out));
    }
    for (name, (position, value)) in tree.members().into_iter().flatten() {
        if let Some(inner) = schema.get("properties").and_then(|keys| keys.get(name)) {
            let (line, column) = (position.line, position.column);
            out.push(Key {
                name,
                line,
                column,
                value,
            });
            keys(inner, value, out);
        } else if let Some(inner) = schema.get("additionalProperties") {
            keys(inner, value, out);
        }
    }
}

/// Replaces `length` bytes of `line` by `new`. Lines and columns are counted from 1.
fn replace(text: &str, line: usize, from: usize, length: usize, new: &str) -> String {
    let lines = text.lines().enumerate().map(|(index, old)| {
        if index + 1 != line {
            return format!("{old}\n");
        }
        let (before, rest) = old.split_at(from - 1);
        format!("{before}{new}{}\n", &rest[length..])
    });
    lines.collect()
}

fn misspell(rng: &mut Rng, text: &str, key: &Key<'_>) -> Option<Mutation> {
    let mut name: Vec<char> = key.name.chars().collect();
    let (at, last) = (rng.usize(..name.len()), name.len() - 1);
    match rng.u8(..3) {
        0 => name.insert(at, name[at]),
        1 => drop(name.remove(at)),
        _ => name.swap(at, last),
    }
    let name: String = name.into_iter().collect();
    let is_plain = text.lines().nth(key.line - 1)?[key.column - 1..].starts_with(key.name);
    (is_plain && !name.is_empty() && name != key.name).then(|| Mutation {
        text: replace(text, key.line, key.column, key.name.len(), &name),
        lines: key.line..=key.line,
        key: key.name.to_owned(),
    })
}

/// Replaces a scalar that is on the line of its key by one of `values`.
fn replace_scalar(rng: &mut Rng, text: &str, key: &Key<'_>, values: &[&str]) -> Option<Mutation> {
    let at = key.value.position;
    let rest = &text.lines().nth(at.line - 1)?[at.column - 1..];
    let length = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].find(quote)? + 2,
        _ => rest.find([',', '}', ']', '#']).unwrap_or(rest.len()),
    };
    let is_scalar = matches!(key.value.kind, Kind::Scalar(_));
    (is_scalar && at.line == key.line).then(|| Mutation {
        text: replace(
            text,
            at.line,
            at.column,
            length,
            &format!("{} ", rng.choice(values).unwrap()),
        ),
        lines: at.line..=at.line,
        key: key.name.to_owned(),
    })
}

fn change_type(rng: &mut Rng, text: &str, key: &Key<'_>) -> Option<Mutation> {
    let values = [
        "[]", "[1]", "{}", "{ a: 1 }", "17", "0.5", "true", "~", "word", "\"\"",
    ];
    replace_scalar(rng, text, key, &values)
}

fn pass_bound(rng: &mut Rng, text: &str, key: &Key<'_>) -> Option<Mutation> {
    let Kind::Scalar(value) = &key.value.kind else {
        return None;
    };
    match value {
        Value::Number(_) => {
            replace_scalar(rng, text, key, &["-1", "0", "1.5", "4294967296", "1e300"])
        }
        Value::String(text_value)
            if text_value.starts_with(|first: char| first.is_ascii_digit()) =>
        {
            let values = [
                "0s",
                "1ns",
                "9999999h",
                "0B",
                "1B",
                "9999GiB",
                "-5s",
                "99999999999999999999s",
            ];
            replace_scalar(rng, text, key, &values)
        }
        _ => None,
    }
}

/// Moves a key that begins a line, with the lines of its value, in front of another such key.
fn move_block(rng: &mut Rng, text: &str, key: &Key<'_>, keys: &[Key<'_>]) -> Option<Mutation> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let begins = |key: &Key<'_>| indent(lines[key.line - 1]) == key.column - 1;
    let first = key.line - 1;
    let inner = lines[key.line..].iter();
    let inner = inner.take_while(|line| line.trim().is_empty() || indent(line) >= key.column);
    let block = first..key.line + inner.count();
    let targets: Vec<_> = keys
        .iter()
        .filter(|key| begins(key) && !block.contains(&(key.line - 1)))
        .collect();
    let target = rng.choice(&targets).filter(|_| begins(key))?;
    let moved = lines[block.clone()].iter().map(|line| {
        let deeper = indent(line).saturating_sub(key.column - 1);
        format!(
            "{}{}",
            " ".repeat(target.column - 1 + deeper),
            line.trim_start()
        )
    });
    let moved: Vec<String> = moved.collect();
    let rest = |lines: &[&str]| {
        lines
            .iter()
            .map(|&line| line.to_owned())
            .collect::<Vec<_>>()
    };
    let mut new = [rest(&lines[..first]), rest(&lines[block.end..])].concat();
    let removed = if target.line > first { block.len() } else { 0 };
    let start = target.line - 1 - removed;
    new.splice(start..start, moved);
    Some(Mutation {
        text: new.join("\n") + "\n",
        lines: start + 1..=start + block.len(),
        key: key.name.to_owned(),
    })
}

/// The files that are mutated.
fn files() -> Vec<String> {
    let files = fs::read_dir(super::tests::CORPUS).unwrap();
    let mut paths: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
    texts
        .chain([include_str!("../../demo/demo.yaml").to_owned()])
        .collect()
}

/// Returns `true` if an error is at a changed line, and `false` if one elsewhere names the changed key, which contradicts
/// another one or is missing where it was.
///
/// # Panics
/// Panics if no error does.
fn is_reported_there(report: &Report, mutation: &Mutation) -> bool {
    let errors = report.diagnostics().iter();
    let mut errors = errors.filter(|one| one.severity == Severity::Error);
    if errors
        .clone()
        .any(|one| mutation.lines.contains(&one.position.line))
    {
        return true;
    }
    let names = |text: &String| text.contains(&mutation.key);
    assert!(
        errors.any(|one| names(&one.message) || one.help.as_ref().is_some_and(names)),
        "lines {:?} of:\n{}\n{report}",
        mutation.lines,
        mutation.text
    );
    false
}

#[test]
fn fault_j54_reports_a_random_mistake_where_it_was_made() {
    let (mut rng, files, env) = (Rng::with_seed(7), files(), corpus_env());
    let (mut made, mut valid, mut elsewhere) = (0, 0, 0);
    while made < MUTATIONS {
        let text = rng.choice(&files).unwrap();
        let tree = Tree::parse(text).unwrap();
        let mut all = Vec::new();
        keys(of_file(), &tree, &mut all);
        let key = rng.choice(&all).unwrap();
        let mutation = match rng.u8(..4) {
            0 => misspell(&mut rng, text, key),
            1 => change_type(&mut rng, text, key),
            2 => pass_bound(&mut rng, text, key),
            _ => move_block(&mut rng, text, key, &all),
        };
        let Some(mutation) = mutation else {
            continue;
        };
        made += 1;
        match Config::parse("mutated.yaml", &mutation.text, &env) {
            Ok(_) => valid += 1,
            Err(report) if is_reported_there(&report, &mutation) => {}
            Err(_) => elsewhere += 1,
        }
    }
    println!("{made} mutations: {valid} valid, {elsewhere} reported elsewhere");
    assert!(
        valid < made / 3 && elsewhere < made / 10,
        "{valid} valid, {elsewhere} elsewhere"
    );
}

/// Adds the JSON pointers of the values inside `value`, which is at `path`.
fn pointers(value: &Value, path: &str, out: &mut Vec<String>) {
    let inside: Vec<_> = match value {
        Value::Object(members) => {
            let escaped = |name: &String| name.replace('~', "~0").replace('/', "~1");
            let members = members.iter().map(|(name, value)| (escaped(name), value));
            members.collect()
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items
                .map(|(index, item)| (index.to_string(), item))
                .collect()
        }
        _ => return,
    };
    for (step, value) in inside {
        let path = format!("{path}/{step}");
        pointers(value, &path, out);
        out.push(path);
    }
}

/// Inserts a character into `text` that few texts can have.
fn insert_odd(rng: &mut Rng, text: &str) -> String {
    let odd = [' ', '\t', '\n', '\u{7}', '\u{7f}', '\u{85}'];
    let mut characters: Vec<char> = text.chars().collect();
    characters.insert(rng.usize(..=characters.len()), *rng.choice(&odd).unwrap());
    characters.into_iter().collect()
}

/// Escapes the control characters that JSON allows in texts, and YAML does not.
fn escaped(json: &str) -> String {
    let controls = |one: char| {
        one.is_control()
            .then(|| format!("\\u{:04x}", u32::from(one)))
    };
    let text = json
        .chars()
        .map(|one| controls(one).unwrap_or_else(|| one.into()));
    text.collect()
}

/// Replaces the value by a null or a variable, or inserts a character into its text or a name in it.
fn replace_value(rng: &mut Rng, value: &mut Value) {
    match (rng.u8(..4), &mut *value) {
        (0, _) => *value = Value::Null,
        (1, _) => *value = "${MISSING}".into(),
        (_, Value::String(text)) => *text = insert_odd(rng, text),
        (_, Value::Object(members)) if !members.is_empty() => {
            let names: Vec<_> = members.keys().cloned().collect();
            let name = rng.choice(&names).unwrap();
            let value = members.remove(name).unwrap();
            members.insert(insert_odd(rng, name), value);
        }
        _ => *value = insert_odd(rng, "word").into(),
    }
}

#[test]
fn fault_j53_schema_and_check_agree_on_a_random_value() {
    let schema = validator_for(&json_schema()).unwrap();
    let (mut rng, files, env) = (Rng::with_seed(53), files(), corpus_env());
    let extent = Extent {
        strict: false,
        allow_missing_env: true,
    };
    let mut refusals = 0;
    for _ in 0..MUTATIONS {
        let text = rng.choice(&files).unwrap();
        let mut file = Tree::parse(text).unwrap().to_json();
        let mut all = Vec::new();
        pointers(&file, "", &mut all);
        let pointer = rng.choice(&all).unwrap();
        replace_value(&mut rng, file.pointer_mut(pointer).unwrap());
        let text = Text {
            name: pointer.clone(),
            folder: std::path::PathBuf::new(),
            text: escaped(&file.to_string()),
        };
        let mut tree = Tree::parse(&text.text).unwrap();
        tree.interpolate(&env);
        let report = read::config(&[text], &env, extent);
        let report = report.map_or_else(|report| report, |config| config.warnings);
        refusals += assert_agreement(&schema, &file.to_string(), &tree, &report);
    }
    assert!(refusals > MUTATIONS / 3, "{refusals} refusals");
}
