//! A secret where no secret is expected: no report shows it.

use std::{fs, path::Path};

use crate::config::{
    Config, Extent, Report, Text, read,
    tree::{Kind, Tree},
};

use super::{GOLDEN, corpus_env};

const CANARY: &str = "hunter2hunter2";

/// A number that is a secret.
const NUMBER: &str = "8675309867";

/// Values with the canary in place of what no value may show. The last ones are secrets only at keys that can hold a secret.
const PLANTED: [&str; 25] = [
    "'/a?hunter2hunter2'",
    "'/a?b=hunter2hunter2&c#hunter2hunter2'",
    "'http://a/#hunter2hunter2'",
    "'http://a/ hunter2hunter2'",
    "'a hunter2hunter2'",
    "'token=hunter2hunter2'",
    "'authorization: Bearer hunter2hunter2'",
    "'u:hunter2hunter2@host'",
    "'u:hunter2hunter2 @host'",
    "'http://user:hunter2hunter2'",
    "'http://user:hunter2hunter2@host/'",
    "'/{query.a hunter2hunter2}'",
    "'/x{hunter2hunter2|a}'",
    "'/{query.a|hunter2hunter2}'",
    r#"'header["x-key"] == "hunter2hunter2" && query.a == 1'"#,
    r#"'header["x-key"] == "hunter2hunter2" && ('"#,
    r#""header['x-key'] == 'hunter2hunter2""#,
    "\"-----BEGIN A-----\\nhunter2hunter2\"",
    r#""query['hunter2hunter2'] == 1""#,
    r#"'"hunter2hunter2" in header && query.a == 1'"#,
    "'${NO_SUCH-hunter2hunter2}'",
    "'${NO_SUCH:?hunter2hunter2}'",
    "'${NO_SUCH:hunter2hunter2}'",
    CANARY,
    NUMBER,
];

/// Number of values of [`PLANTED`] that are secrets only at some keys.
const PUBLIC: usize = 2;

/// Adds the scalars of `tree`, with `true` for those at keys that can hold a secret.
fn scalars<'t>(tree: &'t Tree, is_secret: bool, all: &mut Vec<(&'t Tree, bool)>) {
    const SECRET: [&str; 5] = ["headers", "query", "static", "secret", "secret_file"];
    match &tree.kind {
        Kind::Scalar(_) => all.push((tree, is_secret)),
        Kind::List(items) => items.iter().for_each(|item| scalars(item, is_secret, all)),
        Kind::Map { members, .. } => {
            for (name, (_, value)) in members {
                scalars(value, is_secret || SECRET.contains(&&**name), all);
            }
        }
    }
}

/// Returns `text` with `planted` in place of a scalar that ends on its line, and with an error on that line.
fn plant(text: &str, tree: &Tree, planted: &str) -> Option<String> {
    let (line, column) = (tree.position.line - 1, tree.position.column - 1);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (before, value) = lines[line].split_at(column);
    let length = match value.chars().next()? {
        '|' | '>' => return None,
        quote @ ('"' | '\'') => value[1..].find(quote)? + 2,
        _ => value.find([',', '}', ']', '#']).unwrap_or(value.len()),
    };
    let before = before.replacen('{', "{ no_key: 1,", 1);
    lines[line] = format!("{before}{planted} {}", &value[length..]);
    Some(lines.join("\n"))
}

/// Returns all outputs about a file.
fn outputs(text: &str) -> String {
    let text = Text {
        name: "file.yaml".to_owned(),
        folder: "".into(),
        text: text.to_owned(),
    };
    let extent = Extent {
        strict: true,
        allow_missing_env: false,
    };
    let read = read::config(&[text], &corpus_env(), extent);
    let report = read.map_or_else(|report| report, |config| config.warnings);
    outputs_of(&report)
}

fn outputs_of(report: &Report) -> String {
    let notes = report.notes() + &report.summary();
    let sarif = report.to_sarif(Path::new("/"));
    format!("{report}{report:?}{}{sarif}{notes}", report.to_json())
}

