//! Addons as Scalingo and Heroku know them: ordered over HTTP, in both dialects, by whoever proves itself, and by nobody else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::{Reply, Serving};
use crate::loopback::head_of;
use crate::support::{Lab, root, until};

const DIALECTS: [&str; 2] = ["scalingo", "heroku"];
const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// An addon that a platform knows.
struct Offered<'a> {
    server: &'a Serving,
    dialect: &'static str,
    root: String,
    known: Value,
}

impl<'a> Offered<'a> {
    fn new(lab: &Lab, server: &'a Serving, addon: &str, dialect: &'static str) -> Offered<'a> {
        let known = lab.json(&["provider", "credentials", addon, "--dialect", dialect]);
        Offered { server, dialect, root: format!("/providers/{addon}/{dialect}"), known }
    }

    fn proof(&self) -> String {
        let text = |key: &str| self.known[key].as_str().unwrap();
        basic(text("username"), text("password"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        let more = format!("{}Content-Type: application/json\r\n", self.proof());
        self.server.ask(method, &format!("{}/resources{path}", self.root), &more, body.to_string().as_bytes())
    }

    fn asks_for(&self, app: &str, uuid: &str, more: &Value) -> Value {
        let mut order = match self.dialect {
            "scalingo" => json!({ "app_id": app, "plan": "small", "options": null, "uuid": uuid }),
            // As kensa asks.
            _ => json!({
                "heroku_id": app, "plan": "small", "callback_url": "http://localhost:7779/callback/999", "uuid": uuid,
                "logplex_token": null, "region": "amazon-web-services::us-east-1", "options": {},
            }),
        };
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    }

    fn order(&self, app: &str, uuid: &str, more: &Value) -> Reply {
        self.ask("POST", "", &self.asks_for(app, uuid, more))
    }

    fn signed(&self, of: &str, at: u64) -> String {
        format!("{:x}", Sha1::digest(format!("{of}:{}:{at}", self.known["sso_salt"].as_str().unwrap())))
    }

    fn sso(&self, query: &str) -> Reply {
        self.server.ask("GET", &format!("{}/sso?{query}", self.root), "", b"")
    }
}

pub fn basic(username: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{username}:{password}")))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `hooks_all` with plans, and a server.
fn with_plans(lab: &Lab, policy: &str) -> Serving {
    lab.policy(policy);
    lab.well_behaved(|manifest| {
        manifest["plans"] = json!([
            { "name": "small", "options": { "size": "1" } },
            { "name": "large" },
            { "name": "full", "options": { "refuse": "1" } },
        ]);
        manifest["provider"] = json!({
            "regions": ["us", "eu"], "short_description": "A probe", "dashboard": "https://probe.example/?a=1&b=2",
        });
    });
    Serving::start(lab)
}

/// Of a reply to a platform: both words say the same.
#[track_caller]
fn says(reply: Reply, status: u16, code: &str) -> String {
    let body = reply.is(status).json();
    assert_eq!((&body["id"], &body["error"]), (&json!(code), &body["message"]), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_order_lives_in_either_dialect() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    for dialect in DIALECTS {
        let offered = Offered::new(&lab, &server, "good/probe", dialect);
        let made = offered.order("app-1@example.com", UUID, &json!({})).is(201).json();
        let id = made["id"].as_str().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_lowercase()), "no digits: {id}");
        // Under the addon's own names, whatever the alias.
        assert_eq!(made["config"]["PROBE_PLAN"], "small", "{made}");
        assert_eq!(made["config"]["PROBE_REGION"], "us", "{made}");
        assert!(made["config"]["PROBE_URL"].as_str().unwrap().ends_with("/small"), "{made}");
        assert!(made["message"].as_str().unwrap().starts_with("made for "), "{made}");
        // The same again is the same; the plan's own options are the plan's.
        let again = offered.order("app-1@example.com", UUID, &json!({ "options": { "size": "1" } })).is(200).json();
        assert_eq!(again, made);
        let other = offered.order("app-1@example.com", "another", &json!({})).is(201).json();
        assert_ne!(other["id"], made["id"]);

        for (method, plan) in [("PUT", "large"), ("PATCH", "small"), ("PATCH", "small")] {
            let moved =
                offered.ask(method, &format!("/{id}"), &json!({ "plan": plan, "options": null })).is(200).json();
            assert_eq!((&moved["config"]["PROBE_PLAN"], &moved["id"]), (&json!(plan), &json!(id)), "{moved}");
        }
        // By the platform's own name, too.
        offered.ask("POST", &format!("/{UUID}/suspend"), &json!({})).is(200);
        offered.ask("POST", &format!("/{id}/suspend"), &json!({})).is(200);
        let held = says(offered.ask("PUT", &format!("/{id}"), &json!({ "plan": "large" })), 422, "resource-state");
        assert_eq!(held, "The resource is suspended.");
        let apps = lab.json(&["apps"]).to_string();
        assert!(apps.contains("suspended"), "{apps}");
        assert_eq!(offered.ask("POST", &format!("/{id}/resume"), &json!({})).is(200).json()["id"], id);

        // A client of Go sends a body without saying what it is.
        let path = format!("{}/resources/{id}", offered.root);
        let gone = server.ask("DELETE", &path, &offered.proof(), b"null").is(204);
        assert_eq!(gone.text(), "");
        says(server.ask("DELETE", &path, &offered.proof(), b"null"), 410, "order-gone");
        says(offered.order("app-1@example.com", UUID, &json!({})), 410, "order-gone");
        says(offered.ask("PUT", &format!("/{id}"), &json!({ "plan": "large" })), 410, "order-gone");
        offered.ask("DELETE", "/another", &json!(null)).is(204);
    }
    let calls = lab.json(&["calls", "good/probe"]).to_string();
    assert!(calls.contains("platform scalingo") && calls.contains("platform heroku"), "{calls}");
    assert_eq!(lab.json(&["apps"]), json!({}));
}

#[test]
fn whoever_does_not_prove_itself_learns_nothing() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    let before = "/providers/good/probe/scalingo/resources";
    // Before credentials were made there are none that count.
    says(server.ask("POST", before, &basic("probe", ""), b"{}"), 401, "bad-credentials");
    let scalingo = Offered::new(&lab, &server, "good/probe", "scalingo");
    let heroku = Offered::new(&lab, &server, "good/probe", "heroku");
    let id = scalingo.order("app", UUID, &json!({})).is(201).json()["id"].as_str().unwrap().to_owned();
    let password = scalingo.known["password"].as_str().unwrap();
    let bearer = server.bearer();
    for more in [
        String::new(),
        basic("wrong", "secret"),
        basic("probe", &password[1..]),
        basic("probe", &password[..password.len() - 1]),
        heroku.proof(),
        bearer,
        format!("{0}{0}", scalingo.proof()),
        "Authorization: Basic %%%\r\n".to_owned(),
    ] {
        for (method, path) in [
            ("POST", before.to_owned()),
            ("PUT", format!("{before}/{id}")),
            ("PUT", format!("{before}/none")),
            ("DELETE", format!("{before}/{id}")),
            ("POST", "/providers/no/such/scalingo/resources".to_owned()),
            ("POST", "/providers/good/probe/klingon/resources".to_owned()),
        ] {
            let reply = server.ask(method, &path, &format!("{more}Content-Type: application/json\r\n"), b"{}");
            assert!([401, 429].contains(&reply.status), "{method} {path} {more}: {reply:?}");
            assert!(reply.status == 429 || reply.head.contains("www-authenticate: basic"), "{reply:?}");
        }
    }
    // Nobody is kept out by others' tries but for a while; nothing was done by any of them.
    let rotated = lab.json(&["provider", "credentials", "good/probe", "--rotate"]);
    assert_ne!(rotated["password"], scalingo.known["password"]);
    assert_eq!(rotated, lab.json(&["provider", "credentials", "good/probe"]));
    let server = Serving::start(&lab);
    let path = format!("{before}/{id}");
    says(server.ask("DELETE", &path, &scalingo.proof(), b""), 401, "bad-credentials");
    let rotated = Offered { server: &server, known: rotated, ..scalingo };
    server.ask("DELETE", &path, &rotated.proof(), b"").is(204);
}

