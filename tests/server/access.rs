//! Who is answered: tokens and their scopes, names of the server, pages of others.

use serde_json::{Value, json};

use super::{Serving, log, packed, refused, token};
use crate::support::Lab;

#[test]
fn nothing_is_told_without_a_token_but_that_the_server_lives() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    assert_eq!(server.ask("GET", "/healthz", "", b"").is(200).json(), json!({ "status": "ok" }));
    let ready = json!({ "ready": true, "store": true, "home": true, "engines": {} });
    assert_eq!(server.ask("GET", "/readyz", "", b"").is(200).json(), ready);
    for path in ["/v1/addons", "/v1/apps/shop/env", "/metrics", "/v1/nothing", "/", "/v1/addons/..%2f..%2fkey/x"] {
        let problem = server.ask("GET", path, "", b"").refuses(401, "no-token");
        assert!(problem["hint"].as_str().unwrap().contains("lodger token create"), "{problem}");
    }
    // In a URL it is none.
    server.ask("GET", &format!("/v1/addons?token={}", server.token), "", b"").refuses(401, "no-token");
    server.ask("GET", "/v1/addons", "Authorization: Basic YTpi\r\n", b"").refuses(401, "no-token");
    let twice = format!("{}{}", server.bearer(), server.bearer());
    server.ask("GET", "/v1/addons", &twice, b"").refuses(401, "no-token");
    assert_eq!(server.get("/v1/addons").is(200).json(), json!([]));
    let head = server.ask("GET", "/v1/addons", "", b"").head;
    assert!(head.contains("www-authenticate: bearer") && head.contains("cache-control: no-store"), "{head}");
}

#[test]
fn a_token_is_shown_once_and_works_until_it_is_revoked_or_expires() {
    let lab = Lab::new();
    let made = lab.json(&["token", "create", "--scope", "read,app:shop", "--expires", "90d", "--name", "a board"]);
    assert_eq!(made["scopes"], json!(["read", "app:shop"]));
    let (id, text) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    let listed = lab.json(&["token", "list"]);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&made["id"], &json!("a board")));
    assert_eq!(listed[0]["expires"], made["expires"]);
    assert!(listed[0].get("token").is_none() && !listed.to_string().contains(text));
    let secret = text.rsplit('_').next().unwrap();
    for file in ["lodger.db", "lodger.db-wal"] {
        let bytes = std::fs::read(lab.home().join(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{file} holds the secret");
    }

    let server = Serving::start(&lab);
    server.as_(text, "GET", "/v1/addons", &json!({})).is(200);
    let wrong = format!("lodger_{id}_{}", "0".repeat(64));
    server.as_(&wrong, "GET", "/v1/addons", &json!({})).refuses(401, "bad-token");
    server.as_(&format!("{text}0"), "GET", "/v1/addons", &json!({})).refuses(401, "bad-token");
    store.execute("UPDATE token SET expires = 1 WHERE id = ?1", [id]).unwrap();
    server.as_(text, "GET", "/v1/addons", &json!({})).refuses(401, "token-expired");
    store.execute("UPDATE token SET expires = NULL WHERE id = ?1", [id]).unwrap();
    server.as_(text, "GET", "/v1/addons", &json!({})).is(200);
    lab.lodger(&["token", "revoke", id]).ok();
    server.as_(text, "GET", "/v1/addons", &json!({})).refuses(401, "bad-token");
    lab.lodger(&["--json", "token", "revoke", id]).fails_with(1, "unknown-token");
    lab.lodger(&["--json", "token", "create", "--scope", "everything"]).fails_with(1, "invalid-scope");
    lab.lodger(&["token", "create", "--scope", "read", "--expires", "soon"]).exits(2);
    let said = log(&lab);
    assert!(said.contains("path=\"/v1/addons\" status=200") && !said.contains(secret), "{said}");
}

#[test]
fn whoever_fails_too_often_has_to_wait_and_keeps_nobody_else_out() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let (id, _) = server.token.rsplit_once('_').unwrap();
    for made_up in [format!("{id}_{}", "0".repeat(64)), format!("lodger_{}_{}", "0".repeat(16), "0".repeat(64))] {
        let statuses: Vec<u16> =
            (0..14).map(|_| server.as_(&made_up, "GET", "/v1/addons", &json!({})).status).collect();
        assert_eq!(statuses[..10], [401; 10]);
        assert_eq!(statuses[12..], [429; 2], "{statuses:?}");
    }
    // The token whose id was guessed at waits, too; another does not.
    server.get("/v1/addons").refuses(429, "too-many-tries");
    let other = token(&lab, "read");
    server.as_(&other, "GET", "/v1/addons", &json!({})).is(200);
}

