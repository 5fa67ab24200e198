//! Combinations of claims and rules, compared with a table of expected results that is independent of
//! the code.

use super::*;

/// An optional rule.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    MaxAge,
    Typ,
    Jti,
    DenyList,
    Roles,
    Scopes,
}

use Rule::{DenyList as Deny, Jti, MaxAge, Roles, Scopes, Typ};

const ALL: [Rule; 6] = [MaxAge, Typ, Jti, Deny, Roles, Scopes];

/// The possible reasons, in the order in which the code checks them.
const ORDER: [&str; 10] = [
    "typ", "exp", "nbf", "iat", "iss", "aud", "claims", "revoked", "expired", "scope",
];

/// A changed member of an otherwise valid token, with the expected reason: `always` under all rules,
/// and `with` if its rule is on.
#[derive(Clone, Debug)]
struct Row {
    member: &'static str,
    /// `None` removes the member.
    value: Option<Value>,
    always: Option<&'static str>,
    with: Option<(Rule, &'static str)>,
}

impl Row {
    fn expected(&self, on: &[Rule]) -> Option<&'static str> {
        let with = self.with.filter(|(rule, _)| on.contains(rule));
        self.always.or(with.map(|(_, reason)| reason))
    }
}

/// Values that are invalid for most claims. The rows name the exceptions.
fn unusual_values() -> Vec<Option<Value>> {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!("some text"),
        json!(""),
        json!([]),
        json!([5]),
        json!(["some text"]),
        json!([["reader"]]),
        json!({}),
        json!({"reader": true}),
    ];
    let mut values: Vec<_> = values.into_iter().map(Some).collect();
    values.push(None);
    values
}

fn row(
    member: &'static str,
    value: impl Into<Option<Value>>,
    always: Option<&'static str>,
    with: Option<(Rule, &'static str)>,
) -> Row {
    Row {
        member,
        value: value.into(),
        always,
        with,
    }
}

/// Rows for time claims. Values other than seconds from 1970 to the end of 9999 are invalid.
fn times() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in unusual_values() {
        let absent = value.is_none();
        let optional = (!absent).then_some("nbf");
        rows.push(row("exp", value.clone(), Some("exp"), None));
        rows.push(row("nbf", value.clone(), optional, None));
        let always = (!absent).then_some("iat");
        rows.push(row("iat", value, always, Some((MaxAge, "iat"))));
    }
    for (exp, reason) in [
        (json!(0), Some("expired")),
        (json!(5), Some("expired")),
        (json!(NOW - 3_600), Some("expired")),
        (json!(NOW - 31), Some("expired")),
        (json!(NOW - 30), None),
        (json!(NOW - 29), None),
        (json!(NOW), None),
        (json!(NOW as f64 + 0.5), None),
        (json!(NOW as f64 - 30.5), Some("expired")),
        (json!(253_402_300_799_u64), None),
        (json!(253_402_300_800_u64), Some("exp")),
        (json!((NOW + 60).to_string()), Some("exp")),
        (json!([NOW + 60]), Some("exp")),
    ] {
        rows.push(row("exp", exp, reason, None));
    }
    for (time, in_future) in [
        (NOW - 1, false),
        (NOW + 29, false),
        (NOW + 30, false),
        (NOW + 31, true),
        (NOW + 3_600, true),
    ] {
        rows.push(row("nbf", json!(time), in_future.then_some("nbf"), None));
        rows.push(row("iat", json!(time), in_future.then_some("iat"), None));
    }
    for (iat, old) in [
        (NOW - 3_629, false),
        (NOW - 3_630, false),
        (NOW - 3_631, true),
        (0, true),
    ] {
        rows.push(row("iat", json!(iat), None, old.then_some((MaxAge, "iat"))));
        rows.push(row("nbf", json!(iat), None, None));
    }
    rows
}

/// Rows for the claims that identify issuer, audience, subject, token, type and tier.
fn names() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in unusual_values() {
        let not_text = value.as_ref().is_some_and(|value| !value.is_string());
        let not_text = not_text.then_some("claims");
        let absent = value.is_none();
        rows.push(row("iss", value.clone(), Some("iss"), None));
        rows.push(row("aud", value.clone(), Some("aud"), None));
        rows.push(row("sub", value.clone(), not_text, None));
        rows.push(row(
            "jti",
            value.clone(),
            not_text,
            absent.then_some((Jti, "claims")),
        ));
        rows.push(row("typ", value.clone(), None, Some((Typ, "typ"))));
        rows.push(row("tier", value, None, None));
    }
    for iss in [
        "https://idp.example/",
        "https://IDP.example",
        " https://idp.example",
        "http://idp.example",
    ] {
        rows.push(row("iss", json!(iss), Some("iss"), None));
        rows.push(row(
            "iss",
            json!(["https://idp.example"]),
            Some("iss"),
            None,
        ));
    }
    for (aud, wrong) in [
        (json!(["orders"]), false),
        (json!(["others", "orders"]), false),
        (json!(["others", "orders", 5]), true),
        (json!(["others"]), true),
        (json!("orders others"), true),
        (json!("Orders"), true),
        (json!({"orders": true}), true),
    ] {
        rows.push(row("aud", aud, wrong.then_some("aud"), None));
    }
    for (typ, wrong) in [
        ("AT+jwt", false),
        ("application/at+jwt", false),
        ("JWT", true),
        ("secevent+jwt", true),
        ("at+jwt ", true),
    ] {
        rows.push(row("typ", json!(typ), None, wrong.then_some((Typ, "typ"))));
    }
    rows.push(row(
        "jti",
        json!("revoked-1"),
        None,
        Some((Deny, "revoked")),
    ));
    rows.push(row("jti", json!("revoked-2"), None, None));
    rows
}

