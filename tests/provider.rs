//! `lodger provider`: what it says of providers, good ones and bad ones of both dialects, over real HTTP.
#![expect(clippy::disallowed_methods, reason = "providers listen, and call back")]

mod fake;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::fake::{Fake, Kind, PASSWORD, SALT, Vice};
use crate::loopback::{self, Loopback};
use crate::server::Serving;
use crate::support::{Lab, Ran, Running, assert_plain, root, until};

const KINDS: [Kind; 3] = [Kind::Scalingo, Kind::HerokuGet, Kind::HerokuPost];

/// An author with a manifest, and nothing else.
struct Author {
    lab: Lab,
}

impl Author {
    fn of(manifest: &Value) -> Author {
        let lab = Lab::new();
        lab.write("manifest.json", manifest.to_string());
        Author { lab }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(&[&["provider"], args].concat());
        command.env_remove("LODGER_HOME").env("XDG_CACHE_HOME", self.lab.path("cache"));
        command
    }

    /// Without waiting for it.
    fn start(&self, args: &[&str]) -> Running {
        Running::of(args, self.command(args))
    }

    fn run(&self, args: &[&str]) -> Ran {
        let ran = Ran::of(args, self.command(args).output().unwrap());
        for secret in [PASSWORD, SALT] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
        }
        assert_plain(&ran.stdout);
        assert_plain(&ran.stderr);
        ran
    }

    #[track_caller]
    fn says(&self, args: &[&str], stdout: &str) {
        let ran = self.run(args).ok();
        assert_eq!(ran.stdout, stdout, "{ran:?}");
    }

    /// The demands that are not met, and how many resources are left behind.
    fn failed(&self, args: &[&str]) -> Vec<String> {
        let ran = self.run(&[&["test", "--json", "--wait", "1"], args].concat()).exits(1);
        let report = ran.json();
        let checks = report["checks"].as_array().unwrap();
        let failed: Vec<String> = checks
            .iter()
            .filter(|check| check["result"] == "failed")
            .map(|check| format!("{}: {}", check["name"].as_str().unwrap(), check["why"].as_str().unwrap()))
            .collect();
        assert_eq!(report["failed"], failed.len());
        failed
    }
}

