//! Checks that `docs/problems.md` lists all problem codes.
#![allow(missing_docs)]

use tower_fanout_http::problem::{Code, Problem};

#[test]
fn every_code_is_documented() {
    let page = include_str!("../docs/problems.md");
    for code in Code::ALL {
        let name = code.as_str();
        let row = format!(
            "| <a id=\"{name}\"></a>`urn:tower-fanout:problem:{name}` | {} | {} |",
            code.status().as_u16(),
            code.title()
        );
        assert!(page.contains(&row), "docs/problems.md lacks {row}");
        assert!(Problem::new(*code).to_json(None).contains(name));
    }
    assert_eq!(
        page.matches("urn:tower-fanout:problem:").count(),
        Code::ALL.len() + 1
    );
}
