//! Requests on record: answered at once, asked again under a key, followed as they go on, and cut off.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Listening, PACKAGE, Reply, Sent, Serving, log, packed, token};
use crate::support::{Lab, addon, component, probe_manifest, until};

const ADDON: &str = "good/probe";
const ENABLE: &str = "/v1/addons/good/probe/enable";
const SHOP: &str = "/v1/apps/shop/addons/good/probe";
const AT_ONCE: &str = "Prefer: respond-async\r\n";

impl Serving {
    /// A request with a body of JSON and other headers besides.
    fn ask_with(&self, method: &str, path: &str, more: &str, body: &Value) -> Reply {
        let more = format!("{}Content-Type: application/json\r\n{more}", self.bearer());
        self.ask(method, path, &more, body.to_string().as_bytes())
    }

    /// One that is answered at once: its operation, and how far it comes.
    fn begin(&self, method: &str, path: &str, more: &str, body: &Value) -> (String, Listening) {
        accepted(self, self.ask_with(method, path, &format!("{AT_ONCE}{more}"), body))
    }

    fn operation(&self, id: &str) -> Value {
        self.get(&format!("/v1/operations/{id}")).is(200).json()
    }
}

fn accepted(server: &Serving, reply: Reply) -> (String, Listening) {
    let reply = reply.is(202);
    let operation = reply.json();
    assert!(operation["state"] == "running" && operation.get("status").is_none(), "{operation}");
    let path = format!("/v1/operations/{}", operation["id"].as_str().unwrap());
    assert!(reply.head.contains(&format!("location: {path}\r\n")), "{reply:?}");
    assert!(reply.head.contains("preference-applied: respond-async"), "{reply:?}");
    (operation["id"].as_str().unwrap().to_owned(), server.listen(&format!("{path}/events")))
}

fn keyed(key: &str) -> String {
    format!("Idempotency-Key: {key}\r\n")
}

fn steps(told: &[Sent]) -> Vec<String> {
    told.iter().filter_map(|sent| sent.data["step"].as_str().map(str::to_owned)).collect()
}

fn end(told: &[Sent]) -> &Value {
    let last = told.last().unwrap();
    assert!(last.name == "end" && last.id.is_none(), "{told:?}");
    assert!(told[..told.len() - 1].iter().zip(1..).all(|(sent, id)| sent.id == Some(id)), "{told:?}");
    &last.data
}

