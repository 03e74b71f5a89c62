//! `--server`: the verbs at a server there answer what they answer in a home here, word for word, and refuse alike.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Serving, log, token};
use crate::loopback::Loopback;
use crate::support::{Lab, Ran, assert_plain, component, probe_manifest, root, until};

/// Someone with nothing but a token for a server; and a home of their own, which nobody asked for anything.
struct Far {
    lab: Lab,
    url: String,
    token: String,
}

impl Far {
    fn new(url: String, token: &str) -> Far {
        Far { lab: Lab::new(), url, token: token.to_owned() }
    }

    fn of(server: &Serving) -> Far {
        Far::new(server.url(""), &server.token)
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.lab.command(args);
        command.env("LODGER_SERVER", &self.url).env("LODGER_TOKEN", &self.token);
        let ran = Ran::of(args, command.output().unwrap());
        assert!(!ran.stdout.contains(&self.token) && !ran.stderr.contains(&self.token), "{ran:?}");
        ran
    }

    fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).ok().json()
    }
}

/// What differs from one run to the next.
const PASSING: &[&str] = &[
    "call",
    "key",
    "actor",
    "started_at",
    "created_at",
    "installed_at",
    "left_at",
    "wall_us",
    "memory_bytes",
    "host_memory_bytes",
    "random_bytes",
    "log_bytes",
    "data_bytes",
    "table_elements",
];

/// The rest of an answer.
fn lasting(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = lasting(item.take())),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                let is_own_id = name == "id" && value.as_str().is_some_and(|id| !id.contains('/'));
                *value =
                    if PASSING.contains(&name.as_str()) || is_own_id { json!(null) } else { lasting(value.take()) };
            }
        }
        Value::String(text) => *text = without_keys(text),
        _ => {}
    }
    value
}

/// Keys of resources are 32 hex digits.
fn without_keys(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let (key, end) = word.split_at(word.len().min(32));
        words.push(if key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit()) { end } else { word });
    }
    words.concat()
}

/// Two homes that are given the same: one here, one behind a server.
struct Both {
    here: Lab,
    behind: Lab,
    far: Far,
    _server: Serving,
}

impl Both {
    fn new() -> Both {
        let (here, behind) = (Lab::new(), Lab::new());
        let server = Serving::start(&behind);
        Both { here, far: Far::of(&server), behind, _server: server }
    }

    /// The same exit code, words and data, and then again as JSON where asking twice changes nothing.
    #[track_caller]
    fn alike(&self, args: &[&str]) -> Value {
        let args = [&["--json"], args].concat();
        let (here, there) = (self.here.lodger(&args), self.far.run(&args));
        assert_eq!((here.code, here.stderr.as_str()), (there.code, there.stderr.as_str()), "{here:#?}\n{there:#?}");
        let (here, there) = (here.json(), there.json());
        assert_eq!(lasting(here), lasting(there.clone()), "{args:?}");
        there
    }

    /// Once calls that change nothing are on record there, which takes a moment.
    fn come_to_be_alike(&self, args: &[&str]) {
        let here = lasting(self.here.json(args));
        until(|| (lasting(self.far.json(args)) == here).then_some(()));
    }

    /// What people are told.
    #[track_caller]
    fn told_alike(&self, args: &[&str]) -> Ran {
        let (here, there) = (self.here.lodger(args), self.far.run(args));
        assert_eq!(
            (here.code, here.stdout.as_str(), here.stderr.as_str()),
            (there.code, there.stdout.as_str(), there.stderr.as_str()),
            "{args:?}"
        );
        there
    }
}

