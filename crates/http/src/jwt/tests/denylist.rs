//! Fault A43: revoked tokens.

use super::*;

fn with_list(list: &DenyList, require_jti: bool) -> Verifier {
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let rules = rules().deny_list(list.clone()).require_jti(require_jti);
    Verifier::new(keys, rules).unwrap().clock(clock)
}

#[tokio::test]
async fn fault_a43_refuses_a_revoked_token() {
    let list = DenyList::default();
    let verifier = with_list(&list, false);
    let judged = |id: Value| verifier.verify(&token(&claims(json!({"jti": id})))).err();
    assert_eq!(judged(json!("t-1")), None);
    list.revoke("t-1", clock()).unwrap();
    assert_eq!(judged(json!("t-1")), Some(Reason::Revoked));
    assert_eq!(judged(json!("t-2")), None);
    assert_eq!(
        judged(json!(null)),
        None,
        "a token without `jti` is not in the list"
    );
    assert_eq!(judged(json!(["t-1"])), Some(Reason::Claims));
    let response = answer_to(layer_of(verifier), &token(&claims(json!({"jti": "t-1"})))).await;
    assert_eq!(outcomes(), [Outcome::Rejected(Reason::Revoked)]);
    assert_eq!(response.status(), 401);
    assert_eq!(
        challenge(&response),
        "Bearer realm=\"fanout\", error=\"invalid_token\""
    );
}

#[test]
fn fault_a43_can_require_a_jti() {
    let verifier = with_list(&DenyList::default(), true);
    let judged = |changes: Value| verifier.verify(&token(&claims(changes))).err();
    assert_eq!(judged(json!({})), Some(Reason::Claims));
    assert_eq!(judged(json!({"jti": "t-1"})), None);
}

#[test]
fn keeps_an_id_until_its_token_has_expired_by_any_clock() {
    let list = DenyList::default();
    list.revoke("t-1", clock() - Duration::from_secs(300))
        .unwrap();
    assert!(list.contains("t-1", clock()));
    assert!(!list.contains("t-1", clock() + Duration::from_secs(1)));
    list.revoke("t-1", SystemTime::UNIX_EPOCH).unwrap();
    assert!(
        list.contains("t-1", clock()),
        "an earlier time does not undo a revocation"
    );
}

#[test]
fn limits_its_size_and_drops_expired_ids() {
    let list = DenyList::new(10);
    let later = SystemTime::now() + Duration::from_secs(3600);
    for id in 0..6 {
        list.revoke(format!("old-{id}"), SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    for id in 0..10 {
        list.revoke(format!("new-{id}"), later).unwrap();
    }
    assert_eq!(list.len(), 10);
    assert!(!list.is_empty());
    assert_eq!(list.revoke("one more", later), Err(DenyListFull));
    assert_eq!(
        list.revoke("new-3", later),
        Ok(()),
        "the id is already listed"
    );
    assert!(!format!("{list:?}").contains("new-3"));
}