#[test]
fn what_is_answered_at_once_is_told_as_it_goes_on_and_comes_to_the_same() {
    let lab = Lab::cold();
    let package = packed(&lab, &lab.well_behaved_package(|_| ()));
    let server = Serving::start(&lab);
    let install = |query: &str, more: &str| {
        let more = format!("{}Content-Type: {PACKAGE}\r\n{more}", server.bearer());
        server.ask("POST", &format!("/v1/addons{query}"), &more, &package)
    };
    // What is refused is an operation that has failed, with the answer it would have had.
    let told = accepted(&server, install("", AT_ONCE)).1.rest();
    assert_eq!(steps(&told), ["compiling probe.wasm"]);
    let refused = end(&told).clone();
    assert_eq!(
        (&refused["verb"], &refused["state"], &refused["status"]),
        (&json!("install"), &json!("failed"), &json!(409))
    );
    assert_eq!(refused["answer"], install("", "").refuses(409, "grant-not-accepted"));
    let query = format!("?accept_grant={}", refused["answer"]["grant"]["digest"].as_str().unwrap());
    let (id, listening) = accepted(&server, install(&query, AT_ONCE));
    let installed = end(&listening.rest()).clone();
    assert_eq!((&installed["state"], &installed["status"]), (&json!("done"), &json!(201)));
    assert_eq!((&installed["subject"], &installed["answer"]["changed"]), (&Value::Null, &json!(true)));
    let mut now = install(&query, "").is(200).json();
    now["changed"] = json!(true);
    assert_eq!(installed["answer"], now);
    assert_eq!(server.operation(&id), installed);

    let (_, listening) = server.begin("POST", ENABLE, "", &json!({}));
    let told = listening.rest();
    assert_eq!(steps(&told), ["calling enable of good/probe"]);
    let enabled = json!({ "id": ADDON, "version": "1.0.0", "state": "enabled", "changed": true });
    assert_eq!((&end(&told)["answer"], &end(&told)["subject"]), (&enabled, &json!(ADDON)));

    // What the guest itself tells is among it; what the app keeps in confidence is nowhere.
    let (id, listening) = server.begin("PUT", SHOP, "", &json!({}));
    let told = listening.rest();
    assert_eq!(steps(&told), ["calling provision of good/probe", "making the resource"]);
    let percent = told.iter().find(|sent| sent.name == "percent").unwrap();
    assert_eq!(percent.data, json!({ "percent": 100 }));
    let added = end(&told);
    assert_eq!((&added["status"], &added["subject"]), (&json!(201), &json!("shop good/probe")));
    let mut answer = server.put(SHOP, &json!({})).is(200).json();
    let values = answer.as_object_mut().unwrap().remove("config").unwrap();
    answer["created"] = json!(true);
    assert_eq!(added["answer"], answer);
    let value = values["PROBE_URL"].as_str().unwrap();
    for file in ["lodger.db", "lodger.db-wal"] {
        let bytes = std::fs::read(lab.home().join(file)).unwrap_or_default();
        assert!(!bytes.windows(value.len()).any(|part| part == value.as_bytes()), "{file} holds the value");
    }
    // From where it was seen: what came since, and the end again.
    let path = format!("/v1/operations/{id}/events");
    for (seen, left) in [(0, 4), (2, 2), (3, 1), (99, 1)] {
        let told = server.listen_as(&server.token, &path, &format!("Last-Event-ID: {seen}\r\n")).rest();
        assert_eq!(told.len(), left, "{told:?}");
        assert_eq!(told.last().unwrap().data, *added);
    }

    // The newest first, page by page, without their answers.
    let all = server.get("/v1/operations").is(200).json();
    assert_eq!(all["next"], Value::Null);
    let verbs: Vec<&str> = all["items"].as_array().unwrap().iter().map(|one| one["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["add", "enable", "install", "install"]);
    assert!(all["items"].as_array().unwrap().iter().all(|one| one.get("answer").is_none()), "{all}");
    let first = server.get("/v1/operations?limit=3").is(200).json();
    let second =
        server.get(&format!("/v1/operations?limit=3&cursor={}", first["next"].as_str().unwrap())).is(200).json();
    assert_eq!((&second["items"][0], &second["next"]), (&all["items"][3], &Value::Null));
    assert!(log(&lab).contains("operation ended"));
}

#[test]
fn a_key_is_for_one_request_which_it_answers_the_same_again() {
    let lab = Lab::new();
    let package = packed(&lab, &lab.well_behaved_package(|_| ()));
    let server = Serving::start(&lab);
    let digest = server.install(&package, "").json()["grant"]["digest"].as_str().unwrap().to_owned();
    let install = |bytes: &[u8]| {
        let more = format!("{}Content-Type: {PACKAGE}\r\n{}", server.bearer(), keyed("install-1"));
        server.ask("POST", &format!("/v1/addons?accept_grant={digest}"), &more, bytes)
    };
    let first = install(&package).is(201).text();
    assert_eq!(install(&package).is(201).text(), first);
    install(&[&package[..], b"more"].concat()).refuses(422, "idempotency-key-reused");

    let keyed_enable = || server.ask_with("POST", ENABLE, &keyed("\"enable\""), &json!({})).is(200);
    assert_eq!(keyed_enable().json()["changed"], true);
    assert_eq!(keyed_enable().json()["changed"], true, "as it was answered");
    assert_eq!(server.post(ENABLE, &json!({})).is(200).json()["changed"], false);

    let add = |key: &str, body: &Value| server.ask_with("PUT", SHOP, &keyed(key), body);
    let added = add("add-1", &json!({})).is(201).json();
    assert_eq!(added["created"], true);
    // In quotes it is the same; the variables are those of now.
    assert_eq!(add("\"add-1\"", &json!({})).is(201).json(), added);
    assert!(added["config"]["PROBE_URL"].as_str().unwrap().contains("password-of-"), "{added}");
    let problem = add("add-1", &json!({ "alias": "two" })).refuses(422, "idempotency-key-reused");
    assert!(problem["hint"].as_str().unwrap().contains("the very same"), "{problem}");
    let blog = server.ask_with("PUT", &SHOP.replace("shop", "blog"), &keyed("add-1"), &json!({}));
    blog.refuses(422, "idempotency-key-reused");
    server.ask_with("DELETE", SHOP, &keyed("add-1"), &json!({})).refuses(422, "idempotency-key-reused");
    // Also where it is preferred to be answered at once: there is an answer.
    let again = server.ask_with("PUT", SHOP, &format!("{AT_ONCE}{}", keyed("add-1")), &json!({}));
    assert_eq!(again.is(201).json(), added);
    // Another's key is another.
    let shop = token(&lab, "app:shop");
    let more = format!("Authorization: Bearer {shop}\r\nContent-Type: application/json\r\n{}", keyed("add-1"));
    let theirs = server.ask("PUT", SHOP, &more, b"{}").is(200).json();
    assert_eq!((&theirs["created"], &theirs["config"]), (&json!(false), &added["config"]));
    let provisions = |lab: &Lab| {
        let calls = lab.json(&["calls", ADDON, "--limit", "100"]);
        calls.as_array().unwrap().iter().filter(|call| call["hook"] == "provision").count()
    };
    assert_eq!(provisions(&lab), 1);
    // Nothing is put back by it: what was added is removed.
    server.delete(SHOP, &json!({})).is(200);
    let gone = add("add-1", &json!({})).is(201).json();
    assert_eq!((&gone["id"], &gone["config"]), (&added["id"], &json!({})));
    assert_eq!(provisions(&lab), 1);

    // A refusal is an answer.
    let unknown = || server.ask_with("POST", &ENABLE.replace("probe", "other"), &keyed("x"), &json!({}));
    let first = unknown();
    assert_eq!(unknown().text(), first.text());
    assert_eq!(unknown().refuses(404, "unknown-addon"), first.refuses(404, "unknown-addon"));
}

#[test]
fn an_answer_that_says_to_ask_again_is_asked_for_again() {
    let lab = Lab::new();
    let mut manifest = probe_manifest("says-no", 1000);
    manifest["config_vars"] = json!(["PROBE_URL"]);
    let refuses = lab.package("refuses", &manifest, component("refuses"));
    lab.lodger(&["install", refuses.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "says-no/probe"]).ok();
    let server = Serving::start(&lab);
    let add =
        |app: &str| server.ask_with("PUT", &format!("/v1/apps/{app}/addons/says-no/probe"), &keyed(app), &json!({}));
    for (app, status, times) in [("unavailable", 503, 2), ("conflict", 422, 1)] {
        add(app).refuses(status, "refused");
        add(app).refuses(status, "refused");
        let calls = lab.json(&["calls", "says-no/probe", "--limit", "100"]);
        let provisions = calls.as_array().unwrap().iter().filter(|call| call["hook"] == "provision");
        let said = |call: &&Value| call["detail"].as_str().unwrap().contains(app);
        assert_eq!(provisions.filter(said).count(), times, "{calls}");
    }
}

#[test]
fn an_operation_that_is_killed_is_found_to_be_and_its_key_runs_again() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let (more, body) = (keyed("only-once"), json!({ "options": { "hang_once": "1" } }));
    let (id, mut listening) = server.begin("PUT", SHOP, &more, &body);
    let data = lab.data(&addon(ADDON));
    until(|| std::fs::read_dir(&data).unwrap().any(|entry| entry.unwrap().path().is_file()).then_some(()));
    assert_eq!(listening.next().unwrap().data["step"], "calling provision of good/probe");
    let problem = server.ask_with("PUT", SHOP, &more, &body).refuses(409, "idempotency-in-flight");
    assert!(problem["hint"].as_str().unwrap().contains(&id), "{problem}");
    server.ask_with("PUT", SHOP, &more, &json!({})).refuses(422, "idempotency-key-reused");
    assert_eq!(server.operation(&id)["state"], "running");
    // Another server of the home sees that it lives, and that it does not any more.
    let other = Serving::start(&lab);
    assert_eq!(other.operation(&id)["state"], "running");
    let listening = other.listen(&format!("/v1/operations/{id}/events"));
    // A key is its token's.
    let token = server.token.clone();
    drop(server);
    let told = listening.rest();
    assert_eq!(end(&told)["state"], "interrupted");
    drop(other);

    let mut server = Serving::start(&lab);
    server.token = token;
    let cut_off = server.operation(&id);
    assert_eq!((&cut_off["state"], cut_off.get("status")), (&json!("interrupted"), None));
    assert!(cut_off["hint"].as_str().unwrap().contains("ask again"), "{cut_off}");
    let told = server.listen(&format!("/v1/operations/{id}/events")).rest();
    assert_eq!(*end(&told), cut_off);
    server.ask_with("PUT", SHOP, &more, &json!({})).refuses(422, "idempotency-key-reused");
    // What was cut off the server may have finished by itself.
    let added = server.ask_with("PUT", SHOP, &more, &body);
    assert!([200, 201].contains(&added.status), "{added:?}");
    let again = server.ask_with("PUT", SHOP, &more, &body);
    assert_eq!((again.status, again.json()), (added.status, added.json()));
    let states: Vec<Value> = server.get("/v1/operations").json()["items"].as_array().unwrap().clone();
    let states: Vec<&str> = states.iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["done", "interrupted"]);
    assert_eq!(lab.json(&["apps"])["shop"].as_array().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(lab.home().join("locks/operations")).unwrap().count(), 0);
}