#[test]
fn what_cannot_be_is_said_in_words_for_the_customer() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    for dialect in DIALECTS {
        let offered = Offered::new(&lab, &server, "good/probe", dialect);
        let wrong = |more: &Value| says(offered.order("app", UUID, more), 422, "invalid-order");
        wrong(&json!({ "plan": null }));
        wrong(&json!({ "options": { "note": ["a"] } }));
        wrong(&json!({ "options": { "size": "2" } }));
        assert_eq!(wrong(&json!({ "region": "mars" })), "the order cannot be: there are only the regions us, eu");
        wrong(&json!({ "uuid": "a\u{1b}[31m" }));
        wrong(&json!({ "uuid": "x".repeat(256) }));
        wrong(&json!({ "uuid": "" }));
        says(offered.order("app", UUID, &json!({ "plan": "huge" })), 422, "unknown-plan");
        assert_eq!(
            says(offered.order("app", UUID, &json!({ "options": { "refuse": true } })), 422, "refused"),
            "asked to refuse"
        );
        let crashed = says(offered.order("app", UUID, &json!({ "options": { "panic": 1 } })), 502, "failed");
        assert!(!crashed.contains("panic"), "{crashed}");
        for body in ["", "[]", "{", "{\"plan\": 1}", "null"] {
            let more = format!("{}Content-Type: application/json\r\n", offered.proof());
            let reply = server.ask("POST", &format!("{}/resources", offered.root), &more, body.as_bytes());
            assert!([400, 422].contains(&reply.status), "{body}: {reply:?}");
        }
        let form = format!("{}Content-Type: text/plain\r\n", offered.proof());
        says(server.ask("POST", &format!("{}/resources", offered.root), &form, b"{}"), 415, "media-type");
        // Whatever was declined can be ordered after all, and is for the app that it was ordered for.
        let id = offered.order("app", UUID, &json!({})).is(201).json()["id"].as_str().unwrap().to_owned();
        says(offered.order("app-2", UUID, &json!({})), 422, "order-reused");
        assert_eq!(
            says(offered.ask("PUT", &format!("/{id}"), &json!({})), 422, "invalid-order"),
            "update resource need a plan"
        );
        let full = says(offered.ask("PUT", &format!("/{id}"), &json!({ "plan": "full" })), 422, "refused");
        assert_eq!(full, "too much data for the plan full");
        says(offered.ask("PUT", &format!("/{id}"), &json!({ "plan": "huge" })), 422, "unknown-plan");
        for id in ["none", "..", "%2e%2e", "a%2fb", "a%20b", "1", &"x".repeat(256), "%00"] {
            let reply = offered.ask("DELETE", &format!("/{id}"), &json!(null));
            assert_eq!(reply.status, 404, "{id}: {reply:?}");
        }
        // A path that cannot be read names no addon, either.
        says(offered.ask("DELETE", "/%ff", &json!(null)), 401, "bad-credentials");
        // Another dialect's ids are none here.
        let other = Offered::new(&lab, &server, "good/probe", DIALECTS[usize::from(dialect == "scalingo")]);
        says(other.ask("DELETE", &format!("/{id}"), &json!(null)), 404, "unknown-order");
        offered.ask("DELETE", &format!("/{id}"), &json!(null)).is(204);
    }
    assert_eq!(lab.json(&["apps"]), json!({}));
    lab.lodger(&["disable", "good/probe"]).ok();
    let offered = Offered::new(&lab, &server, "good/probe", "heroku");
    let closed = says(offered.order("app", "later", &json!({})), 503, "not-permitted");
    assert_eq!(closed, "The add-on is not available just now. Please try again later.");
}

