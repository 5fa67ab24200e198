//! The claims of the tokens that `fanout token` creates.

use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tower_fanout_http::jwt::VerifierConfig;

use crate::{
    claims,
    cli::{Cli, Command},
};

fn created(rules: &VerifierConfig, arguments: &[&str]) -> Result<Value, String> {
    let command = [
        "fanout", "token", "-c", "a.yaml", "--sub", "ada", "--tier", "pro",
    ];
    let Command::Token(args) = Cli::parse_from(command.iter().chain(arguments)).command else {
        unreachable!("the command is token");
    };
    claims(rules, &args, Duration::from_secs(60))
}

fn rules() -> VerifierConfig {
    VerifierConfig::default().issuers(["me"]).audiences(["us"])
}

#[test]
fn a_token_has_the_claims_that_the_rules_and_the_options_name() {
    let plain = json!({ "iss": "me", "aud": "us", "sub": "ada", "exp": 60, "tier": "pro" });
    assert_eq!(created(&rules(), &[]), Ok(plain));
    let nested = rules()
        .tier_claim("https://idp.example/tier".to_owned())
        .roles_claim("realm.roles");
    let options = [
        "--role",
        "reader",
        "--role",
        "writer",
        "--scope",
        "a",
        "--scope",
        "b",
        "--claim",
        "realm.id=7",
        "--claim",
        "sub=bob",
    ];
    let expected = json!({
        "iss": "me",
        "aud": "us",
        "sub": "bob",
        "exp": 60,
        "https://idp.example/tier": "pro",
        "realm": { "roles": ["reader", "writer"], "id": 7 },
        "scope": "a b",
    });
    assert_eq!(created(&nested, &options), Ok(expected));
}

#[test]
fn a_claim_cannot_be_inside_a_text() {
    let error = created(&rules(), &["--claim", "sub.id=7"]).unwrap_err();
    assert_eq!(
        error,
        "cannot set claim \"sub.id\": it is inside a value that is no object"
    );
}