#[test]
fn a_server_that_is_killed_at_any_point_answers_the_same_key_after() {
    let lab = Lab::new();
    let package = packed(&lab, &lab.well_behaved_package(|_| ()));
    let server = Serving::start(&lab);
    let grant = server.install(&package, "").json()["grant"]["digest"].as_str().unwrap().to_owned();
    drop(server);
    let mut died = 0;
    for at in 1.. {
        let lab = Lab::new();
        token(&lab, "read");
        let install = |server: &Serving| {
            let more = format!("Content-Type: {PACKAGE}\r\n{}", keyed("once"));
            server.try_ask("POST", &format!("/v1/addons?accept_grant={grant}"), &more, &package)
        };
        let server = Serving::start_with(&lab, &[], &[("LODGER_KILL_AT", &at.to_string())]);
        let token = server.token.clone();
        let answered = install(&server).is_some_and(|reply| reply.status == 201);
        drop(server);
        died += u32::from(!answered);
        let mut server = Serving::start(&lab);
        server.token = token;
        let reply = install(&server).unwrap();
        assert!([200, 201].contains(&reply.status) && (!answered || reply.status == 201), "{at}: {}", reply.text());
        assert_eq!(install(&server).unwrap().text(), reply.text());
        assert_eq!(server.get("/v1/addons").is(200).json().as_array().unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(lab.home().join("locks/operations")).unwrap().count(), 0);
        if answered {
            break;
        }
    }
    assert!(died > 5, "it was killed at {died} points");
}