#[test]
fn an_addon_lives_there_as_it_does_here() {
    let both = Both::new();
    let plans = |manifest: &mut Value| manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
    let first = both.here.well_behaved_package(plans);
    let second = Lab::new();
    let second = (
        second.well_behaved_package(|manifest| {
            plans(manifest);
            manifest["version"] = "1.1.0".into();
            manifest["limits"]["memory_bytes"] = (96 << 20).into();
        }),
        second,
    );
    let dump = both.far.lab.path("dump");
    let dump = dump.to_str().unwrap();

    both.told_alike(&["list"]);
    both.told_alike(&["install", &first, "--yes"]);
    assert_eq!(both.alike(&["install", &first, "--yes"])["changed"], false);
    assert_eq!(both.alike(&["list"])[0]["state"], "installed");
    both.told_alike(&["enable", "probe"]);
    assert_eq!(both.alike(&["enable", "good/probe"])["changed"], false);
    let refused = both.alike(&["add", "shop", "probe", "--option", "size=9"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("unknown option size"), "{refused}");
    let added = both.alike(&["add", "shop", "probe", "--plan", "small"]);
    assert_eq!((&added["created"], &added["plan"]), (&json!(true), &json!("small")));
    assert_eq!(both.alike(&["add", "shop", "probe"])["created"], false);
    both.alike(&["add", "shop", "probe", "--plan", "large"]);
    both.alike(&["add", "blog", "probe", "--as", "second"]);
    both.told_alike(&["plan", "blog", "probe", "large", "--as", "second"]);
    both.alike(&["plan", "blog", "probe", "huge", "--as", "second"]);
    for verb in ["suspend", "resume", "resume"] {
        both.alike(&[verb, "shop", "probe"]);
    }
    both.told_alike(&["suspend", "shop", "probe"]);
    both.told_alike(&["resume", "shop", "probe"]);
    both.alike(&["apps"]);
    both.alike(&["url", "wiki", "good/probe"]);
    both.alike(&["env", "shop"]);
    both.alike(&["url", "shop", "probe"]);
    both.alike(&["url", "blog", "probe", "--as", "second"]);
    both.told_alike(&["set", "probe", "PLAIN=other", "SECRET=hush-hush"]);
    assert_eq!(both.alike(&["set", "probe", "PLAIN=other", "SECRET="])["changed"], json!(["SECRET"]));
    both.alike(&["info", "probe"]);
    both.alike(&["explain", "probe"]);
    both.told_alike(&["explain", "probe"]);
    both.come_to_be_alike(&["logs", "probe"]);
    both.come_to_be_alike(&["calls", "probe"]);
    assert_eq!(both.alike(&["calls", "--limit", "2"]).as_array().unwrap().len(), 2);
    // It has more calls in flight than a command.
    let findings = both.far.json(&["doctor"]).to_string();
    assert_eq!(findings, both.here.json(&["doctor"]).to_string().replace(" 4 calls", " 64 calls"));
    both.told_alike(&["reconcile"]);
    both.alike(&["reconcile", "probe", "--retry"]);
    both.alike(&["dump", "shop", "probe", "--output", dump]);

    both.alike(&["upgrade", "probe", &second.0]);
    let widens = both.told_alike(&["upgrade", "probe", &second.0]).stderr;
    assert!(widens.contains("beyond what it may in 1.0.0") && widens.contains("96 MiB"), "{widens}");
    let digest = widens.lines().find_map(|line| line.strip_prefix("grant ")).unwrap();
    both.told_alike(&["upgrade", "probe", &second.0, "--accept-grant", digest]);
    assert_eq!(both.alike(&["upgrade", "probe", &second.0])["changed"], false);
    both.told_alike(&["rollback", "probe", "--yes"]);
    both.alike(&["rollback", "probe", "--yes"]);

    both.alike(&["disable", "probe"]);
    both.told_alike(&["remove", "shop", "probe", "--keep-data"]);
    both.alike(&["add", "shop", "probe"]);
    both.told_alike(&["remove", "shop", "probe"]);
    both.told_alike(&["remove", "shop", "probe"]);
    let calls = both.behind.json(&["calls"]);
    assert!(calls[0]["actor"].as_str().unwrap().starts_with("token "), "{calls}");
    both.alike(&["uninstall", "probe"]);
    assert_eq!(both.alike(&["disable", "probe", "--force"])["state"], "installed");
    both.told_alike(&["uninstall", "probe"]);
    for verb in ["info", "explain", "enable", "disable", "calls", "logs", "uninstall", "reconcile"] {
        both.alike(&[verb, "probe"]);
        both.alike(&[verb, "No Name"]);
    }
    for args in [&["env", "wiki"][..], &["env", "Not An App"]] {
        both.alike(args);
    }
    // Nothing has happened here.
    assert_eq!(both.far.lab.json(&["list"]), json!([]));
    assert_eq!(both.far.lab.json(&["calls"]), json!([]));
}

#[test]
fn hooks_that_fail_there_end_the_command_as_here() {
    let both = Both::new();
    let mut says_no = probe_manifest("says-no", 1000);
    says_no["config_vars"] = json!(["PROBE_URL"]);
    for (name, manifest) in [
        ("refuses", says_no),
        ("panic", probe_manifest("traps", 60_000)),
        ("endless_loop", probe_manifest("loops", 300)),
    ] {
        let dir = both.here.package(name, &manifest, component(name)).display().to_string();
        both.alike(&["install", &dir, "--yes"]);
    }
    both.alike(&["enable", "says-no/probe"]);
    assert_eq!(both.alike(&["add", "denied", "says-no/probe"])["error"]["code"], "refused");
    for addon in ["traps/probe", "loops/probe"] {
        let ran = both.far.run(&["enable", addon]).exits(3);
        assert!(ran.stderr.contains("hint: "), "{ran:?}");
    }
    assert_eq!(both.far.run(&["doctor"]).code, 1);
    let error = both.alike(&["enable", "probe"]);
    assert_eq!(error["error"]["code"], "ambiguous-addon");
}

#[test]
fn addons_that_need_each_other_come_and_go_there_too() {
    let both = Both::new();
    let package = |name: &str, needs: Value| {
        let mut manifest = probe_manifest("t", 60_000);
        (manifest["name"], manifest["config_vars"], manifest["depends"]) = (json!(name), json!([]), needs);
        both.here.package(name, &manifest, component("hooks_all")).display().to_string()
    };
    let top = package("top", json!([{ "namespace": "t", "name": "base" }]));
    let base = package("base", json!([]));
    both.alike(&["install", &top, "--yes"]);
    // Whatever the order they are given in.
    let done = both.alike(&["install", &top, &base, "--yes"]);
    assert_eq!([&done[0]["id"], &done[1]["id"]], [&json!("t/base"), &json!("t/top")]);
    let said = both.told_alike(&["enable", "top"]).stderr;
    assert_eq!(said, "enabled t/base, which is needed first\nenabled t/top\n");
    both.alike(&["disable", "base"]);
    assert_eq!(both.alike(&["disable", "base", "--force"])["disabled_first"], json!(["t/top"]));
}

#[test]
fn a_dump_comes_from_there_whole_and_goes_back() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    let far = Far::of(&server);
    let secrets = root().join("guest-examples/app-secrets").display().to_string();
    far.run(&["install", &secrets, "--yes"]).ok();
    far.run(&["enable", "app-secrets"]).ok();
    for app in ["shop", "blog"] {
        far.run(&["add", app, "app-secrets"]).ok();
    }
    let dumped = far.run(&["dump", "shop", "app-secrets"]).ok();
    assert_eq!(dumped.stdout, lab.lodger(&["dump", "shop", "app-secrets"]).ok().stdout);
    let file = far.lab.write("shop.dump", &dumped.stdout);
    let answer = far.json(&["restore", "blog", "lodger/app-secrets", "--input", file.to_str().unwrap()]);
    assert_eq!(answer["bytes"], dumped.stdout.len());
    assert_eq!(far.json(&["env", "blog"]), lab.json(&["env", "shop"]));
    // What is no dump changes nothing, and what is refused is written nowhere.
    let bad = far.lab.write("bad.dump", "nonsense");
    far.run(&["--json", "restore", "blog", "app-secrets", "--input", bad.to_str().unwrap()]).fails_with(1, "refused");
    assert_eq!(far.json(&["env", "blog"]), lab.json(&["env", "shop"]));
    let to = far.lab.path("wiki.dump");
    let to = to.to_str().unwrap();
    far.run(&["--json", "dump", "wiki", "app-secrets", "--output", to]).fails_with(1, "unknown-resource");
    assert!(!far.lab.path("wiki.dump").exists());

    // One that breaks off is none.
    let mut manifest = probe_manifest("greedy", 2000);
    manifest["config_vars"] = json!(["PROBE_URL"]);
    let endless = lab.package("greedy", &manifest, component("dump_endless")).display().to_string();
    far.run(&["install", &endless, "--yes"]).ok();
    far.run(&["enable", "greedy/probe"]).ok();
    far.run(&["add", "shop", "greedy/probe"]).ok();
    let output = far.run(&["--json", "dump", "shop", "greedy/probe", "--output", to]);
    assert_eq!(
        output.fails_with(4, "server-answer")["message"].as_str().map(|said| said.contains("broke off")),
        Some(true)
    );
    assert!(!far.lab.path("wiki.dump").exists());
}

