//! Faults A24 to A37: validation of claims.

use serde::Deserialize;

use super::*;

/// Returns the reason for which `rules` refuse a token with this header and these claims, if any.
fn reason_by(rules: VerifierConfig, header: &str, claims: &Value) -> Option<Reason> {
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let verifier = Verifier::new(keys, rules).unwrap().clock(clock);
    verifier.verify(&raw(header, &claims.to_string())).err()
}

#[tokio::test]
async fn all_invalid_tokens_get_the_same_response() {
    let mut bodies = std::collections::HashSet::new();
    for bad in [
        "x".to_owned(),
        token(&claims(json!({"exp": "1"}))),
        token(&claims(json!({"iss": 5}))),
    ] {
        let response = answer(&[format!("Bearer {bad}").as_bytes()]).await;
        assert_eq!(
            (response.status().as_u16(), challenge(&response)),
            (401, "Bearer realm=\"fanout\", error=\"invalid_token\"")
        );
        bodies.insert(format!("{:?}", response.body()));
    }
    assert_eq!(bodies.len(), 1);
}

/// Each claim is absent, of the wrong type, at its bounds and valid in turn.
#[test]
fn fault_a24_a25_a26_a27_a28_a29_a30_validates_registered_claims() {
    let cases = [
        ("exp", json!(null), Some(Reason::Expiry)),
        ("exp", json!("1800000060"), Some(Reason::Expiry)),
        ("exp", json!(-1), Some(Reason::Expiry)),
        ("exp", json!(1e300), Some(Reason::Expiry)),
        ("exp", json!(u64::MAX), Some(Reason::Expiry)),
        ("exp", json!(true), Some(Reason::Expiry)),
        ("exp", json!(NOW - 31), Some(Reason::Expired)),
        ("exp", json!(NOW - 30), None),
        ("exp", json!(NOW), None),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("nbf", json!(NOW + 31), Some(Reason::NotBefore)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!("1"), Some(Reason::NotBefore)),
        ("iat", json!(NOW + 31), Some(Reason::IssuedAt)),
        ("iat", json!(NOW - 1_000_000), None),
        ("iat", json!([]), Some(Reason::IssuedAt)),
        ("iss", json!(null), Some(Reason::Issuer)),
        ("iss", json!(5), Some(Reason::Issuer)),
        ("iss", json!(["https://idp.example"]), Some(Reason::Issuer)),
        ("iss", json!("https://evil.example"), Some(Reason::Issuer)),
        ("iss", json!("https://idp.example/"), Some(Reason::Issuer)),
        ("aud", json!(null), Some(Reason::Audience)),
        ("aud", json!(5), Some(Reason::Audience)),
        ("aud", json!([]), Some(Reason::Audience)),
        ("aud", json!("other"), Some(Reason::Audience)),
        ("aud", json!(["other", 5, "orders"]), Some(Reason::Audience)),
        ("aud", json!(["other", "orders"]), None),
    ];
    for (name, value, expected) in cases {
        assert_eq!(
            reason(&token(&claims(json!({name: value})))),
            expected,
            "{name}: {value}"
        );
    }
}

#[test]
fn fault_a33_a34_requires_a_small_payload_without_duplicate_names() {
    let good = good().to_string();
    let with = |more: &str| good.replace('}', &format!("{more}}}"));
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        with(&format!(",\"x\":{open}{close}"))
    };
    let many = |more: usize| {
        let more: String = (0..more).map(|index| format!(",\"c{index}\":1")).collect();
        with(&more)
    };
    for bad in [
        "[]",
        "\"x\"",
        "",
        "null",
        "{}{}",
        "\u{feff}{}",
        &with(",\"role\":\"user\",\"role\":\"admin\""),
        &with(",\"role\":\"user\",\"r\\u006fle\":\"admin\""),
        &with(",\"a\":{\"role\":\"user\",\"role\":\"admin\"}"),
        &with(",\"a\":[[{\"b\":{\"role\":1,\"role\":1}}]]"),
        &with(",\"n\":1e400"),
        &nested(33),
        &many(61),
    ] {
        let token = raw("{\"alg\":\"HS256\"}", bad);
        assert_eq!(reason(&token), Some(Reason::Claims), "{bad}");
    }
    for good in [
        nested(32),
        many(60),
        with(",\"a\":{\"b\":1},\"c\":{\"b\":1}"),
    ] {
        assert_eq!(reason(&raw("{\"alg\":\"HS256\"}", &good)), None, "{good}");
    }
}

