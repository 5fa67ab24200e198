//! Files with thousands of mistakes or of values. Work that grows with the square of their number would take minutes.

use super::{super::tree::Tree, *};

/// Number of equal parts of a file.
const MANY: usize = 3_000;

/// Returns a file with `parts` inside of `file`, in place of `…`.
fn file(file: &str, part: impl Fn(usize) -> String) -> String {
    let parts: String = (0..MANY).map(part).collect();
    format!("version: 1\n{}", file.replace('…', &parts))
}

/// Returns a file with one node, of which `…` is a part.
fn node(with: &str, part: impl Fn(usize) -> String) -> String {
    let start = "downstreams: { a: { endpoints: [{ url: \"http://a\" }] } }\n\
         routes: [{ name: r, match: { path: \"/{id}\" }, plan: { n: { downstream: a, ";
    file(&format!("{start}{with} }} }} }}]\n"), part)
}

/// Returns a file with a plan of many nodes.
fn nodes(part: impl Fn(usize) -> String) -> String {
    let start = "tiers: { free: {} }\ndownstreams: { a: { endpoints: [{ url: \"http://a\" }] } }\n\
         routes:\n  - name: r\n    match: { path: \"/{id}\" }\n    plan:\n";
    file(&format!("{start}…"), |index| {
        format!("      n{index}: {{ downstream: a, {} }}\n", part(index))
    })
}

/// Returns the number of diagnostics of each kind.
fn count(text: &str, code: &str) -> usize {
    let report = read("large.yaml", text);
    let found = report.diagnostics().iter();
    let shown = report.to_string();
    assert!(shown.len() < 200_000, "{} bytes", shown.len());
    found.filter(|one| one.code == code).count()
}

#[test]
fn fault_j7_many_unknown_names_take_linear_time() {
    let unknown = |index: usize| format!("k{index}: 1\n");
    assert_eq!(count(&file("routes: []\n…", unknown), "unknown_key"), MANY);
    let tiers = node("tiers: […], request: { path: / }", |index| {
        format!("t{index}, ")
    });
    assert_eq!(count(&tiers, "unknown_name"), MANY);
    let dependencies = nodes(|index| format!("depends_on: [x{index}], request: {{ path: / }}"));
    assert_eq!(count(&dependencies, "unknown_node"), MANY);
    let policies = "policies: { p: {} }\ndownstreams:\n…routes: []\n";
    let policies = file(policies, |index| {
        format!("  a{index}: {{ endpoints: [{{ url: \"http://a\" }}], policy: q{index} }}\n")
    });
    assert_eq!(count(&policies, "unknown_name"), MANY);
}

#[test]
fn fault_j7_many_placeholders_take_linear_time() {
    let wrong = node("request: { path: \"/…\" }", |_| "{a}".to_owned());
    assert_eq!(count(&wrong, "template"), MANY);
    let unknown = "request: { path: /, query: {…} }";
    let unknown = node(unknown, |index| format!("q{index}: \"{{route.x}}\", "));
    assert_eq!(count(&unknown, "reference"), MANY);
    let valid = "request: { path: /, query: {…} }";
    let valid = node(valid, |index| format!("q{index}: \"{{route.id}}\", "));
    assert_eq!(count(&valid, "template"), 0);
}

#[test]
fn fault_j7_many_nodes_and_steps_take_linear_time() {
    let chain = nodes(|index| {
        let before = index.checked_sub(1).map(|before| format!("n{before}"));
        let before = before.unwrap_or_default();
        format!("required: true, depends_on: [{before}], request: {{ path: / }}")
    });
    assert_eq!(count(&chain, "cycle"), 0);
    let typed = nodes(|index| format!("when: \"query.page == {index}\", request: {{ path: / }}"));
    assert_eq!(count(&typed, "condition"), MANY);
    let steps = node("fallback: […], request: { path: / }", |_| {
        "{ static: 1 }, ".to_owned()
    });
    assert_eq!(count(&steps, "no_effect"), MANY - 1);
    let twice = file("a: 1\n…", |_| "a: 1\n".to_owned());
    assert_eq!(count(&twice, "duplicate"), MANY);
}

#[test]
fn fault_j7_many_colliding_names_take_linear_time() {
    let rename = "request: { path: / }, response: { rename: {…} }";
    let names = node(rename, |index| format!("a{index}: x, "));
    assert_eq!(count(&names, "invalid"), MANY);
    let odd = node(rename, |index| format!("\"a {index}?b\": \"x?y\", "));
    assert_eq!(count(&odd, "invalid"), MANY);
}

#[test]
fn fault_j7_the_values_of_aliases_are_bounded() {
    let level = |level: usize| match level {
        0 => "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned(),
        _ => {
            let aliases = format!("*a{}, ", level - 1).repeat(9);
            format!("a{level}: &a{level} [{aliases}]\n")
        }
    };
    let bomb: String = (0..8).map(level).collect();
    let error = Tree::parse(&bomb).unwrap_err();
    assert_eq!(
        error.message,
        "the file has too many values, with its aliases expanded"
    );
    let fits: String = (0..4).map(level).collect();
    assert!(Tree::parse(&fits).is_ok());
}