#[test]
fn what_was_used_is_told_of_a_period() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    let offered = Offered::new(&lab, &server, "good/probe", "scalingo");
    let id = offered.order("app", UUID, &json!({})).is(201).json()["id"].as_str().unwrap().to_owned();
    let used = |query: &str| offered.ask("GET", &format!("/{id}/usage{query}"), &json!(null));
    let day = "?from=2026-11-21T00:00:00Z&to=2026-11-22T00:00:00Z";
    assert_eq!(used(day).is(200).json(), json!({ "seconds": { "small": 86_400.0 }, "resources": { "small": 1.0 } }));
    assert_eq!(used("").is(200).json()["seconds"]["small"], 30.0 * 86_400.0);
    for wrong in ["?from=yesterday", "?to=2026-13-01T00:00:00Z", "?from=2026-11-22T00:00:00Z&to=2026-11-21T00:00:00Z"] {
        says(used(wrong), 422, "invalid-order");
    }
    let from = |second: u32| used(&format!("?from=1970-01-01T00:00:0{second}Z&to=2026-11-21T00:00:00Z"));
    assert_eq!(says(from(1), 422, "refused"), "there was nothing then");
    // Nonsense is no figure.
    for second in 2..=5 {
        says(from(second), 502, "failed");
    }
    let other = offered.ask("GET", "/none/usage", &json!(null));
    says(other, 404, "unknown-order");
}