#[test]
fn fault_i17_shows_no_secret_that_is_planted_in_any_value() {
    let corpus = Path::new(GOLDEN).parent().unwrap().join("corpus");
    let files = fs::read_dir(corpus).unwrap();
    let (mut leaks, mut count) = (Vec::new(), 0);
    for file in files.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap();
        let (tree, mut all) = (Tree::parse(&text).unwrap(), Vec::new());
        scalars(&tree, false, &mut all);
        for (index, (tree, is_secret)) in all.into_iter().enumerate() {
            let forms = PLANTED.len() - if is_secret { 0 } else { PUBLIC };
            // Each form is planted in a part of the values, and each of the last ones in all secrets.
            let forms = PLANTED[..forms].iter().enumerate();
            let is_public = |form| form < PLANTED.len() - PUBLIC;
            let forms = forms.filter(|(form, _)| {
                (form + index) % 10 == 0 || !is_public(*form) && index % 3 == 0
            });
            for planted in forms.filter_map(|(_, form)| plant(&text, tree, form)) {
                let output = outputs(&planted);
                if output.contains(CANARY) || output.contains(NUMBER) {
                    let lines = output
                        .lines()
                        .filter(|line| line.contains(CANARY) || line.contains(NUMBER));
                    leaks.push(lines.take(3).collect::<Vec<_>>().join("\n"));
                }
                count += 1;
            }
        }
    }
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n\n")
    );
    assert!(count > 200, "{count}");
}

/// Returns changes of a line that put the canary where nothing masks it by its key.
fn changes(line: &str) -> Vec<String> {
    let indent = &line[..line.len() - line.trim_start().len()];
    let mut changed = vec![
        format!("{indent}cooki@e: {CANARY}\n{line}"),
        format!("{indent}cooki@e:\n{indent}  {CANARY}\n{line}"),
        format!("{indent}cooki@e: {CANARY}: }}\n{line}"),
        format!("{indent}cooki@e {CANARY}\n{line}"),
        format!("{indent}cooki@e {CANARY}:\n{line}"),
        format!("{indent}{CANARY}\n{line}"),
        format!("{line}, cooki@e: {CANARY}"),
    ];
    for (at, _) in line.match_indices(": ") {
        let (before, value) = line.split_at(at + 2);
        let key = before.trim_end_matches(": ");
        let end = value.find([',', '}', ']']).unwrap_or(value.len());
        let rest = &value[end..];
        changed.extend([
            format!("{key}@e: {CANARY}{rest}"),
            format!("{key} {CANARY}{rest}"),
            format!("{key}: \"http://up/#{CANARY}\"{rest}"),
            format!("{key}: \"http://up/?a={CANARY}\"{rest}"),
            format!("{key}: \"http://{CANARY}@up/\"{rest}"),
            format!("{key}: {{ cooki@e: {CANARY} }}{rest}"),
            format!("{key}: {{ cooki@e {CANARY} }}{rest}"),
            format!("{key}: {{ {CANARY}, a: 1 }}{rest}"),
            format!("{key}: {{ \"a\"{CANARY}: 1 }}{rest}"),
            format!("{key}: \"http://up/# {CANARY}\"{rest}"),
            format!("{key}: \"http://up/a={CANARY}\"{rest}"),
            format!("{key}: \"-----BEGIN A----- {CANARY}\"{rest}"),
        ]);
        // A misspelt key may be meant to be one of a secret.
        let (before, last) = key.split_at(key.len().saturating_sub(1));
        let misspelt = before.ends_with(|one: char| one.is_ascii_lowercase())
            && last.bytes().all(|byte| byte.is_ascii_lowercase());
        changed.extend(misspelt.then(|| format!("{before}: {NUMBER}{rest}")));
        // A name may be shown, also if its key lacks the space.
        changed.extend((!key.ends_with("name")).then(|| format!("{key}:{CANARY}{rest}")));
        // Parts of a filter of logs are quoted, as they are words.
        let is_filter = key.ends_with("level");
        changed.retain(|one| !is_filter || !one.contains("://"));
        if ["url", "secret", "cookie"]
            .iter()
            .any(|name| key.ends_with(name))
        {
            changed.push(format!("{key}: {CANARY}{rest}"));
            changed.push(format!("{key}: \"http://up/{CANARY}#a\"{rest}"));
        }
    }
    changed
}