#[test]
fn it_is_used_as_scalingos_own_tester_is() {
    let provider = Fake::start(Kind::Scalingo, Vice::None);
    let author = Author::of(&provider.manifest());
    let mut invalid = provider.manifest();
    invalid["password"] = json!("");
    invalid["config_vars"] = json!([]);
    author.lab.write("manifest-invalid.json", invalid.to_string());
    for args in [&["-m", "./manifest-invalid.json"][..], &["-m", "./manifest-invalid.json", "provision"]] {
        let ran = author.run(args).exits(1);
        let said = "Errors in the manifest:\n  → password can't be blank\n  → config_vars should have at least one element \
                    environment variable\n";
        assert_eq!(ran.stdout, said);
    }
    author.says(&["provision"], "→ OK\n");
    author.says(&["provision", "--plan", "premium"], "→ OK\n");
    author.says(&["list"], "- addon-id-1 → free\n- addon-id-2 → premium\n");
    author.says(&["update", "--plan", "premium", "addon-id-1"], "→ OK\n");
    author.says(&["list"], "- addon-id-1 → premium\n- addon-id-2 → premium\n");
    author.says(&["deprovision", "addon-id-2"], "→ OK\n");
    author.says(&["list"], "- addon-id-1 → premium\n");
    assert_eq!(provider.state().resources["addon-id-1"].plan, "premium");
    assert_eq!(provider.state().resources.len(), 1);
    let asked = provider.state().asked.clone();
    assert!(asked[0].starts_with(r#"POST /resources {"app_id":"lodger-"#), "{asked:?}");
    assert!(asked[0].contains(r#","options":null,"plan":"free","uuid":""#), "{asked:?}");
    assert!(asked[1].contains(r#""options":{"size":"512"},"plan":"premium""#), "{asked:?}");
    assert_eq!(asked[2], r#"PUT /resources/addon-id-1 {"options":{"size":"512"},"plan":"premium"}"#);
    assert_eq!((asked[3].as_str(), asked.len()), ("DELETE /resources/addon-id-2", 4));

    let ran = author.run(&["provision", "--plan", "gold"]).exits(1);
    assert_eq!(
        ran.stderr,
        "error: Plan gold is not defined in manifest (unknown-plan)\nhint: there are free, premium\n"
    );
    author.run(&["update", "addon-id-1"]).exits(2);
    let ran = author.run(&["update", "--plan", "free", "nobody"]).exits(1);
    assert!(ran.stderr.starts_with("error: Addon returned bad status: 404 Not Found expected 200"), "{ran:?}");
    assert_eq!(author.run(&["deprovision", "nobody"]).ok().stderr, "Notice: the provider has no nobody any more\n");
    for id in ["", ".", "..", "a\nb"] {
        author.run(&["deprovision", id]).exits(1);
    }
    for (args, would) in [
        (&["provision"][..], "would provision plan free at ROOT/resources\n"),
        (&["update", "addon-id-1", "--plan", "free"], "would move addon-id-1 to plan free at ROOT/resources\n"),
        (&["deprovision", "addon-id-1"], "would deprovision addon-id-1 at ROOT/resources\n"),
        (&["purge"], "would forget 1 resource\n"),
    ] {
        let ran = author.run(&[args, &["--dry-run"]].concat()).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.replace(&provider.root(), "ROOT").as_str()), ("", would));
    }
    author.says(&["purge"], "→ OK\n");
    author.says(&["list"], "");
    assert_eq!(provider.state().resources.len(), 1, "it is only forgotten");
    assert_eq!(provider.state().asked.len(), 6);
}

#[test]
fn what_a_provider_answers_is_told_as_json() {
    let provider = Fake::start(Kind::HerokuPost, Vice::Later);
    let author = Author::of(&provider.manifest());
    let made = author.run(&["--json", "provision", "--plan", "any"]).ok().json();
    assert_eq!((&made["id"], &made["status"], &made["plan"]), (&json!("addon-id-1"), &json!(202), &json!("any")));
    assert_eq!(made["config"]["FAKE_KEY"], "secret-of-the-resource", "of what it has called back with");
    assert_eq!(author.run(&["--json", "list"]).ok().json()[0]["id"], "addon-id-1");
    let link = author.run(&["--json", "sso", "addon-id-1"]).ok().json();
    assert_eq!((&link["url"], &link["post"]), (&json!(format!("{}/sso", provider.root())), &json!(true)));
    assert_eq!(link["fields"]["resource_id"], made["uuid"]);
    for field in ["id", "timestamp", "token", "nav-data", "email", "app", "user_id", "resource_token"] {
        assert!(link["fields"][field].is_string(), "{link}");
    }
    assert_eq!(link["fields"]["user_scoped_resource_token"].as_str().unwrap().len(), 64);
    assert_eq!(author.run(&["--json", "deprovision", "addon-id-1"]).ok().json()["gone"], "done");
    assert_eq!(author.run(&["--json", "purge"]).ok().json(), json!({ "forgotten": 0 }));
}

#[test]
fn what_is_accepted_and_does_not_come_is_said_and_remembered() {
    for (vice, why) in [
        (Vice::Never, "nobody has called back within 1 seconds"),
        (Vice::GivesUp, "it called back that it has given up"),
        (Vice::CallsBackNonsense, "it called back with what is not understood: it is no JSON"),
    ] {
        let provider = Fake::start(Kind::HerokuGet, vice);
        let author = Author::of(&provider.manifest());
        let error = author.run(&["--json", "--wait", "1", "provision"]).fails_with(1, "failed");
        assert_eq!(error["message"], format!("`addon-id-1` was accepted, but {why}"));
        author.says(&["list"], "- addon-id-1 → test\n");
    }
}

#[test]
fn a_link_signs_on_where_the_manifest_says() {
    let provider = Fake::start(Kind::Scalingo, Vice::None);
    let mut manifest = provider.manifest();
    manifest["test"]["sso_url"] = json!("http://localhost:1/sso?lang=fr");
    let author = Author::of(&manifest);
    let link = author.run(&["sso", "a b"]).ok().stdout;
    assert!(link.starts_with("http://localhost:1/sso?lang=fr&id=a%20b&token="), "{link}");
    let provider = Fake::start(Kind::HerokuGet, Vice::None);
    let link = Author::of(&provider.manifest()).run(&["sso", "x"]).ok().stdout;
    assert!(link.starts_with(&format!("{}/heroku/resources/x?token=", provider.root())), "{link}");
}

#[test]
fn a_good_provider_meets_every_demand_and_is_left_as_it_was() {
    for kind in KINDS {
        for vice in [Vice::None, Vice::Old, Vice::Limits, Vice::Later] {
            let provider = Fake::start(kind, vice);
            let author = Author::of(&provider.manifest());
            let ran = author.run(&["test"]).ok();
            assert!(ran.stdout.contains("\npassed: all "), "{ran:?}");
            assert_eq!(provider.state().resources.len(), 0, "{ran:?}");
            assert!(provider.state().asked.len() > 20, "{ran:?}");
            author.says(&["list"], "");
        }
    }
}

#[test]
fn what_a_server_offers_meets_every_demand() {
    let lab = Lab::new();
    lab.well_behaved(|manifest| {
        manifest["plans"] = json!([{ "name": "small", "options": { "size": "1" } }, { "name": "large" }]);
        manifest["provider"] = json!({ "regions": ["us"], "short_description": "A probe" });
    });
    let server = Serving::start(&lab);
    for dialect in ["scalingo", "heroku"] {
        // It is reached here while it is tested, and there by the platform.
        let (there, here) = ("https://lodger.example", server.url(""));
        let args = ["provider", "manifest", "probe", "--dialect", dialect, "--url", there, "--test-url", &here];
        let manifest = lab.json(&args);
        let author = Author::of(&manifest);
        let checked = author.run(&["check"]).ok();
        assert_eq!(checked.stdout, "→ OK\n");
        let ran = author.run(&["--json", "test"]);
        let report = ran.json();
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["result"] != "failed"), "{report:#}");
        assert!(checks.len() > 40, "{report:#}");
        assert_eq!(lab.json(&["apps"]), json!({}));
        author.run(&["provision", "--plan", "large"]).ok();
        let id = author.run(&["--json", "list"]).ok().json()[0]["id"].as_str().unwrap().to_owned();
        author.run(&["deprovision", &id]).ok();
    }
}

#[test]
fn every_demand_is_named() {
    let provider = Fake::start(Kind::HerokuPost, Vice::None);
    let ran = Author::of(&provider.manifest()).run(&["test"]).ok();
    let said = ran.stdout.replace(&provider.root(), "ROOT");
    assert_eq!(said, include_str!("provider/heroku.txt"), "{said}");
    let provider = Fake::start(Kind::Scalingo, Vice::Old);
    let ran = Author::of(&provider.manifest()).run(&["test"]).ok();
    let said = ran.stdout.replace(&provider.root(), "ROOT");
    assert_eq!(said, include_str!("provider/scalingo.txt"), "{said}");
}

#[test]
fn a_bad_provider_is_told_what_it_does_not_meet_and_has_nothing_left() {
    let heroku: &[(Vice, &[&str])] = &[
        (Vice::ErrorPages, &["is answered 200, 201 or 202: expected 200, 201 or 202, got 500 Internal Server Error"]),
        (Vice::Redirects, &["is answered 200, 201 or 202: expected 200, 201 or 202, got 302 Found"]),
        (
            Vice::UndeclaredVariable,
            &[
                "sets variables that the manifest declares, and no others: OTHER is not part of the config_vars array of the manifest",
            ],
        ),
        (Vice::NoUrl, &["sets variables named *_URL to URLs: FAKE_URL is not a valid URI"]),
        (Vice::NoLogDrain, &["has a log_drain_url, since the manifest wants logs: must return a log_drain_url"]),
        (Vice::Never, &["calls back after 202, and is done: nobody has called back within 1 seconds"]),
        (Vice::GivesUp, &["calls back after 202, and is done: it called back that it has given up"]),
        (
            Vice::CallsBackNonsense,
            &["calls back after 202, and is done: it called back with what is not understood: it is no JSON"],
        ),
        (Vice::OneForAll, &["with other uuids makes others, for the same app too: there is one id for several uuids"]),
        (
            Vice::EmptyChange,
            &["is answered with a JSON object: Addon returned bad JSON: EOF while parsing a value at line 1 column 0"],
        ),
        (Vice::TakesNoPlan, &["to no plan is refused: expected 422, got 200 OK"]),
        (
            Vice::DeleteBreaks,
            &["is answered 204, 404 or 410 when asked again: expected 204, got 500 Internal Server Error"],
        ),
        (Vice::NoHeader, &["shows Heroku's header: could not find Heroku layout"]),
        (Vice::TakesLateTokens, &["refuses a token that is 6 minutes old: expected 403, got 200 OK"]),
        (Vice::TakesEarlyTokens, &["refuses a token of 6 minutes from now: expected 403, got 200 OK"]),
        (Vice::TakesTokensTwice, &["refuses the same token when it comes again: expected 403, got 200 OK"]),
        (
            Vice::LooksUpFirst,
            &[
                "refuses PUT of a resource that there is not with wrong credentials: expected 401, got 404 Not Found",
                "refuses DELETE of a resource that there is not with wrong credentials: expected 401, got 404 Not Found",
                "refuses DELETE of the resource that is gone with wrong credentials: expected 401, got 404 Not Found",
            ],
        ),
        (
            Vice::ComparesPrefix,
            &["refuses to provision with the beginning of the password: expected 401, got 201 Created"],
        ),
    ];
    for (vice, wanted) in heroku {
        let provider = Fake::start(Kind::HerokuPost, *vice);
        let failed = Author::of(&provider.manifest()).failed(&[]);
        assert_eq!(failed, *wanted, "{vice:?}");
        assert_eq!(provider.state().resources.len(), 0, "{vice:?}");
    }
    let provider = Fake::start(Kind::HerokuGet, Vice::ForgetsUuids);
    let failed = Author::of(&provider.manifest()).failed(&[]);
    assert_eq!(
        failed,
        ["with the same uuid has the same id, and makes nothing: addon-id-1 became addon-id-2: there are two now"]
    );
    assert_eq!(provider.state().resources.len(), 0);
    let provider = Fake::start(Kind::Scalingo, Vice::DeleteTells);
    let failed = Author::of(&provider.manifest()).failed(&[]);
    assert_eq!(failed, [r#"is answered 204, with nothing in it: Expected empty body, got '{"gone":true}'"#]);
    assert_eq!(provider.state().resources.len(), 0);
    let provider = Fake::start(Kind::Scalingo, Vice::LetsAllIn);
    let failed = Author::of(&provider.manifest()).failed(&[]);
    // Five, one and two of them; the last took away what everything else is asked about.
    assert!(failed.len() > 8 && failed[..8].iter().all(|line| line.starts_with("refuses ")), "{failed:#?}");
    assert_eq!(provider.state().resources.len(), 0);
    let provider = Fake::start(Kind::HerokuPost, Vice::TakesAnyToken);
    assert_eq!(Author::of(&provider.manifest()).failed(&[]).len(), 5);
}

#[test]
fn a_test_that_is_broken_off_takes_away_what_it_made() {
    let provider = Fake::start(Kind::HerokuPost, Vice::HangsOnChange);
    let author = Author::of(&provider.manifest());
    let test = author.start(&["test"]);
    until(|| provider.state().asked.last()?.starts_with("PUT /heroku/resources/addon-id-1 ").then_some(()));
    kill_process(Pid::from_raw(test.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let ran = test.wait().exits(1);
    assert!(ran.stdout.contains("✓ takes away addon-id-3\n"), "{ran:?}");
    assert!(ran.stdout.contains("\nthe test\n  ✗ is brought to its end: it was broken off\nfailed: 1 of "), "{ran:?}");
    assert_eq!(provider.state().resources.len(), 0);
}

#[test]
fn over_tls_a_provider_proves_who_it_is() {
    let provider = Fake::start(Kind::Scalingo, Vice::None);
    let authority = root().join("tests/tls/authority.pem");
    for (serve, trusted, code, words) in [
        (loopback::itself as fn(&mut TcpStream) -> std::io::Result<()>, true, "provider-status", "302 Found"),
        (loopback::itself, false, "provider-untrusted", "does not prove who it is"),
        (loopback::somebody_else, true, "provider-untrusted", "does not prove who it is"),
    ] {
        let server = Loopback::raw(serve);
        let mut manifest = provider.manifest();
        manifest["test"]["base_url"] = json!(format!("https://{}/resources", server.authority()));
        let author = Author::of(&manifest);
        let mut command = author.command(&["--json", "provision"]);
        if trusted {
            command.env("SSL_CERT_FILE", &authority);
        }
        let error = Ran::of(&[], command.output().unwrap()).fails_with(1, code);
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_its_reason() {
    for (vice, code, words) in [
        (Vice::NoId, "provider-id", "Addon returned an empty ID"),
        (Vice::EmptyId, "provider-id", "Addon returned an empty ID"),
        (Vice::IdsLeadElsewhere, "provider-id", "`..` cannot be an id: in a path it would lead elsewhere"),
        (
            Vice::NumberForVariable,
            "provider-answer",
            "Addon returned bad JSON: invalid type: integer `7`, expected a string",
        ),
        (Vice::UndeclaredVariable, "provider-undeclared", "OTHER is not part of the config_vars array of the manifest"),
        (
            Vice::ErrorPages,
            "provider-status",
            r"500 Internal Server Error expected 201, 202 (or exceptionnaly 200 for heroku compatibility): <html><h1>\u{1b}[31mRuby!</h1></html>",
        ),
        (Vice::Redirects, "provider-status", "302 Found expected 201"),
        (Vice::EchoesSecrets, "provider-status", r"no [redacted] and [redacted]\u{202e}"),
        (Vice::Floods, "provider-answer", "answers with more than 65536 bytes"),
        (Vice::EndlessHead, "provider-answer", "broke off, or answers what is no HTTP: "),
        (Vice::Garbage, "provider-answer", "broke off, or answers what is no HTTP: "),
        (Vice::ClosesInTheMiddle, "provider-answer", "broke off, or answers what is no HTTP: "),
        (Vice::Silent, "provider-too-slow", "has not answered within 1 seconds"),
        (Vice::HangsInTheMiddle, "provider-too-slow", "has not answered within 1 seconds"),
    ] {
        let provider = Fake::start(Kind::Scalingo, vice);
        let author = Author::of(&provider.manifest());
        let error = author.run(&["--json", "--timeout", "1", "provision"]).fails_with(1, code);
        assert!(error["message"].as_str().unwrap().contains(words), "{vice:?}: {error}");
        // The test of all demands comes to its end whatever it is answered.
        let failed = author.failed(&["--timeout", "1"]);
        assert!(!failed.is_empty());
        // What has no id that can be asked with cannot be taken away.
        let has_id = !matches!(vice, Vice::NoId | Vice::EmptyId | Vice::IdsLeadElsewhere);
        let made_by_hand = usize::from(vice == Vice::NumberForVariable || vice == Vice::UndeclaredVariable);
        if has_id {
            assert_eq!(provider.state().resources.len(), made_by_hand, "{vice:?}");
        }
    }
}

#[test]
fn credentials_go_nowhere_but_to_this_machine_or_over_tls() {
    let provider = Fake::start(Kind::Scalingo, Vice::None);
    for (url, args, exit, code) in [
        ("http://192.0.2.1/resources", &[][..], 2, "provider-not-here"),
        ("https://192.0.2.1/resources", &[], 2, "provider-not-here"),
        ("http://[::ffff:192.0.2.1]/resources", &[], 2, "provider-not-here"),
        ("http://192.0.2.1/resources", &["--allow-remote"], 2, "clear-text"),
        ("http://127.0.0.1:1/resources", &[], 1, "provider-unreachable"),
        ("ftp://localhost/resources", &[], 1, "provider-url"),
        ("//localhost/resources", &[], 1, "provider-url"),
        ("http://user:pw@localhost/resources", &[], 1, "provider-url"),
        ("", &[], 1, "provider-url"),
    ] {
        let mut manifest = provider.manifest();
        manifest["test"]["base_url"] = json!(url);
        let author = Author::of(&manifest);
        author.run(&[&["--json", "provision"], args].concat()).fails_with(exit, code);
    }
    assert_eq!(provider.state().asked.len(), 0);
    let mut manifest = provider.manifest();
    manifest["test"]["base_url"] = json!(format!("{}/resources", provider.root().replace("127.0.0.1", "localhost")));
    Author::of(&manifest).run(&["provision"]).ok();
    manifest["username"] = json!("us:er");
    Author::of(&manifest).run(&["--json", "provision"]).fails_with(1, "provider-credentials");
    manifest.as_object_mut().unwrap().remove("test");
    Author::of(&manifest).run(&["--json", "provision"]).fails_with(1, "provider-url");
}

#[test]
fn everything_wrong_with_a_manifest_is_said_at_once_in_its_order() {
    let scalingo = Fake::start(Kind::Scalingo, Vice::None).manifest();
    let heroku = Fake::start(Kind::HerokuPost, Vice::None).manifest();
    let with = |manifest: &Value, changes: &[(&str, Value)]| {
        let mut manifest = manifest.clone();
        for (place, value) in changes {
            *manifest.pointer_mut(place).unwrap() = value.clone();
        }
        manifest
    };
    let url = |text: &str, why: &str| format!("is not a valid URL: parse \"{text}\": {why}");
    for (manifest, errors, warnings) in [
        (scalingo.clone(), vec![], vec![]),
        (heroku.clone(), vec![], vec![]),
        (
            json!({}),
            vec![
                "username can't be blank".to_owned(),
                "password can't be blank".to_owned(),
                "sso_salt can't be blank".to_owned(),
                "short_description can't be blank".to_owned(),
                "description can't be blank".to_owned(),
                "config_vars should have at least one element environment variable".to_owned(),
                "plans should have at least one element plan".to_owned(),
            ],
            vec![
                "name is blank",
                "production is missing: there is nothing to send requests to",
                "test is missing: there is nothing to send requests to",
            ],
        ),
        (
            with(
                &scalingo,
                &[
                    ("/logo_url", json!(":foo")),
                    ("/production/base_url", json!("http://[::1")),
                    ("/production/sso_url", json!("http://a b/")),
                    ("/test/base_url", json!("http://h/%zz")),
                    ("/test/sso_url", json!("http://h:p\u{1b}/")),
                ],
            ),
            vec![
                format!("logo_url {}", url(":foo", "missing protocol scheme")),
                format!("production.base_url {}", url("http://[::1", "missing ']' in host")),
                format!("production.sso_url {}", url("http://a b/", "invalid character \" \" in host name")),
                format!("test.base_url {}", url("http://h/%zz", "invalid URL escape \"%zz\"")),
                format!("test.sso_url {}", url("http://h:p\\x1b/", "net/url: invalid control character in URL")),
            ],
            vec![],
        ),
        (
            with(
                &scalingo,
                &[
                    ("/name", json!(" ")),
                    ("/username", json!("a:b")),
                    ("/password", json!(" ")),
                    ("/config_vars", json!(["lower", "PATH", "A_B", "A_B"])),
                    ("/production/base_url", json!("http://fake.example/")),
                    ("/test/base_url", json!("")),
                    (
                        "/plans",
                        json!([{ "name": "a", "price": -1 }, { "name": "a", "display_name": "A", "description": "d" }, {}]),
                    ),
                ],
            ),
            vec![],
            vec![
                "name is blank",
                "username has a colon, which Basic auth cannot carry",
                "password is nothing but blanks",
                "config_vars[0]: `lower` is no variable that apps are given",
                "config_vars[1]: `PATH` is no variable that apps are given",
                "config_vars[3]: `A_B` stands twice",
                "production.base_url does not begin with https://",
                "test.base_url is blank",
                "plans[0].display_name is blank",
                "plans[0].price is below nothing",
                "plans[0].description is blank",
                "plans[1].name: `a` stands twice",
                "plans[2].name is blank",
                "plans[2].display_name is blank",
                "plans[2].description is blank",
            ],
        ),
        (json!({ "id": "x" }), vec!["manifest api key: if exists".to_owned()], vec![]),
        (
            json!({ "api": { "config_vars": ["x", "OTHER_URL"], "regions": ["mars", "sydney"], "username": "u" } }),
            vec![
                "manifest id key: if exists".to_owned(),
                "manifest api key: contains at least the US region".to_owned(),
                "manifest api key: contains only valid region names: `mars` is none".to_owned(),
                "manifest api key: contains password".to_owned(),
                "manifest api key: contains test url".to_owned(),
                "manifest api key: contains production url".to_owned(),
                "manifest api key: all config vars are uppercase strings: \"x\" is not a valid ENV key".to_owned(),
                "manifest api key: all config vars are prefixed with the addon id: x is not a valid ENV key - must be \
                 prefixed with _"
                    .to_owned(),
                "manifest api key: deprecated fields: username is deprecated: Please authenticate using the add-on id."
                    .to_owned(),
            ],
            vec![
                "api.regions: kensa does not know `sydney`",
                "config_vars[0]: `x` is no variable that apps are given",
                "api.sso_salt is missing: nobody can be signed on to a dashboard",
            ],
        ),
        (
            with(
                &heroku,
                &[
                    ("/id", json!("Fake!")),
                    ("/api/production", json!("http://fake.example")),
                    ("/api/config_vars", json!(["OTHER_URL"])),
                ],
            ),
            vec![
                "manifest api key: production url uses SSL".to_owned(),
                "manifest api key: all config vars are prefixed with the addon id: OTHER_URL is not a valid ENV key - \
                 must be prefixed with FAKE!_"
                    .to_owned(),
            ],
            vec!["id: `Fake!` is no slug"],
        ),
    ] {
        let author = Author::of(&manifest);
        let ran = author.run(&["check"]);
        let listed: String = errors.iter().map(|error| format!("  → {error}\n")).collect();
        let said = if errors.is_empty() { "→ OK\n".to_owned() } else { format!("Errors in the manifest:\n{listed}") };
        let warned: String = warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (said.as_str(), warned.as_str()), "{manifest}");
        assert_eq!(ran.code, i32::from(!errors.is_empty()));
        let told = author.run(&["--json", "check"]).json();
        assert_eq!((&told["errors"], &told["warnings"]), (&json!(errors), &json!(warnings)));
    }
}

#[test]
fn what_is_no_manifest_is_refused_with_the_place() {
    let author = Author::of(&json!({}));
    for (text, problem) in [
        ("{", "."),
        ("null", "."),
        (r#"{"plans":[{"price":"1"}]}"#, "plans[0].price"),
        (r#"{"plans":[{"name":"a","options":{"n":1}}]}"#, "plans[0].options.n"),
        (r#"{"id":"x","api":{"regions":"us"}}"#, "api.regions"),
    ] {
        author.lab.write("other.json", text);
        let error = author.run(&["--json", "-m", "other.json", "list"]).fails_with(1, "invalid-manifest");
        assert_eq!(error["problems"][0]["path"], problem, "{text}");
    }
    let error = author.run(&["--json", "-m", "nowhere.json"]).fails_with(1, "failed");
    assert!(error["message"].as_str().unwrap().starts_with("Failed to read addon manifest: `nowhere.json`"), "{error}");
    author.lab.write("large.json", format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20)));
    author.run(&["--json", "-m", "large.json"]).fails_with(1, "invalid-manifest");
}

#[test]
fn what_was_provisioned_is_in_a_file_of_ones_own() {
    let (one, other) = (Fake::start(Kind::Scalingo, Vice::None), Fake::start(Kind::HerokuPost, Vice::None));
    let author = Author::of(&one.manifest());
    author.lab.write("other.json", other.manifest().to_string());
    author.run(&["provision"]).ok();
    author.run(&["provision", "-m", "other.json"]).ok();
    author.run(&["provision", "-m", "other.json"]).ok();
    author.says(&["list"], "- addon-id-1 → free\n");
    author.says(&["list", "-m", "other.json"], "- addon-id-1 → test\n- addon-id-2 → test\n");
    author.says(&["purge"], "→ OK\n");
    author.says(&["list", "-m", "other.json"], "- addon-id-1 → test\n- addon-id-2 → test\n");

    let path = author.lab.path("cache/lodger/provider.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let whole = std::fs::read(&path).unwrap();
    for text in [&whole[..whole.len() / 2], b"", b"[]", br#"{"http://x":[{"id":"..","plan":"p","uuid":"u"}]}"#] {
        std::fs::write(&path, text).unwrap();
        let asked = one.state().asked.len();
        let error = author.run(&["--json", "provision"]).fails_with(1, "provider-cache");
        assert_eq!(
            error["hint"],
            format!("`rm '{}'` begins a new one; what it lists stays at its provider", path.display())
        );
        assert_eq!(one.state().asked.len(), asked, "nothing is made that could not be remembered");
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(author.lab.write("theirs", &whole), &path).unwrap();
    author.run(&["--json", "list"]).fails_with(1, "provider-cache");
    std::fs::remove_file(&path).unwrap();
    author.says(&["list"], "");
}