#[test]
fn an_order_that_comes_many_times_at_once_is_made_once() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    let offered = Offered::new(&lab, &server, "good/probe", "scalingo");
    let body = offered.asks_for("app", UUID, &json!({ "options": { "sleep_ms": "50" } })).to_string();
    let more = format!("{}Content-Type: application/json\r\n", offered.proof());
    let path = format!("{}/resources", offered.root);
    let sent: Vec<_> = (0..8).map(|_| server.send("POST", &path, &more, body.as_bytes())).collect();
    let replies: Vec<_> = sent.into_iter().map(Reply::read).collect();
    let ids: Vec<Value> = replies.iter().map(|reply| reply.json()["id"].clone()).collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1, "{replies:?}");
    assert_eq!(lab.json(&["info", "good/probe"])["resources"].as_array().unwrap().len(), 1);
}

/// A platform that takes what came later.
fn platform() -> (u16, impl FnOnce() -> (String, Value)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = move || {
        // The first time it does not want to hear of it.
        for answer in ["503 Busy", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            let head = String::from_utf8(head_of(&mut stream)).unwrap();
            let length = head.to_ascii_lowercase();
            let length: usize =
                length.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
            if answer == "200 OK" {
                return (head, serde_json::from_slice(&body).unwrap());
            }
        }
        unreachable!()
    };
    (port, told)
}

#[test]
fn what_takes_long_is_told_later() {
    // The documents of Scalingo have no uuid.
    for (dialect, uuid) in [("scalingo", json!(UUID)), ("scalingo", json!(null)), ("heroku", json!(UUID))] {
        let (port, told) = platform();
        let lab = Lab::new();
        let server = with_plans(
            &lab,
            &format!(
                "[grant]\nnetwork_addresses = [\"127.0.0.0/8\"]\n\
                 [platforms]\nanswer_within_ms = 0\ncallbacks = [\"localhost:{port}\"]\n{}",
                if dialect == "scalingo" {
                    format!("scalingo_api = \"http://localhost:{port}\"\n")
                } else {
                    String::new()
                },
            ),
        );
        let offered = Offered::new(&lab, &server, "good/probe", dialect);
        let callback = json!({ "callback_url": format!("http://localhost:{port}/callback/999"), "uuid": uuid });
        let later = offered.order("app-1@example", UUID, &callback).is(202).json();
        assert!(later.get("config").is_none(), "{later}");
        // A host that dies meanwhile goes on.
        drop(server);
        let _server = Serving::start(&lab);
        let (head, body) = told();
        let line = match dialect {
            "scalingo" => "PATCH /v1/provider/apps/app-1%40example HTTP/1.1",
            _ => "PUT /callback/999 HTTP/1.1",
        };
        assert!(head.starts_with(line) && head.to_ascii_lowercase().contains("authorization: basic "), "{head}");
        assert_eq!(body["config"]["PROBE_PLAN"], "small", "{body}");
        assert!(dialect == "scalingo" || body["id"] == later["id"], "{body}");
        assert_eq!(lab.json(&["info", "good/probe"])["resources"][0]["state"], "active");
    }
}