#[test]
fn each_sees_its_own_operations_and_who_reads_those_of_all() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let [read, shop, blog, publish] = ["read", "app:shop", "app:blog", "publish:good"].map(|scope| token(&lab, scope));
    let mut ids = Vec::new();
    for (token, app) in [(&shop, "shop"), (&blog, "blog")] {
        let more = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n{AT_ONCE}");
        let path = SHOP.replace("shop", app);
        let id = server.ask("PUT", &path, &more, b"{}").is(202).json()["id"].as_str().unwrap().to_owned();
        server.listen(&format!("/v1/operations/{id}/events")).rest();
        ids.push(id);
    }
    let listed = |token: &str| {
        let all = server.as_(token, "GET", "/v1/operations", &json!({})).is(200).json();
        let all = all["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        all.rev().collect::<Vec<_>>()
    };
    assert_eq!((listed(&read), listed(&server.token)), (ids.clone(), ids.clone()));
    assert_eq!((listed(&shop), listed(&blog)), (ids[..1].to_vec(), ids[1..].to_vec()));
    let path = format!("/v1/operations/{}", ids[0]);
    for (token, status) in [(&read, 200), (&shop, 200), (&server.token, 200), (&blog, 404), (&publish, 403)] {
        assert_eq!(server.as_(token, "GET", &path, &json!({})).status, status);
        assert_eq!(server.as_(token, "GET", &format!("{path}/events"), &json!({})).status, status);
    }
    server.as_(&publish, "GET", "/v1/operations", &json!({})).refuses(403, "other-scope");
    server.ask("GET", &path, "", b"").refuses(401, "no-token");
    // A key gives nobody the answer of another.
    let more = format!("Authorization: Bearer {read}\r\nContent-Type: application/json\r\n{}", keyed("x"));
    server.ask("PUT", SHOP, &more, b"{}").refuses(403, "other-scope");
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let long = "k".repeat(256);
    for bad in ["", "\"\"", "two words", "\"open", "a\"b", "\"a\"; b", "a, b", "\u{e9}", &long] {
        server.ask_with("POST", ENABLE, &keyed(bad), &json!({})).refuses(400, "invalid-idempotency-key");
    }
    let twice = format!("{}{}", keyed("a"), keyed("a"));
    server.ask_with("POST", ENABLE, &twice, &json!({})).refuses(400, "invalid-idempotency-key");
    for path in ["/v1/addons", "/v1/apps/shop/env", "/v1/operations", &format!("{SHOP}/dump")] {
        server.ask_with("GET", path, &keyed("a"), &json!({})).refuses(400, "idempotency-key-not-taken");
    }
    let restore = format!("{SHOP}/restore");
    let stream = format!("{}Content-Type: application/octet-stream\r\n", server.bearer());
    let problem = server.ask("PUT", &restore, &format!("{stream}{}", keyed("a")), b"x");
    problem.refuses(400, "idempotency-key-not-taken");
    // A preference is none that has to be met.
    assert_eq!(server.ask("PUT", &restore, &format!("{stream}{AT_ONCE}"), b"x").status, 404);
    assert_eq!(server.ask_with("GET", "/v1/addons", AT_ONCE, &json!({})).status, 200);
    // What is no body of a verb is none with a key, either.
    let form = format!("{}Content-Type: text/plain\r\n{AT_ONCE}{}", server.bearer(), keyed("form"));
    server.ask("POST", ENABLE, &form, b"{}").refuses(415, "media-type");
    server.ask_with("POST", "/v1/addons/..%2f/x/enable", AT_ONCE, &json!({})).refuses(422, "invalid-id");
    server.ask_with("POST", "/v1/nothing", &keyed("a"), &json!({})).refuses(404, "no-such-route");
    assert_eq!(server.get("/v1/operations").is(200).json()["items"], json!([]));
    let (id, listening) = server.begin("POST", ENABLE, "", &json!({}));
    assert_eq!(end(&listening.rest())["answer"]["changed"], false);
    for bad in ["x", "-1", "1.5", "\"1\"", "99999999999999999999999"] {
        let more = format!("{}Last-Event-ID: {bad}\r\n", server.bearer());
        for path in [format!("/v1/operations/{id}/events"), "/v1/events".to_owned()] {
            server.ask("GET", &path, &more, b"").refuses(400, "invalid-event-id");
        }
    }
    for unknown in ["x", "..%2f", "%ff", &"0".repeat(32), &"A".repeat(32)] {
        for end in ["", "/events"] {
            server.get(&format!("/v1/operations/{unknown}{end}")).refuses(404, "unknown-operation");
        }
    }
}