/// Rows for roles and scopes.
fn grants() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in unusual_values() {
        rows.push(row("roles", value.clone(), None, Some((Roles, "scope"))));
        rows.push(row("scope", value, None, Some((Scopes, "scope"))));
    }
    for (roles, lacking) in [
        (json!("reader"), false),
        (json!("writer reader"), false),
        (json!(["writer", "admin"]), false),
        (json!("readers"), true),
        (json!("Reader"), true),
        (json!("reader,admin"), true),
        (json!(["reader", 5]), true),
        (json!(["reader writer"]), true),
    ] {
        rows.push(row(
            "roles",
            roles,
            None,
            lacking.then_some((Roles, "scope")),
        ));
    }
    for (scope, lacking) in [
        (json!("write read"), false),
        (json!("write  read more"), false),
        (json!(["read", "write"]), false),
        (json!("read"), true),
        (json!("write"), true),
        (json!("readwrite"), true),
        (json!(["read", "write", null]), true),
    ] {
        rows.push(row(
            "scope",
            scope,
            None,
            lacking.then_some((Scopes, "scope")),
        ));
    }
    rows
}

/// Returns a token that is valid under all rules, with `rows` applied.
fn with_rows(rows: &[&Row]) -> String {
    let mut members = json!({
        "iss": "https://idp.example", "aud": "orders", "exp": NOW + 60, "nbf": NOW - 60, "iat": NOW,
        "sub": "ada", "jti": "t-1", "typ": "at+jwt", "roles": ["reader"], "scope": "read write",
        "tier": "pro",
    });
    let members = members.as_object_mut().unwrap();
    for row in rows {
        match &row.value {
            None => drop(members.remove(row.member)),
            Some(value) => drop(members.insert(row.member.into(), value.clone())),
        }
    }
    let mut header = json!({"alg": "HS256"});
    if let Some(typ) = members.remove("typ") {
        header["typ"] = typ;
    }
    raw(&header.to_string(), &json!(members).to_string())
}

fn layer(on: &[Rule]) -> JwtLayer {
    let mut rules = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    rules = rules
        .tier_claim("tier".to_owned())
        .tiers(["free", "pro"])
        .default_tier("free")
        .require_jti(on.contains(&Jti));
    if on.contains(&MaxAge) {
        rules = rules.max_age(Duration::from_secs(3_600));
    }
    if on.contains(&Typ) {
        rules = rules.require_typ("at+jwt".to_owned());
    }
    if on.contains(&Deny) {
        let list = super::super::DenyList::default();
        list.revoke("revoked-1", clock()).unwrap();
        rules = rules.deny_list(list);
    }
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let mut config = JwtConfig::default();
    if on.contains(&Roles) {
        config = config.any_role(["reader", "admin"]);
    }
    if on.contains(&Scopes) {
        config = config.all_scopes(["read", "write"]);
    }
    let verifier = Verifier::new(keys, rules).unwrap().clock(clock);
    let layer = JwtLayer::new(verifier, config).unwrap();
    layer.on_outcome(observe)
}

/// Checks a token with the layer and compares the response with the first expected reason of `rows`, in
/// the order of [`ORDER`]. A changed tier yields the default tier.
async fn judge(layer: &JwtLayer, on: &[Rule], rows: &[&Row]) {
    let reasons: Vec<_> = rows.iter().filter_map(|row| row.expected(on)).collect();
    let expected = ORDER.into_iter().find(|reason| reasons.contains(reason));
    let status = match expected {
        None => 200,
        Some("scope") => 403,
        Some(_) => 401,
    };
    let other_tier = rows.iter().any(|row| row.member == "tier");
    let service = layer.layer(service_fn(move |request: Request<()>| async move {
        let claims = request.extensions().get::<Claims>().unwrap();
        assert_eq!(claims.tier(), if other_tier { "free" } else { "pro" });
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let bearer = format!("Bearer {}", with_rows(rows));
    let response = service
        .oneshot(request(&[bearer.as_bytes()]))
        .await
        .unwrap();
    let found = (response.status().as_u16(), outcomes()[0].reason());
    assert_eq!(
        found,
        (status, expected.unwrap_or("none")),
        "{rows:?} with {on:?}"
    );
}

fn all_rows() -> Vec<Row> {
    [times(), names(), grants()].concat()
}

#[tokio::test]
async fn fault_a24_a27_a28_a29_a30_a32_a35_a37_a43_one_claim_under_each_rule() {
    let mut tokens = 0;
    for chosen in 0..1_u32 << ALL.len() {
        let on = (0..).zip(ALL).filter(|(bit, _)| chosen >> bit & 1 == 1);
        let on: Vec<_> = on.map(|(_, rule)| rule).collect();
        let layer = layer(&on);
        judge(&layer, &on, &[]).await;
        for row in &all_rows() {
            judge(&layer, &on, &[row]).await;
            tokens += 1;
        }
    }
    println!("{tokens} tokens with one member changed");
    assert!(tokens >= 400);
}

#[tokio::test]
async fn fault_a24_a27_a28_a29_a30_a32_a35_a43_two_claims_under_all_rules() {
    let (layer, rows, mut tokens) = (layer(&ALL), all_rows(), 0);
    // Every seventh pair still combines all claims and takes about a second.
    for (index, first) in rows.iter().enumerate() {
        for second in rows[index..].iter().step_by(7) {
            if first.member != second.member {
                judge(&layer, &ALL, &[first, second]).await;
                tokens += 1;
            }
        }
    }
    println!("{tokens} tokens with two members changed");
    assert!(tokens >= 400);
}