#[test]
fn what_is_given_back_while_it_is_made_is_not_made_again() {
    let lab = Lab::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = with_plans(
        &lab,
        &format!(
            "[grant]\nnetwork_addresses = [\"127.0.0.0/8\"]\n\
             [platforms]\nanswer_within_ms = 0\ncallbacks = [\"localhost:{port}\"]\n"
        ),
    );
    let offered = Offered::new(&lab, &server, "good/probe", "heroku");
    let callback = format!("http://localhost:{port}/");
    for number in 0..4 {
        // Somebody else is at work, so that order and return wait for the same lock.
        let busy = lab.start(&["add", &format!("app-{number}"), "good/probe", "--option", "sleep_ms=300"]);
        until(|| lab.json(&["info", "good/probe"])["resources"].to_string().contains("provisioning").then_some(()));
        let uuid = format!("{UUID}-{number}");
        offered.order("app", &uuid, &json!({ "callback_url": callback })).is(202);
        offered.ask("DELETE", &format!("/{uuid}"), &json!(null)).is(204);
        says(offered.order("app", &uuid, &json!({ "callback_url": callback })), 410, "order-gone");
        busy.wait().ok();
        lab.lodger(&["remove", &format!("app-{number}"), "good/probe"]).ok();
        assert_eq!(lab.json(&["apps"]), json!({}));
    }
}

#[test]
fn an_order_of_a_busy_addon_is_put_off_where_it_can_be_told_later() {
    let (port, told) = platform();
    let lab = Lab::new();
    let server = with_plans(
        &lab,
        &format!(
            "[limits]\nlock_wait_ms = 20\n[grant]\nnetwork_addresses = [\"127.0.0.0/8\"]\n\
             [platforms]\ncallbacks = [\"localhost:{port}\"]\nanswer_within_ms = 1000\n"
        ),
    );
    let offered = Offered::new(&lab, &server, "good/probe", "heroku");
    let busy = lab.start(&["add", "shop", "good/probe", "--option", "sleep_ms=1500"]);
    until(|| lab.json(&["info", "good/probe"])["resources"].to_string().contains("provisioning").then_some(()));
    let waits = offered.order("app", "waits", &json!({ "callback_url": null }));
    says(waits, 503, "busy");
    let callback = json!({ "callback_url": format!("http://localhost:{port}/callback") });
    let later = offered.order("app", UUID, &callback).is(202).json();
    busy.wait().ok();
    assert_eq!(told().1["id"], later["id"]);
}