#[test]
fn who_may_not_is_refused_and_told_why() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let as_ = |token: &str| Far::new(server.url("/"), token);
    let fails =
        |far: &Far, args: &[&str], exit: i32, code: &str| far.run(&[&["--json"], args].concat()).fails_with(exit, code);
    let reader = as_(&token(&lab, "read"));
    assert_eq!(reader.json(&["list"])[0]["id"], "good/probe");
    for args in [
        &["disable", "probe"][..],
        &["add", "shop", "probe"],
        &["dump", "shop", "probe", "--output", "x"],
        &["set", "probe", "PLAIN=x"],
    ] {
        fails(&reader, args, 1, "other-scope");
    }
    let app = as_(&token(&lab, "app:shop"));
    // It may not look at what there is, and so names the addon in full.
    fails(&app, &["add", "shop", "probe"], 1, "other-scope");
    app.run(&["add", "shop", "good/probe"]).ok();
    fails(&app, &["add", "blog", "good/probe"], 1, "other-scope");
    assert!(app.json(&["env", "shop"]).is_object());

    fails(&as_(&format!("lodger_{}_{}", "0".repeat(16), "0".repeat(64))), &["list"], 1, "bad-token");
    let expired = token(&lab, "manage");
    let store = rusqlite::Connection::open(lab.home().join("lodger.db")).unwrap();
    let id = expired.split('_').nth(1).unwrap();
    assert_eq!(store.execute("UPDATE token SET expires = 1 WHERE id = ?1", [id]).unwrap(), 1);
    fails(&as_(&expired), &["list"], 1, "token-expired");
    fails(&as_("two words"), &["list"], 2, "invalid-token");

    // A token of a file, which what is nearer comes before; and none at all.
    let far = as_("lodger_of_nobody");
    let file = far.lab.write("token", format!("{}\n", server.token)).display().to_string();
    far.run(&["list", "--token-file", &file]).ok();
    let url = server.url("");
    let plain = |args: &[&str]| far.lab.lodger(&[&["--json", "--server", &url], args].concat());
    plain(&["list"]).fails_with(1, "no-token");
    plain(&["list", "--token-file", &file]).ok();
    plain(&["list", "--token-file", "/nowhere"]).fails_with(1, "failed");
    let mut command = far.lab.command(&["list", "--server", &url]);
    Ran::of(&["list"], command.env("LODGER_TOKEN_FILE", &file).output().unwrap()).ok();
    assert!(!log(&lab).contains(server.token.rsplit_once('_').unwrap().1));

    for (url, code) in
        [("http://example.com", "clear-text"), ("http://10.0.0.1:7420", "clear-text"), ("localhost", "invalid-url")]
    {
        fails(&Far::new(url.to_owned(), &server.token), &["list"], 2, code);
    }
    let gone = Far::of(&server);
    drop(server);
    fails(&gone, &["list"], 4, "server-unreachable");
}