#[test]
fn a_server_that_is_told_to_end_ends_its_streams_and_waits_for_operations() {
    let lab = Lab::new();
    let package = lab.package("sleeper", &probe_manifest("sleeper", 2000), component("endless_sleep"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    let server = Serving::start(&lab);
    let (id, mut listening) = server.begin("POST", "/v1/addons/sleeper/probe/enable", "", &json!({}));
    assert_eq!(listening.next().unwrap().data["step"], "calling enable of sleeper/probe");
    let mut happening = server.listen("/v1/events");
    assert_eq!(happening.next().unwrap().name, "log");
    server.signal(Signal::TERM);
    assert_eq!(happening.rest(), []);
    let told = listening.rest();
    assert!(told.is_empty() || told[0].name == "end", "{told:?}");
    server.wait().ok();
    let server = Serving::start(&lab);
    let operation = server.operation(&id);
    assert_eq!((&operation["state"], &operation["status"]), (&json!("failed"), &json!(504)));
    assert_eq!(operation["answer"]["code"], "deadline-exceeded");
}

#[test]
fn whoever_listens_slowly_loses_steps_and_holds_up_nobody() {
    let lab = Lab::new();
    let flood = lab.package("flood", &probe_manifest("flood", 60_000), component("progress_flood"));
    lab.lodger(&["install", flood.to_str().unwrap(), "--yes"]).ok();
    let server = Serving::start(&lab);
    let (id, late) = server.begin("POST", "/v1/addons/flood/probe/enable", "", &json!({}));
    let path = format!("/v1/operations/{id}");
    until(|| (server.operation(&id)["state"] == "done").then_some(()));
    let told = server.listen(&format!("{path}/events")).rest();
    let numbers: Vec<u64> = told.iter().filter_map(|sent| sent.id).collect();
    assert!(numbers.len() <= 256 && numbers[0] > 1, "{numbers:?}");
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
    assert_eq!(told.last().unwrap().data["state"], "done");
    assert_eq!(late.rest().last().unwrap().data, told.last().unwrap().data);
    // So many may last, until they are gone. Whoever only asks is answered meanwhile.
    let listening: Vec<Listening> = (0..24).map(|_| server.listen("/v1/events")).collect();
    server.get("/v1/events").refuses(429, "too-many-requests");
    server.get(&format!("{path}/events")).refuses(429, "too-many-requests");
    let enable = "/v1/addons/flood/probe/enable";
    server.ask_with("POST", enable, AT_ONCE, &json!({})).refuses(429, "too-many-requests");
    server.ask_with("POST", enable, "", &json!({})).is(200);
    drop(listening);
    until(|| (server.ask_with("POST", enable, AT_ONCE, &json!({})).status == 202).then_some(()));
    server.signal(Signal::TERM);
    server.wait().ok();
}

#[test]
fn operations_are_kept_as_the_policy_says() {
    let lab = Lab::new();
    lab.policy("[retention]\noperations = 5\noperation_days = 1\n");
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let ask = |key: &str| server.ask_with("POST", ENABLE, &keyed(key), &json!({})).is(200);
    for number in 0..12 {
        ask(&number.to_string());
    }
    let kept = |server: &Serving| server.get("/v1/operations").is(200).json()["items"].as_array().unwrap().len();
    assert_eq!(kept(&server), 5);
    // Those of another do not count.
    let read = token(&lab, "app:shop");
    let more = format!("Authorization: Bearer {read}\r\nContent-Type: application/json\r\n{}", keyed("0"));
    server.ask("PUT", SHOP, &more, b"{}").is(201);
    assert_eq!(kept(&server), 6);
    // As if they had been asked in 1999.
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    store.execute("UPDATE operation SET id = '00d5b2c9a400' || substr(id, 13)", []).unwrap();
    ask("12");
    assert_eq!(kept(&server), 1);
    drop(server);
    lab.policy("[retention]\noperation = 5\n");
    lab.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
}