#[test]
fn nobody_is_told_whom_the_policy_does_not_name() {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = with_plans(
        &lab,
        "[grant]\nnetwork_addresses = [\"127.0.0.0/8\"]\n[platforms]\nanswer_within_ms = 0\ncallbacks = [\"localhost:1\"]\n",
    );
    let offered = Offered::new(&lab, &server, "good/probe", "heroku");
    for (uuid, callback) in
        [("a", format!("http://localhost:{port}/")), ("b", format!("http://127.0.0.1:{port}/")), ("c", "x".to_owned())]
    {
        // It is waited for then.
        offered.order("app", uuid, &json!({ "callback_url": callback })).is(201);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    for line in [
        "answer_within_ms = 99999",
        "callbacks = [\"127.0.0.1:1\"]",
        "scalingo_api = \"http://example.com\"",
        "what = 1",
    ] {
        lab.policy(&format!("[platforms]\n{line}\n"));
        lab.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
    }
}

#[test]
fn customers_are_let_in_once_and_see_one_resource() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    for dialect in DIALECTS {
        let offered = Offered::new(&lab, &server, "good/probe", dialect);
        let hostile = "<script>alert(1)</script>";
        let id = offered.order(hostile, UUID, &json!({})).is(201).json()["id"].as_str().unwrap().to_owned();
        let at = now();
        let good = offered.signed(&id, at);
        let denied = |query: &str| {
            let reply = offered.sso(query);
            assert!(reply.status == 403 && !reply.head.contains("set-cookie"), "{query}: {reply:?}");
        };
        denied("");
        denied(&format!("id={id}&timestamp={at}"));
        denied(&format!("id={id}&timestamp={at}&token="));
        denied(&format!("id={id}&timestamp={at}&token={}x", &good[..39]));
        for wrong in [at - 360, at + 360] {
            denied(&format!("id={id}&timestamp={wrong}&token={}", offered.signed(&id, wrong)));
        }
        denied(&format!("id={id}&timestamp=0{at}&token={}", offered.signed(&id, at)));
        denied(&format!("id={id}&timestamp={at}&token={good}&resource_token=0"));
        denied(&format!("id=none&timestamp={at}&token={}", offered.signed("none", at)));

        let reply = offered.sso(&format!("id={id}&timestamp={at}&token={good}&nav-data=e30_-")).is(200);
        assert!(reply.head.contains("set-cookie: heroku-nav-data=e30_-;"), "{reply:?}");
        let line = reply.head.lines().find(|line| line.starts_with("set-cookie: lodger-session=")).unwrap().to_owned();
        assert!(line.contains("httponly") && line.contains("secure") && line.contains("samesite=lax"), "{line}");
        assert!(reply.head.contains("content-security-policy: default-src 'none'"), "{}", reply.head);
        let page = reply.text();
        assert!(
            page.contains("id=\"heroku-header\"") && page.contains("PROBE_PLAN") && page.contains("small"),
            "{page}"
        );
        assert!(page.contains("https://probe.example/?a=1&amp;b=2") && page.contains("provision"), "{page}");
        assert!(!page.contains(hostile) && page.contains("&lt;script&gt;") && !page.contains("password-of"), "{page}");
        // Once, over restarts.
        denied(&format!("id={id}&timestamp={at}&token={good}"));
        let cookie = line.split(&[' ', ';'][..]).nth(1).unwrap();
        let again = format!("Cookie: {cookie}\r\n");
        let path = format!("{}/dashboard", offered.root);
        let server = Serving::start(&lab);
        assert_eq!(server.ask("GET", &path, &again, b"").is(200).text(), page);
        let offered = Offered { server: &server, ..offered };
        assert_eq!(offered.sso(&format!("id={id}&timestamp={at}&token={good}")).status, 403);
        server.ask("GET", &path, "", b"").is(403);
        server.ask("GET", &path, "Cookie: lodger-session=0\r\n", b"").is(403);
        // Of one resource, and only while there is one.
        let other = path.replace(dialect, DIALECTS[usize::from(dialect == "scalingo")]);
        server.ask("GET", &other, &again, b"").is(403);

        // As a form, from a page of the platform, with all that the newest interface sends.
        let at = at + 1;
        let salt = offered.known["sso_salt"].as_str().unwrap();
        let of_user = format!("{:x}", Sha256::digest(format!("{UUID}:{salt}:{at}:me:me@example.com")));
        let form = format!(
            "resource_id={UUID}&timestamp={at}&resource_token={}&user_scoped_resource_token={of_user}\
             &user_id=me&email=me%40example.com&app=x&nav-data=%3Cscript%3E",
            offered.signed(UUID, at)
        );
        let more = "Content-Type: application/x-www-form-urlencoded\r\nOrigin: https://addons-sso.heroku.com\r\n";
        let path = format!("{}/sso", offered.root);
        let reply = server.ask("POST", &path, more, form.replace("=me&", "=you&").as_bytes());
        assert_eq!(reply.status, 403, "{reply:?}");
        let reply = server.ask("POST", &path, more, form.as_bytes()).is(200);
        assert!(!reply.head.contains("heroku-nav-data"), "what is no data is not handed on: {}", reply.head);
        server.ask("POST", &path, "Content-Type: application/json\r\n", form.as_bytes()).is(415);
        // As kensa's first interface has it.
        let at = at + 1;
        let query = format!("timestamp={at}&token={}", offered.signed(&id, at));
        server.ask("GET", &format!("{}/resources/{id}?{query}", offered.root), "", b"").is(200);
        offered.ask("DELETE", &format!("/{id}"), &json!(null)).is(204);
        server.ask("GET", &format!("{}/dashboard", offered.root), &again, b"").is(403);
    }
    let log = std::fs::read_to_string(lab.path("log")).unwrap();
    assert!(!log.contains("token=") && !log.contains("lodger-session"), "{log}");
}