#[tokio::test]
async fn fault_a35_answers_403_without_an_accepted_role() {
    let layer = layer_with(JwtConfig::default().any_role(["reader", "admin"]));
    for (roles, status) in [
        (json!(null), 403),
        (json!(5), 403),
        (json!({"a": 1}), 403),
        (json!(["reader", 5]), 403),
        (json!([]), 403),
        (json!("writer"), 403),
        (json!(["admin"]), 200),
        (json!("writer reader"), 200),
    ] {
        let token = token(&claims(json!({"roles": roles})));
        let response = answer_to(layer.clone(), &token).await;
        assert_eq!(response.status(), status, "{roles}");
        if status == 403 {
            assert_eq!(
                challenge(&response),
                "Bearer realm=\"fanout\", error=\"insufficient_scope\", scope=\"reader admin\""
            );
            assert_eq!(body(response).await["code"], "insufficient_scope");
        }
    }
}

#[tokio::test]
async fn fault_a35_requires_all_scopes() {
    let config = JwtConfig::default().any_role(["reader"]);
    let layer = layer_with(config.all_scopes(["orders:read", "orders:write", "not \"one"]));
    let whole = ["orders:read", "orders:write", "not \"one"];
    for (changes, status) in [
        (json!({}), 403),
        (json!({"scope": "orders:read orders:write"}), 403),
        (json!({"scope": 5}), 403),
        (json!({"scope": ["orders:read", 5]}), 403),
        (json!({"scope": 5, "scp": whole}), 403),
        (json!({"scope": whole}), 200),
        (json!({"scp": whole}), 200),
    ] {
        let mut claims = claims(changes);
        claims["roles"] = json!(["reader"]);
        let response = answer_to(layer.clone(), &token(&claims)).await;
        assert_eq!(response.status(), status, "{claims}");
        if status == 403 {
            assert_eq!(
                challenge(&response),
                "Bearer realm=\"fanout\", error=\"insufficient_scope\", \
                 scope=\"orders:read orders:write\""
            );
        }
    }
    let realm = JwtConfig::default().realm("a\"\n\\b");
    assert_eq!(
        JwtLayer::new(verifier(), realm).unwrap_err().field(),
        "realm"
    );
    let both = JwtConfig::default().realm("ab").any_role(["reader"]);
    let both = layer_with(both.all_scopes(["a"]));
    let token = token(&claims(json!({"scope": "a"})));
    let response = answer_to(both, &token).await;
    assert_eq!(
        (response.status().as_u16(), challenge(&response)),
        (
            403,
            "Bearer realm=\"ab\", error=\"insufficient_scope\", scope=\"a\""
        )
    );
}

#[tokio::test]
async fn fault_a36_reveals_expiration_only_of_otherwise_valid_tokens() {
    let detail = async |layer: JwtLayer, changes: Value| {
        let response = answer_to(layer, &token(&claims(changes))).await;
        assert_eq!(
            (response.status().as_u16(), challenge(&response)),
            (401, "Bearer realm=\"fanout\", error=\"invalid_token\"")
        );
        let problem = body(response).await;
        assert_eq!(problem["code"], "invalid_token");
        problem.get("detail").cloned()
    };
    let layer = layer_of(verifier());
    let expired = Some(json!("the token has expired"));
    assert_eq!(detail(layer.clone(), json!({"exp": 1})).await, expired);
    assert_eq!(outcomes(), [Outcome::Rejected(Reason::Expired)]);
    for also_wrong in [
        json!({"exp": 1, "aud": "others"}),
        json!({"exp": 1, "iss": "others"}),
        json!({"exp": 1, "nbf": NOW + 60}),
        json!({"exp": 1, "jti": 5}),
        json!({"exp": "1"}),
    ] {
        assert_eq!(detail(layer.clone(), also_wrong).await, None);
    }
    let silent = layer_with(JwtConfig::default().reveal_expired(false));
    assert_eq!(detail(silent.clone(), json!({"exp": 1})).await, None);
    let mut forged = token(&claims(json!({"exp": 1})));
    forged.replace_range(forged.len() - 4.., "AAAA");
    let response = answer_to(layer_of(verifier()), &forged).await;
    assert_eq!(body(response).await.get("detail"), None);
}

#[test]
fn fault_a28_refuses_tokens_older_than_max_age() {
    let aged = |changes: Value| {
        let rules = rules().max_age(Duration::from_secs(3600));
        reason_by(rules, "{\"alg\":\"HS256\"}", &claims(changes))
    };
    assert_eq!(aged(json!({"iat": NOW})), None);
    assert_eq!(aged(json!({"iat": NOW - 3630})), None);
    assert_eq!(aged(json!({"iat": NOW - 3631})), Some(Reason::IssuedAt));
    assert_eq!(aged(json!({})), Some(Reason::IssuedAt));
}

