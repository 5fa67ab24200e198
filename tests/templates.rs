//! Checks the examples of `docs/templates.md`.
#![allow(missing_docs)]

use http::Method;
use serde_json::json;
use tower_fanout_json::{
    Json,
    template::{Found, Lookup, Reference, RequestTemplate, Root},
};

const PAGE: &str = include_str!("../docs/templates.md");

/// The request of the examples.
struct Request(Json);

impl Lookup for Request {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        match (&reference.root, reference.path.first().map(String::as_str)) {
            (Root::Route, Some("id")) => Some(Found::Text("a/7".into())),
            (Root::Query, Some("q")) => Some(Found::Text("x y&z".into())),
            (Root::Tier, _) => Some(Found::Text("pro".into())),
            (Root::Body, _) => self.0.get(&reference.path).map(Found::Json),
            _ => None,
        }
    }
}

fn request() -> Request {
    Request(Json::parse(r#"{"id": 7, "tags": ["a"], "none": null}"#.into()).unwrap())
}

/// Returns what is sent for a template at a place.
fn sent(place: &str, written: &str) -> String {
    let post = |path| RequestTemplate::new(Method::POST, path).unwrap();
    let render = |template: RequestTemplate| template.render(&request()).unwrap();
    match place {
        "the path" => render(post(written)).uri().to_string(),
        "the query" => {
            let sent = render(post("/").query("q", written).unwrap());
            let query = sent.uri().query().unwrap();
            query.strip_prefix("q=").unwrap().to_owned()
        }
        "the body" => {
            let sent = render(post("/").body(&json!(written)).unwrap());
            String::from_utf8(sent.body().to_vec()).unwrap()
        }
        other => panic!("no example is in {other}"),
    }
}

#[test]
fn each_example_is_sent_as_the_page_says() {
    let (_, section) = PAGE.split_once("\n## Values\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.contains("| `"));
    let mut count = 0;
    for row in rows {
        let row = row.replace("\\|", "\u{0}");
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let code = |cell: &str| cell.trim_matches('`').replace('\u{0}', "|");
        let (written, expected) = (code(cells[1]), code(cells[2]));
        assert_eq!(
            sent(cells[0], &written),
            expected,
            "{written} in {}",
            cells[0]
        );
        count += 1;
    }
    assert!(count >= 13);
}