#[test]
fn what_is_about_a_home_is_never_done_here_when_it_was_asked_for_there() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    let far = Far::of(&server);
    let before = far.lab.installed_files();
    for args in [
        &["backup", "x"][..],
        &["restore-home", "x"],
        &["run", "shop", "--", "true"],
        &["serve"],
        &["token", "list"],
        &["events"],
        &["adopt"],
    ] {
        let error = far.run(&[&["--json"], args].concat()).fails_with(2, "usage");
        assert_eq!(error["message"], "no server can be asked for this", "{args:?}");
    }
    let url = server.url("");
    for args in
        [&["new", "x"][..], &["check", "."], &["pack"], &["search"], &["publish", "x"], &["completions", "bash"]]
    {
        far.lab.lodger(&[args, &["--json", "--server", &url]].concat()).fails_with(2, "usage");
    }
    // What has nothing to do with any home goes on where only the environment names a server.
    far.run(&["completions", "bash"]).ok();
    far.run(&["new", "mine"]).ok();
    for args in [
        &["install", "x", "--dry-run"][..],
        &["enable", "probe", "--dry-run"],
        &["disable", "probe", "--dry-run"],
        &["add", "shop", "probe", "--dry-run"],
        &["remove", "shop", "probe", "--dry-run"],
        &["uninstall", "probe", "--dry-run"],
        &["set", "probe", "PLAIN=x", "--dry-run"],
        &["plan", "shop", "probe", "x", "--dry-run"],
        &["suspend", "shop", "probe", "--dry-run"],
        &["resume", "shop", "probe", "--dry-run"],
        &["rollback", "probe", "--dry-run"],
        &["upgrade", "probe", "x", "--dry-run"],
        &["restore", "shop", "probe", "--dry-run"],
        &["install", "x", "--dev"],
        &["doctor", "--fix"],
    ] {
        let error = far.run(&[&["--json"], args].concat()).fails_with(2, "usage");
        assert!(error["message"].as_str().unwrap().contains("is not for a server: "), "{args:?}: {error}");
    }
    assert_eq!(far.run(&["reconcile", "--watch"]).exits(2).stdout, "");
    assert_eq!(lab.json(&["info", "probe"])["state"], "enabled");
    assert_eq!(lab.json(&["apps"]), json!({}));
    assert_eq!(far.lab.installed_files(), before);
}