#[test]
fn fault_a31_checks_each_issuer_with_its_own_keys_and_rules() {
    let other: &[u8] = b"the secret of the other issuer, just as long";
    let keys = |secret| KeySet::new([Key::from_secret(Algorithm::HS256, secret).unwrap()]).unwrap();
    let partner = || {
        VerifierConfig::new()
            .issuers(["https://partner.example"])
            .audiences(["partners"])
    };
    let verifier = verifier().or(keys(other), partner()).unwrap();
    let judged = |secret: &[u8], issuer: Value, audience: &str| {
        let claims = claims(json!({"iss": issuer, "aud": audience})).to_string();
        let key = EncodingKey::from_secret(secret);
        let token = raw_with(&key, "{\"alg\":\"HS256\"}", &claims);
        verifier.verify(&token).err()
    };
    let (idp, partner_issuer) = (
        json!("https://idp.example"),
        json!("https://partner.example"),
    );
    assert_eq!(judged(SECRET, idp.clone(), "orders"), None);
    assert_eq!(judged(other, partner_issuer.clone(), "partners"), None);
    assert_eq!(
        judged(other, idp.clone(), "orders"),
        Some(Reason::Signature)
    );
    assert_eq!(
        judged(SECRET, partner_issuer.clone(), "partners"),
        Some(Reason::Signature)
    );
    assert_eq!(
        judged(other, partner_issuer, "orders"),
        Some(Reason::Audience)
    );
    for issuer in [
        json!(null),
        json!(5),
        json!([idp]),
        json!("https://idp.example/"),
        json!("https://third.example"),
    ] {
        assert_eq!(judged(SECRET, issuer, "orders"), Some(Reason::Issuer));
    }
    let array = raw("{\"alg\":\"HS256\"}", "[\"https://idp.example\"]");
    assert_eq!(verifier.verify(&array).unwrap_err(), Reason::Claims);
    assert_eq!(verifier.verify("x").unwrap_err(), Reason::NotThreeParts);
    assert!(verifier.clone().or(keys(other), partner()).is_err());
    assert!(verifier.or(keys(other), rules()).is_err());
}

#[test]
fn fault_a32_requires_the_configured_typ() {
    let typed = |typ: Value| {
        let rules = rules().require_typ("at+jwt".to_owned());
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        reason_by(rules, &header, &good())
    };
    for good in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+Jwt",
    ] {
        assert_eq!(typed(json!(good)), None, "{good}");
    }
    for bad in [
        json!("JWT"),
        json!("secevent+jwt"),
        json!("text/at+jwt"),
        json!(""),
        json!(null),
        json!(["at+jwt"]),
    ] {
        assert_eq!(typed(bad.clone()), Some(Reason::Type), "{bad}");
    }
    let rules = rules().require_typ("application/AT+jwt".to_owned());
    let header = "{\"alg\":\"HS256\"}";
    assert_eq!(
        reason_by(rules.clone(), header, &good()),
        Some(Reason::Type)
    );
    let header = "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}";
    assert_eq!(reason_by(rules, header, &good()), None);
}

#[test]
fn claims_deserialize_into_a_type_of_the_caller() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Mine<'c> {
        sub: &'c str,
        n: u8,
    }
    let claims = verifier().verify(&token(&claims(json!({"n": 7})))).unwrap();
    assert_eq!(
        claims.deserialize::<Mine<'_>>().unwrap(),
        Mine { sub: "ada", n: 7 }
    );
    assert!(claims.deserialize::<[u8; 1]>().is_err());
}

#[test]
fn fault_a37_uses_the_default_for_an_unknown_tier() {
    let tier = |tier: Value| {
        verifier()
            .verify(&token(&claims(json!({"plan": {"tier": tier}}))))
            .unwrap()
            .tier()
            .to_owned()
    };
    assert_eq!(tier(json!("pro")), "pro");
    for other in [json!("gold"), json!(5), json!(["pro"]), json!("")] {
        assert_eq!(tier(other), "free");
    }
}

#[test]
fn fault_a35_a37_finds_claims_with_a_uri_as_name() {
    let rules = rules()
        .roles_claim("https://shop.example/roles")
        .tier_claim("https://shop.example/tier".to_owned())
        .tiers(["pro"])
        .default_tier("free");
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let verifier = Verifier::new(keys, rules).unwrap().clock(clock);
    let named =
        json!({"https://shop.example/roles": ["admin"], "https://shop.example/tier": "pro"});
    let claims = verifier.verify(&token(&claims(named))).unwrap();
    assert_eq!(
        (claims.roles(), claims.tier()),
        (&["admin".to_owned()][..], "pro")
    );
}