#[test]
fn a_scope_admits_what_it_says_and_no_more() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    for app in ["shop", "blog"] {
        lab.lodger(&["add", app, "probe"]).ok();
    }
    let server = Serving::start(&lab);
    let [read, shop, publish] = ["read", "app:shop", "publish:good"].map(|scope| token(&lab, scope));
    let probe = "/v1/addons/good/probe";
    let of = |app: &str| format!("/v1/apps/{app}/addons/good/probe");
    // Who may: those who read, the app's own, and whoever manages.
    let table: [(&str, String, Value, [bool; 3]); 15] = [
        ("GET", "/v1/addons".into(), json!({}), [true, false, true]),
        ("GET", probe.into(), json!({}), [true, false, true]),
        ("GET", format!("{probe}/grant"), json!({}), [true, false, true]),
        ("GET", "/metrics".into(), json!({}), [true, false, true]),
        ("GET", "/v1/apps".into(), json!({}), [true, false, true]),
        ("GET", "/v1/apps/shop".into(), json!({}), [true, true, true]),
        ("GET", "/v1/apps/blog".into(), json!({}), [true, false, true]),
        ("GET", "/v1/apps/shop/env".into(), json!({}), [false, true, true]),
        ("GET", "/v1/apps/blog/env".into(), json!({}), [false, false, true]),
        ("GET", format!("{}/url", of("shop")), json!({}), [false, true, true]),
        ("GET", format!("{}/dump", of("shop")), json!({}), [false, false, true]),
        ("PUT", of("shop"), json!({}), [false, true, true]),
        ("PUT", of("blog"), json!({}), [false, false, true]),
        ("POST", format!("{}/suspend", of("shop")), json!({}), [false, false, true]),
        ("POST", format!("{probe}/enable"), json!({}), [false, false, true]),
    ];
    for (method, path, body, may) in table {
        for (token, may) in [&read, &shop, &server.token].into_iter().zip(may) {
            let reply = server.as_(token, method, &path, &body);
            assert_eq!(reply.status != 403, may, "{method} {path} with {token}: {}", reply.text());
        }
        server.as_(&publish, method, &path, &body).refuses(403, "other-scope");
    }
    assert_eq!(server.as_(&shop, "DELETE", &of("shop"), &json!({})).is(200).json()["changed"], true);
    server.as_(&shop, "DELETE", &of("blog"), &json!({})).refuses(403, "other-scope");
    // Who asked is on record.
    let calls = server.get("/v1/calls").is(200).json();
    let by = |hook: &str| {
        let items = calls["items"].as_array().unwrap().iter();
        items.filter(|call| call["hook"] == hook).map(|call| call["actor"].clone()).next().unwrap()
    };
    let shop_id = shop.split('_').nth(1).unwrap();
    assert_eq!((by("unprovision"), by("enable")), (json!(format!("token {shop_id}")), json!("cli")));
}

#[test]
fn pages_of_origins_that_are_named_may_ask() {
    let lab = Lab::new();
    let board = "https://board.example";
    for none in [
        "board.example",
        "https://board.example/",
        "*",
        "null",
        "https://Board.example",
        "https://a@b",
        "https://b:443",
    ] {
        let ran = lab.lodger(&["serve", "--listen", "127.0.0.1:0", "--cors-origin", none]);
        assert!(ran.exits(2).stderr.contains("no origin"), "{none}");
    }
    let server = Serving::start_with(&lab, &["--cors-origin", board, "--cors-origin", "http://localhost:8080"], &[]);
    let ask = |method: &str, origin: &str, more: &str| {
        server.ask(method, "/v1/addons", &format!("Origin: {origin}\r\n{more}"), b"")
    };
    let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n";
    let may = ask("OPTIONS", board, asks).is(200);
    for line in [
        "access-control-allow-origin: https://board.example",
        "access-control-allow-headers: authorization,content-type,idempotency-key,prefer,last-event-id",
        "access-control-allow-methods: get,post,put,patch,delete",
        "access-control-max-age: 600",
    ] {
        assert!(may.head.contains(line), "{}", may.head);
    }
    assert!(!may.head.contains("credentials"), "{}", may.head);
    let page = ask("GET", board, &server.bearer()).is(200);
    assert!(page.head.contains("access-control-allow-origin: https://board.example"), "{}", page.head);
    assert!(page.head.contains("vary: origin"), "{}", page.head);
    // It needs a token all the same, and is told so.
    let refused = ask("GET", board, "");
    assert!(refused.head.contains("access-control-allow-origin"), "{}", refused.head);
    refused.refuses(401, "no-token");
    for other in ["https://evil.example", "http://board.example", "https://board.example:1", "null"] {
        for method in ["GET", "OPTIONS"] {
            let refused = ask(method, other, asks);
            assert!(!refused.head.contains("access-control"), "{}", refused.head);
            refused.refuses(403, "other-origin");
        }
    }
    // Where none is named, a preflight is answered as any method that a path has not.
    let server = Serving::start(&lab);
    let own = format!("Origin: {}\r\n{}{asks}", server.url(""), server.bearer());
    let none = server.ask("OPTIONS", "/v1/addons", &own, b"");
    assert!(!none.head.contains("access-control"), "{}", none.head);
    none.refuses(405, "method-not-allowed");
}