#[test]
fn fault_i17_shows_no_secret_under_any_broken_key() {
    let corpus = Path::new(GOLDEN).parent().unwrap().join("corpus");
    let files = fs::read_dir(corpus).unwrap();
    let (mut leaks, mut count) = (Vec::new(), 0);
    for file in files.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // The other lines are those of a text of a known key.
        let lines_of_keys = lines.iter().enumerate();
        let lines_of_keys =
            lines_of_keys.filter(|(_, line)| line.contains(": ") || line.ends_with(':'));
        for (index, line) in lines_of_keys {
            // Each change is made in a fifth of the lines.
            let changes = changes(line).into_iter().enumerate();
            for (_, changed) in changes.filter(|(kind, _)| (kind + index) % 7 == 0) {
                let text = [&lines[..index], &[&*changed], &lines[index + 1..]].concat();
                let text = text.join("\n");
                let report = match Config::parse("file.yaml", &text, &corpus_env()) {
                    Ok(config) => config.warnings,
                    Err(report) => report,
                };
                let output = outputs_of(&report);
                if output.contains(CANARY) || output.contains(NUMBER) {
                    leaks.push(format!("{changed}\n{report}"));
                }
                count += 1;
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(count > 1_000, "{count}");
}

/// Returns a file with these parts of a provider, of a plan and of its node.
fn file(key: &str, plan: &str, node: &str) -> String {
    format!(
        "version: 1
auth: {{ jwt: {{ main: {{ algorithms: [ES256], issuers: [me], audiences: [you], keys: [{{ {key} }}] }} }} }}
tiers: {{ free: {{}}, pro: {{}} }}
downstreams: {{ users: {{ endpoints: [{{ url: \"http://users:8080\" }}] }} }}
routes:
  - name: page
    match: {{ path: / }}
    {plan}
    plan: {{ a: {{ downstream: users, {node} }} }}
"
    )
}

#[test]
fn fault_i17_shows_no_secret_in_place_of_a_path_or_a_name() {
    let (key, node) = ("pem_file: a.pem", "request: { path: / }");
    let of_key = |key: String| file(&key, "auth: { jwt: main }", node);
    let of_node = |part: &str| file(key, "auth: { jwt: main }", &format!("{node}, {part}"));
    let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg".to_owned() + CANARY;
    for text in [
        of_key(format!("pem_file: {CANARY}")),
        of_key(format!("pem_file: \"{body}/a+b==\"")),
        of_key(format!("pem_file: \"-----BEGIN A-----{CANARY}.pem\"")),
        of_key(format!(
            "jwks: {{ url: \"https://idp/k\", ca_file: {CANARY} }}"
        )),
        of_key(format!("pemfile: {CANARY}")),
        of_key(format!("secret: \"${{NO_SUCH:?{CANARY}}}\"")),
        of_key(format!("secret: \"${{NO_SUCH-{CANARY}}}\"")),
        of_node(&format!("when: \"query['{CANARY}'] == 1\"")),
        of_node(&format!("when: \"query['{CANARY}']\"")),
        of_node("when: \"query['s3cr3t'] == 1\""),
        of_node(&format!("when: \"route['{CANARY}'] == 'a'\"")),
        of_node(&format!("requird: {NUMBER}")),
        of_node(&format!("requird: {CANARY}")),
        of_node(&format!("reqired: true, requird: {NUMBER}")),
        of_node(&format!("{CANARY}: ")),
        file(key, &format!("deadline: {{ mx: {NUMBER}ms }}"), node),
        file(
            key,
            &format!("deadline: {{ mx: \"${{A:-{CANARY}}}\" }}"),
            node,
        ),
    ] {
        let output = outputs(&text);
        assert!(output.contains("error["), "{text}\n{output}");
        let is_shown = [CANARY, NUMBER, "s3cr3t"]
            .iter()
            .any(|one| output.contains(one));
        assert!(!is_shown, "{text}\n{output}");
    }
}

#[test]
fn fault_i17_shows_no_part_of_a_secret_that_a_message_quotes() {
    let of_node = |part: &str| file("pem_file: a.pem", "auth: { jwt: main }", part);
    let header = |name: &str| of_node(&format!("request: {{ path: /, headers: {{ {name}: x }} }}"));
    let server = |part: &str| format!("version: 1\nserver: {{ {part} }}\n");
    for (text, hidden) in [
        (
            of_node("request: { path: / }, when: \"query.t == 4fd1c0de9a7e3b55f00d\""),
            "d1c0de",
        ),
        (
            of_node("request: { path: / }, when: \"query.t == 'a' && 77correcthorse\""),
            "horse",
        ),
        (
            header("\"authorization: Bearer correct horse\""),
            "correct horse",
        ),
        (
            of_node(
                "request: { method: POST, path: /, body: { '{\"token\": \"velvet quartz\"}': 1 } }",
            ),
            "velvet quartz",
        ),
        (
            server("listen: \"postgres://admin:page@db/x\""),
            "admin:page",
        ),
        (
            server("cors: { origins: [\"https://admin:admin@x.y\"] }"),
            "admin:admin",
        ),
    ] {
        let output = outputs(&text);
        assert!(output.contains("error["), "{text}\n{output}");
        assert!(!output.contains(hidden), "{text}\n{output}");
    }
}

/// Texts that are secrets in another place of the file, and parts of messages.
#[test]
fn fault_i17_shows_a_name_that_is_a_secret_elsewhere() {
    let header = |text: &str| format!("request: {{ path: /, headers: {{ x-a: \"{text}\" }} }}");
    let of = |key: &str, text: &str, part: &str| {
        let output = outputs(&file(key, "", &format!("{}, {part}", header(text))));
        output.replace("\\\"", "\"")
    };
    let key = "pem_file: a.pem";
    for (text, part, shown) in [
        (
            "golden-tier",
            "tiers: [golden-tier]",
            "unknown tier \"golden-tier\"",
        ),
        (
            "golden-tier",
            "when: tier == 'golden-tier'",
            "unknown tier \"golden-tier\"",
        ),
        (
            "usres",
            "fallback: [{ service: usres }]",
            "unknown downstream \"usres\"",
        ),
        ("expected", "priority: [1]", "expected a whole number"),
        ("whole number", "required: 1", "expected true or false"),
        (
            "header",
            "when: \"header['x-plan'] == 1\"",
            "header['x-plan']",
        ),
        ("other-node", "depends_on: [other-node]", "\"other-node\""),
        ("other-node", "other-node: ", "unknown key \"other-node\""),
    ] {
        let output = of(key, text, part);
        assert!(output.contains(shown), "{part}\n{output}");
    }
    let output = of(
        "pem_file: keys/no-such-file.pem",
        "no-such-file",
        "tiers: []",
    );
    assert!(
        output.contains("cannot read \"keys/no-such-file.pem\""),
        "{output}"
    );
    let output = of("secret_file: /run/secrets/jwt", "a", "tiers: []");
    assert!(
        output.contains("cannot read \"/run/secrets/jwt\""),
        "{output}"
    );
    let server = "version: 1\nserver: { listen: \"0.0.0.0:8080 8080\" }\n";
    let output = outputs(server).replace("\\\"", "\"");
    let example = "expected an IP address with a port, such as \"0.0.0.0:8080\", got \"";
    assert!(output.contains(example), "{output}");
}
