use super::{super::fake::Api, *};

#[test]
fn a_value_that_is_not_there_is_said_with_the_fix() {
    let held = Held::Values([("user".to_owned(), b"a".to_vec())].into());
    let values = Values(
        [
            ((RefKind::Secret, "there".to_owned()), Arc::new(held)),
            ((RefKind::Secret, "gone".to_owned()), Arc::new(Held::Missing)),
            ((RefKind::ConfigMap, "shut".to_owned()), Arc::new(Held::Forbidden("no".into()))),
        ]
        .into(),
    );
    let read =
        |kind, name: &str, key: &str| values.read(kind, "shop", &KeyRef { name: name.to_owned(), key: key.to_owned() });
    assert_eq!(read(RefKind::Secret, "there", "user"), Ok(b"a".to_vec()));
    let missing = read(RefKind::Secret, "there", "password").unwrap_err();
    assert_eq!(missing.reason, reason::SECRET_KEY_MISSING);
    assert!(missing.why.contains("which has only user"), "{}", missing.why);
    let gone = read(RefKind::Secret, "gone", "user").unwrap_err();
    assert_eq!(gone.reason, reason::SECRET_NOT_FOUND);
    assert!(gone.why.contains("namespace shop; create it"), "{}", gone.why);
    assert_eq!(read(RefKind::ConfigMap, "shut", "user").unwrap_err().reason, reason::REFERENCE_UNREADABLE);
}

fn secret(password: &str) -> serde_json::Value {
    let password = data_encoding::BASE64.encode(password.as_bytes());
    serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth"}, "data": {"password": password}})
}

/// One that names the Secret `auth`.
fn spec() -> RedisExpiryListenerSpec {
    serde_json::from_value(serde_json::json!({
        "redis": {"addresses": ["redis:6379"], "passwordSecretRef": {"name": "auth", "key": "password"}},
        "keyPattern": "k*",
        "webhook": {"url": "http://127.0.0.1:9/"},
    }))
    .unwrap()
}

struct Shop {
    api: Api,
    references: References,
    orders: ListenerId,
}

impl Shop {
    async fn open() -> Self {
        let api = Api::start().await;
        let references = References::new(api.client.clone());
        Self { api, references, orders: ListenerId::new("shop", "orders") }
    }

    /// What is read of the password, where the API server is asked and answers with `answer` after `meanwhile`.
    async fn asked(&mut self, answer: Option<&str>, meanwhile: impl FnOnce(&References)) -> Option<Vec<u8>> {
        let spec = spec();
        let answering = async {
            let asked = self.api.next().await;
            assert_eq!(asked.what, "GET /api/v1/namespaces/shop/secrets/auth");
            meanwhile(&self.references);
            let missing = serde_json::json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
            asked.answer(if answer.is_some() { 200 } else { 404 }, answer.map_or(missing, secret));
        };
        let reading = self.references.read(&self.orders, &spec);
        let (values, ()) = tokio::join!(reading, answering);
        password(&values.unwrap())
    }

    /// What is read of it without a question.
    async fn known(&mut self) -> Option<Vec<u8>> {
        let values = self.references.read(&self.orders, &spec()).await.unwrap();
        assert_eq!(self.api.waiting(), None);
        password(&values)
    }
}

fn password(values: &Values) -> Option<Vec<u8>> {
    values.read(RefKind::Secret, "shop", &KeyRef { name: "auth".into(), key: "password".into() }).ok()
}

#[tokio::test]
async fn what_is_heard_of_while_it_is_read_is_read_once_more() {
    let mut shop = Shop::open().await;
    let old = shop.asked(Some("old"), |references| {
        let users = references.changed(RefKind::Secret, "shop", "auth");
        assert_eq!(users, [ListenerId::new("shop", "orders")]);
    });
    assert_eq!(old.await.unwrap(), b"old");
    // The one whose reconciliation that brings about sees the new value, and so does everybody after it.
    assert_eq!(shop.asked(Some("new"), |_| {}).await.unwrap(), b"new");
    assert_eq!(shop.known().await.unwrap(), b"new");
    shop.references.changed(RefKind::Secret, "shop", "another");
    shop.references.changed(RefKind::ConfigMap, "shop", "auth");
    assert_eq!(shop.known().await.unwrap(), b"new", "that was not heard of");
}

#[tokio::test]
async fn what_a_list_does_not_have_is_gone_and_what_nothing_is_heard_of_is_read_each_time() {
    let mut shop = Shop::open().await;
    assert_eq!(shop.asked(Some("x"), |_| {}).await.unwrap(), b"x");
    let listed = |names: &[&str]| names.iter().map(|name| ("shop".to_owned(), (*name).to_owned())).collect();
    let secrets = RefKind::Secret;
    assert!(shop.references.listed(secrets, None, &listed(&["auth", "other"])).is_empty());
    assert!(shop.references.listed(RefKind::ConfigMap, None, &listed(&[])).is_empty());
    assert!(shop.references.listed(secrets, Some("elsewhere"), &listed(&[])).is_empty());
    assert_eq!(shop.known().await.unwrap(), b"x");
    let users: Vec<_> = shop.references.listed(secrets, None, &listed(&["other"])).into_iter().collect();
    assert_eq!(users, [ListenerId::new("shop", "orders")]);
    assert_eq!(shop.asked(None, |_| {}).await, None);
    assert_eq!(shop.known().await, None, "that it is missing is known too");
    shop.references.doubt(secrets, Some("shop"));
    assert_eq!(shop.asked(Some("y"), |references| references.doubt(secrets, None)).await.unwrap(), b"y");
    assert_eq!(shop.asked(Some("z"), |_| {}).await.unwrap(), b"z");
}