#[test]
fn a_page_of_another_origin_or_name_is_not_answered() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let server = Serving::start_with(&lab, &["--host", "lodger.example"], &[]);
    let port = server.address.rsplit(':').next().unwrap();
    let ask = |host: &str, more: &str| {
        let mut stream = server.connect();
        let head = format!("GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        super::Reply::read(stream)
    };
    for good in ["localhost", "127.0.0.1", "[::1]", "lodger.example", "LODGER.example:443", &server.address] {
        ask(&format!("Host: {good}\r\n"), "").is(200);
    }
    for bad in
        ["attacker.example", "lodger.example.attacker.example", "localhost@attacker.example", "", "169.254.169.254"]
    {
        ask(&format!("Host: {bad}\r\n"), "").refuses(421, "other-host");
    }
    ask("", "").refuses(421, "other-host");
    ask("Host: localhost\r\nHost: attacker.example\r\n", "").refuses(421, "other-host");
    let mut stream = server.connect();
    let absolute = "GET http://attacker.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, absolute.as_bytes()).unwrap();
    super::Reply::read(stream).refuses(421, "other-host");

    let host = format!("Host: localhost:{port}\r\n");
    ask(&host, &format!("Origin: http://localhost:{port}\r\n")).is(200);
    for foreign in ["http://attacker.example", "null", "http://localhost", "http://localhost:1", "file://"] {
        let reply = ask(&host, &format!("Origin: {foreign}\r\n"));
        assert!(!reply.head.contains("access-control-allow"), "{reply:?}");
        reply.refuses(403, "other-origin");
    }
    // What a form can send changes nothing, even with a token.
    let path = format!("/v1/addons/{addon}/disable");
    for form in ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""] {
        let more = format!("{}Content-Type: {form}\r\n", server.bearer());
        server.ask("POST", &path, &more, b"{}").refuses(415, "media-type");
    }
    server.ask("POST", &path, &server.bearer(), b"{}").refuses(415, "media-type");
    let preflight = server.ask("OPTIONS", &path, "Access-Control-Request-Method: POST\r\n", b"");
    assert!(!preflight.head.contains("access-control-allow"), "{preflight:?}");
    assert_eq!(server.get(&format!("/v1/addons/{addon}")).is(200).json()["state"], "enabled");
}

#[test]
fn only_the_loopback_or_a_proxy_is_listened_to() {
    let lab = Lab::new();
    let error = refused(&lab, &["--listen", "0.0.0.0:0"]);
    assert_eq!(error["code"], "clear-text");
    assert!(error["hint"].as_str().unwrap().contains("--behind-proxy CIDR"), "{error}");
    let taken = Serving::start(&lab);
    assert_eq!(refused(&lab, &["--listen", &taken.address])["code"], "listen");

    // Who says whom it asks for is believed only where it is such a proxy: failures are counted by that.
    let proxied = Serving::start_with(&lab, &["--behind-proxy", "127.0.0.0/8"], &[]);
    for (server, believed) in [(&taken, false), (&proxied, true)] {
        let made_up = format!("Authorization: Bearer lodger_{}_0\r\n", "0".repeat(16));
        let ask = |client: &str| {
            let more = format!("{made_up}X-Forwarded-For: 10.9.9.9, {client}\r\n");
            server.ask("GET", "/v1/addons", &more, b"").status
        };
        let statuses: Vec<u16> = (0..14).map(|_| ask("192.0.2.1")).collect();
        assert_eq!(statuses[13], 429, "{statuses:?}");
        assert_eq!(ask("192.0.2.2"), if believed { 401 } else { 429 });
    }
}

