use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::provider::{OauthGrant, ProviderAnswer};

/// A provider that says the same to everybody, and what it was asked.
async fn saying(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    #[expect(clippy::disallowed_methods, reason = "a provider on the loopback")]
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let list = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut whole = Vec::new();
            let mut part = [0; 4096];
            loop {
                let read = stream.read(&mut part).await.unwrap_or(0);
                whole.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&whole).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if read == 0 || body.len() >= length.unwrap_or(0) {
                    list.lock().unwrap().push(text);
                    break;
                }
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked)
}

fn manifest(dialect: Dialect, base: &str) -> (ProviderManifest, At) {
    let mut manifest = ProviderManifest::parse(b"{}").unwrap();
    manifest.dialect = dialect;
    manifest.username = "user".to_owned();
    manifest.password = "the-password".to_owned();
    (manifest, At { base_url: base.to_owned(), sso_url: String::new(), post: false })
}

fn wanted() -> Provision {
    Provision {
        plan: "free".to_owned(),
        options: [("size".to_owned(), "1".to_owned())].into(),
        app: "shop".to_owned(),
        uuid: "11111111-2222".to_owned(),
        region: "eu".to_owned(),
        callback_url: Some("http://127.0.0.1:1/callback".to_owned()),
        oauth_grant: Some(OauthGrant { code: "code".to_owned(), expires_at: 0 }),
        log_drain_token: None,
    }
}

const MADE: &str = "HTTP/1.1 201 Created\r\nContent-Length: 35\r\n\r\n{\"id\": \"a b/c\", \"config\": {\"A\":\"\"}}";

#[tokio::test]
async fn each_dialect_is_asked_in_its_own_words() {
    let (port, asked) = saying(MADE).await;
    for dialect in Dialect::ALL {
        let (manifest, at) = manifest(dialect, &format!("http://127.0.0.1:{port}/base/"));
        let client = ProviderClient::new(&manifest, &at, false, PROVIDER_DEADLINE).unwrap();
        let made = client.provision(&wanted()).await.unwrap();
        assert_eq!((made.id.as_str(), made.status, made.is_pending()), ("a b/c", 201, false));
        // Any good status says so to Heroku, and only 204 to Scalingo.
        assert_eq!(client.deprovision(&made.id).await.is_ok(), dialect == Dialect::Heroku);
    }
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("POST /base HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Basic dXNlcjp0aGUtcGFzc3dvcmQ=\r\n"));
    assert!(asked[0].contains("accept: application/json\r\n"));
    assert!(
        asked[0].ends_with(r#"{"app_id":"shop","options":{"size":"1"},"plan":"free","uuid":"11111111-2222"}"#),
        "{}",
        asked[0]
    );
    assert!(asked[1].starts_with("DELETE /base/a%20b%2Fc HTTP/1.1\r\n"));
    assert!(asked[2].contains("accept: application/vnd.heroku-addons+json; version=3\r\n"));
    for field in [r#""heroku_id":"shop""#, r#""logplex_token":null"#, r#""expires_at":"1970-01-01T00:00:00Z""#] {
        assert!(asked[2].contains(field), "{}", asked[2]);
    }
}

#[tokio::test]
async fn an_addon_reaches_what_it_is_granted_and_nothing_beside_it() {
    let (port, _) = saying(MADE).await;
    let here = Arc::new(Outbound::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]));
    let nowhere = Arc::new(Outbound::new(Vec::new()));
    let granted: Destination = format!("localhost:{port}").parse().unwrap();
    for (outbound, base, network, code) in [
        (&here, format!("http://localhost:{port}"), vec![granted.clone()], None),
        (&here, format!("http://localhost:{port}"), vec![], Some("provider-not-granted")),
        (&here, "http://localhost:1".to_owned(), vec![granted.clone()], Some("provider-not-granted")),
        // Addresses are no names.
        (&here, format!("http://127.0.0.1:{port}"), vec![granted.clone()], Some("provider-not-granted")),
        (&nowhere, format!("http://localhost:{port}"), vec![granted.clone()], Some("provider-unreachable")),
    ] {
        let (manifest, at) = manifest(Dialect::Scalingo, &base);
        let client = ProviderClient::granted(&manifest, &at, outbound.clone(), network, PROVIDER_DEADLINE).unwrap();
        let made = client.provision(&wanted()).await;
        assert_eq!(made.err().map(|error| error.code()), code, "{base}");
    }
}

#[test]
fn an_id_is_one_segment_or_none() {
    for (text, segment) in [("x", "x"), ("a/../b", "a%2F..%2Fb"), ("ü ?#%", "%C3%BC%20%3F%23%25"), ("...", "...")] {
        assert_eq!(text.parse::<ProviderId>().unwrap().segment(), segment);
    }
    for text in ["", ".", "..", "a\nb", "\u{202e}a", &"x".repeat(256)] {
        assert!(text.parse::<ProviderId>().is_err(), "{text}");
    }
}

#[test]
fn an_answer_is_taken_within_its_limits_or_not_at_all() {
    let answer = |status, body: &str| ProviderAnswer {
        status,
        content_type: String::new(),
        location: None,
        retry_after: None,
        cookies: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        secrets: vec!["the-password".to_owned()],
    };
    assert_eq!(answer(200, r#"{"id":7,"config":null,"more":[1]}"#).resource().unwrap().id.as_str(), "7");
    for (status, body, code) in [
        (200, "", "provider-answer"),
        (200, "[]", "provider-answer"),
        (200, "{}", "provider-id"),
        (200, r#"{"id":{}}"#, "provider-answer"),
        (200, r#"{"id":".."}"#, "provider-id"),
        (200, r#"{"id":"x","config":{"A":1}}"#, "provider-answer"),
        (200, r#"{"id":"x","config":{"A":"1","A":"2"}}"#, "provider-answer"),
        (200, r#"{"id":"x","log_drain_url":"javascript:1"}"#, "provider-answer"),
        (204, r#"{"id":"x"}"#, "provider-status"),
        (302, r#"{"id":"x"}"#, "provider-status"),
    ] {
        assert_eq!(answer(status, body).resource().unwrap_err().code(), code, "{body}");
    }
    let told = answer(422, r#"{"error":"no\u001b[31m the-password"}"#).resource().unwrap_err().to_string();
    assert!(told.ends_with(r"for heroku compatibility): no\u{1b}[31m [redacted]"), "{told}");
    for (status, body, gone) in [
        (204, "", Some(Deprovisioned::Done)),
        (204, "x", None),
        (200, "", None),
        (410, "x", Some(Deprovisioned::Before)),
        (202, "{}", Some(Deprovisioned::Accepted)),
        (500, "", None),
    ] {
        assert_eq!(answer(status, body).gone().ok(), gone, "{status}");
    }
}