#[test]
fn the_manifests_hold_what_both_testers_ask_for() {
    let lab = Lab::new();
    drop(with_plans(&lab, ""));
    let manifest = |dialect: &str| {
        lab.json(&["provider", "manifest", "good/probe", "--dialect", dialect, "--url", "https://addons.example.com"])
    };
    let scalingo = manifest("scalingo");
    let at = "https://addons.example.com/providers/good/probe/scalingo";
    assert_eq!(
        scalingo["production"],
        json!({ "base_url": format!("{at}/resources"), "sso_url": format!("{at}/sso") })
    );
    assert_eq!(scalingo["plans"][0]["options"], json!({ "size": "1" }), "{scalingo}");
    assert_eq!(scalingo["config_vars"], json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]));
    let heroku = manifest("heroku");
    assert_eq!((&heroku["id"], &heroku["api"]["config_vars_prefix"]), (&json!("probe"), &json!("PROBE")), "{heroku}");
    assert_eq!(heroku["api"]["regions"], json!(["us", "eu"]));
    let known = lab.json(&["provider", "credentials", "good/probe", "--dialect", "heroku"]);
    assert_eq!(heroku["api"]["password"], known["password"]);
    lab.lodger(&["--json", "provider", "manifest", "good/probe", "--dialect", "heroku"]).fails_with(1, "no-public-url");
    lab.policy("[platforms]\nurl = \"https://of.the.policy\"\n");
    let known = lab.lodger(&["provider", "manifest", "good/probe", "--dialect", "heroku"]).ok().stdout;
    assert!(known.contains("https://of.the.policy/providers/good/probe/heroku/resources"), "{known}");
    lab.lodger(&["provider", "manifest", "good/probe", "--dialect", "klingon"]).exits(2);
    // An addon that cannot provision is no provider.
    lab.policy("[grant]\nevents = [\"app.*\", \"addon.*\"]\n");
    lab.lodger(&["install", root().join("guest-examples/audit").to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["--json", "provider", "credentials", "audit"]).fails_with(1, "hook-missing");
}

#[test]
fn settings_say_what_platforms_prove_themselves_with() {
    let lab = Lab::new();
    lab.well_behaved(|manifest| {
        manifest["settings"]["GATEWAY_PASSWORD"] = json!({ "secret": true });
        manifest["settings"]["GATEWAY_SSO_SALT"] = json!({ "secret": true });
    });
    let made = lab.json(&["provider", "credentials", "good/probe"]);
    lab.with_stdin(&["set", "good/probe", "GATEWAY_PASSWORD=-"], "from-before").ok();
    let set = lab.json(&["provider", "credentials", "good/probe"]);
    assert_eq!((&set["password"], &set["sso_salt"]), (&json!("from-before"), &made["sso_salt"]));
    lab.lodger(&["--json", "provider", "credentials", "good/probe", "--rotate"]).fails_with(1, "credentials-set");
    let server = Serving::start(&lab);
    let offered = Offered { server: &server, dialect: "heroku", root: String::new(), known: made };
    let path = "/providers/good/probe/scalingo/resources/none";
    says(server.ask("DELETE", path, &offered.proof(), b""), 401, "bad-credentials");
    says(server.ask("DELETE", path, &basic("probe", "from-before"), b""), 404, "unknown-order");
}

fn known_to_scalingo<'a>(server: &'a Serving, known: &Value) -> Offered<'a> {
    let root = "/providers/good/probe/scalingo".to_owned();
    Offered { server, dialect: "scalingo", root, known: known.clone() }
}

/// Ordered, moved to another plan, given back: from the step that had no answer yet, as far as the server lives.
fn lived(offered: &Offered<'_>, answered: &mut usize) -> bool {
    let order = offered.asks_for("app", UUID, &json!({}));
    let (one, large) = (format!("/{UUID}"), json!({ "plan": "large" }));
    let steps = [("POST", "", &order), ("PUT", &one, &large), ("DELETE", &one, &json!(null))];
    for (method, path, body) in &steps[*answered..] {
        let more = format!("{}Content-Type: application/json\r\n", offered.proof());
        let Ok(stream) = std::net::TcpStream::connect(&offered.server.address) else { return false };
        let path = format!("{}/resources{path}", offered.root);
        let reply = Reply::read(offered.server.send_over(stream, method, &path, &more, body.to_string().as_bytes()));
        match reply.status {
            0 => return false,
            200 | 201 => {
                let plan = if *method == "POST" { "small" } else { "large" };
                assert_eq!(reply.json()["config"]["PROBE_PLAN"], plan, "{reply:?}");
            }
            // It was given back, and died before it could say so.
            204 | 410 if *method == "DELETE" => {}
            _ => panic!("{method}: {reply:?}"),
        }
        *answered += 1;
    }
    true
}