#[test]
fn a_grant_is_accepted_by_its_digest_or_by_the_policy_and_not_otherwise() {
    let lab = Lab::new();
    let dir = lab.well_behaved_package(|_| ());
    let package = packed(&lab, &dir);
    let server = Serving::start(&lab);
    let problem = server.install(&package, "").refuses(409, "grant-not-accepted");
    let digest = problem["grant"]["digest"].as_str().unwrap();
    assert_eq!(problem["grant"]["addon"], "good/probe");
    assert!(problem["grant"]["lines"].as_array().unwrap().len() > 3, "{problem}");
    server.install(&package, &format!("sha256:{}", "0".repeat(64))).refuses(409, "grant-not-accepted");
    assert!(lab.installed_files().is_empty());
    let installed = server.install(&package, digest).is(201).json();
    assert_eq!((&installed["grant"], &installed["changed"]), (&json!(digest), &json!(true)));
    assert_eq!(server.install(&package, "").is(200).json()["changed"], false);
    drop(server);

    let other = Lab::new();
    other.policy(&format!("[grant]\npreapproved = [\"{digest}\"]\n"));
    let server = Serving::start(&other);
    server.install(&package, "").is(201);
    let looser = server.get("/v1/doctor").is(200).text();
    assert!(looser.contains("grant.preapproved"), "{looser}");
    other.policy("[grant]\npreapproved = [\"good/probe\"]\n");
    other.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
}

#[test]
fn a_token_whose_making_or_revoking_is_killed_is_there_or_not() {
    let lab = Lab::new();
    lab.json(&["list"]);
    let killed = |args: &[&str], at: u32| {
        let ran = lab.command(args).env("LODGER_KILL_AT", at.to_string()).output().unwrap();
        ran.status.code() != Some(0)
    };
    let points = (1..).take_while(|at| killed(&["token", "create", "--scope", "read"], *at)).count();
    assert!(points >= 2, "before and after it lasts");
    let tokens = || lab.json(&["token", "list"]).as_array().unwrap().clone();
    let made = tokens().len();
    assert!((2..=points).contains(&made), "those that were kept, and the last: {made}");
    let id = tokens()[0]["id"].as_str().unwrap().to_owned();
    assert!(killed(&["token", "revoke", &id], 1) && tokens().len() == made);
    assert!(killed(&["token", "revoke", &id], 2) && tokens().len() == made - 1);
    lab.lodger(&["--json", "token", "revoke", &id]).fails_with(1, "unknown-token");
}

#[test]
fn a_listener_that_is_open_for_oakestra_is_open_for_nothing_else() {
    use super::market::{MARKET, package, publish, refused, reviewed};

    let lab = Lab::new();
    for args in [&["--listen", "0.0.0.0:0"][..], &["--behind-proxy", "10.0.0.0/8"]] {
        let problem = super::refused(&lab, &[args, &["--open-oakestra"]].concat());
        assert!(["open-oakestra", "clear-text"].contains(&problem["code"].as_str().unwrap()), "{problem}");
    }
    let server = Serving::start_with(&lab, &["--open-oakestra"], &[]);
    let json = "Content-Type: application/json\r\n";
    for path in ["/v1/addons", "/metrics", "/v1/apps/shop/env"] {
        server.ask("GET", path, "", b"").refuses(401, "no-token");
    }
    assert_eq!(server.ask("GET", MARKET, "", b"").is(200).json(), json!([]));
    let entry = server.ask("POST", "/api/addons", json, br#"{"name":"x","services":[]}"#).is(201).json();
    assert_eq!(reviewed(&server, &entry["_id"])["status"], "verification_failed");
    // A page of another origin, or another name for this machine, gets nothing; neither does a token that is none.
    refused(server.ask("GET", MARKET, "Origin: https://evil.example\r\n", b""), 403, "Forbidden");
    refused(server.ask("GET", MARKET, "Authorization: Bearer lodger_0_0\r\n", b""), 401, "Unauthorized");
    let mut stream = server.connect();
    std::io::Write::write_all(
        &mut stream,
        format!("GET {MARKET} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .unwrap();
    assert_eq!(super::Reply::read(stream).status, 421);

    let entry = publish(&server, &server.token, &package(&lab, |_| ())).is(201).json();
    let entry = reviewed(&server, &entry["_id"]);
    let grant = &entry["verification"]["grant"];
    let asked = json!({ "marketplace_id": entry["_id"], "grant": grant }).to_string();
    // Whoever needs no token decides about no grant.
    refused(server.ask("POST", "/api/v1/addons", json, asked.as_bytes()), 409, "Conflict");
    drop(server);
    lab.policy(&format!("[grant]\npreapproved = [{grant}]\n"));
    let server = Serving::start_with(&lab, &["--open-oakestra"], &[]);
    let asked = json!({ "marketplace_id": entry["_id"] }).to_string();
    let installed = server.ask("POST", "/api/addons/install", json, asked.as_bytes()).is(201).json();
    super::manager::comes_to(&server, &installed["_id"], "active");
    let path = format!("/api/v1/addons/{}", installed["_id"].as_str().unwrap());
    server.ask("DELETE", &path, "", b"").is(200);
    super::manager::comes_to(&server, &installed["_id"], "disabled");
}