/// Answers this to whatever it is asked.
fn answering(answer: &'static str) -> Far {
    let server = Loopback::raw(move |stream| {
        crate::loopback::head_of(stream);
        let kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        write!(stream, "{kind}Content-Length: {}\r\n\r\n{answer}", answer.len())
    });
    Far::new(format!("http://{}", server.authority()), "lodger_0_hush")
}

#[test]
fn a_server_that_means_no_good_acts_on_no_terminal_and_no_shell() {
    let loud = r#"[{"id":"a/b","version":"1\u001b[2J\u202e\nfake","state":"enabled","digest":"x","dev":false,
        "data_bytes":0,"data_files":0,"installed_at":0}]"#;
    let ran = answering(loud).run(&["list"]).ok();
    assert_plain(&ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1);
    for (args, answer) in [
        (&["env", "shop"][..], r#"{"X=1; touch /tmp/owned; Y":"v"}"#),
        (&["env", "shop"], r#"{"LD_PRELOAD":"/tmp/evil.so"}"#),
        (&["env", "shop"], r#"{"PATH":"/tmp"}"#),
        (
            &["add", "shop", "a/b"],
            r#"{"app":"shop","addon":"a/b","alias":null,"id":null,"plan":null,"config":{"\u001b[2J":"v"},"created":true,"message":null}"#,
        ),
    ] {
        let ran = answering(answer).run(args).exits(1);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains("which no app is ever given"), "{ran:?}");
        assert_plain(&ran.stderr);
    }
    // A value is the app's, whatever is in it.
    let ran = answering(r#"{"A_URL":"it's $HOME\n`x`"}"#).run(&["env", "shop"]).ok();
    assert_eq!(ran.stdout, "export A_URL='it'\\''s $HOME\n`x`'\n");
    let ran =
        answering(r#"[{"resource":null,"text":"one\u001b[31m\ntwo"}]"#).run(&["logs", "a/b", "--service", "s"]).ok();
    assert_eq!(ran.stdout, "s one\\u{1b}[31m\ns two\n");
    for answer in [r#"[{"id":"A B"}]"#, r#"[{"state":"on fire"}]"#, "{}", "null", "[[]]"] {
        answering(answer).run(&["--json", "list"]).fails_with(4, "server-answer");
    }
}