#[test]
fn a_platform_and_the_host_agree_wherever_the_server_is_killed() {
    let mut killed = 0;
    for point in (1..400).step_by(2) {
        let lab = Lab::new();
        lab.well_behaved(|manifest| manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]));
        let known = lab.json(&["provider", "credentials", "good/probe"]);
        let mut answered = 0;
        let server = Serving::try_start(&lab, &[], &[("LODGER_KILL_AT", &point.to_string())]);
        let all = server.as_ref().is_some_and(|server| lived(&known_to_scalingo(server, &known), &mut answered));
        drop(server);
        killed += usize::from(!all);
        let server = Serving::start(&lab);
        let offered = known_to_scalingo(&server, &known);
        assert!(lived(&offered, &mut answered), "{point}");
        assert_eq!(lab.json(&["apps"]), json!({}), "{point}");
        says(offered.order("app", UUID, &json!({})), 410, "order-gone");
        if all {
            break;
        }
    }
    assert!(killed > 3, "{killed}");
}

#[test]
fn a_backup_brings_orders_back_under_the_names_platforms_know() {
    let lab = Lab::new();
    let server = with_plans(&lab, "");
    let offered = Offered::new(&lab, &server, "good/probe", "heroku");
    let made = offered.order("app", UUID, &json!({})).is(201).json();
    let known = offered.known.clone();
    drop(server);
    let passphrase = lab.write("passphrase", "a long passphrase of a test");
    let (file, passphrase) = (lab.path("home.backup").display().to_string(), passphrase.display().to_string());
    lab.lodger(&["backup", &file, "--passphrase-file", &passphrase]).ok();
    let lab = Lab::new();
    lab.lodger(&["restore-home", &file, "--passphrase-file", &passphrase, "--yes"]).ok();
    let server = Serving::start(&lab);
    let offered =
        Offered { server: &server, dialect: "heroku", root: "/providers/good/probe/heroku".to_owned(), known };
    let again = offered.order("app", UUID, &json!({})).is(200).json();
    assert_eq!((&again["id"], &again["config"]["PROBE_PLAN"]), (&made["id"], &json!("small")), "{again}");
    offered.ask("DELETE", &format!("/{}", made["id"].as_str().unwrap()), &json!(null)).is(204);
    assert_eq!(lab.json(&["apps"]), json!({}));
}

/// What our own tester says of an addon of ours, asked by whoever has only the manifest.
fn passes(name: &str, plans: &[&str]) {
    let lab = Lab::new();
    lab.policy(
        "[grant]\nenv_names = [\"DATABASE_URL\"]\n\
         unpinned = [\"docker.io/library/redis:7\", \"docker.io/library/postgres:16\"]\n",
    );
    lab.lodger(&["install", root().join("guest-examples").join(name).to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", name]).ok();
    let server = Serving::start(&lab);
    for dialect in DIALECTS {
        let (url, at) = ("https://addons.example.com", server.url(""));
        let manifest = ["provider", "manifest", name, "--dialect", dialect, "--url", url, "--test-url", &at];
        lab.write("manifest.json", lab.lodger(&manifest).ok().stdout);
        let report = lab.json(&[&["provider", "test"], plans].concat());
        let checks = report["checks"].as_array().unwrap();
        let skipped = checks.iter().filter(|check| check["result"] == "skipped").count();
        // Of Scalingo's dialect, where it does not measure its use.
        let expected = usize::from(dialect == "scalingo" && name != "postgres");
        assert_eq!((&report["failed"], skipped), (&json!(0), expected), "{name}: {report}");
    }
    assert_eq!(lab.json(&["apps"]), json!({}));
    drop(server);
    lab.lodger(&["disable", name]).ok();
    lab.lodger(&["uninstall", name, "--yes"]).ok();
}

#[test]
fn app_secrets_pass_the_whole_contract() {
    // Longer secrets may be called shorter ones; those an app has are never replaced.
    passes("app-secrets", &["--plan", "long", "--to", "standard"]);
}

#[test]
fn redis_passes_the_whole_contract() {
    passes("redis", &[]);
}

#[test]
fn postgres_passes_the_whole_contract() {
    passes("postgres", &[]);
}
