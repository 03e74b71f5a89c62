//! The marketplace from the command line: a real server as the marketplace, another home as who publishes and installs; and
//! servers that mean no good.

use std::io::Write as _;

use lodger::{Package, Policy};
use serde_json::{Value, json};

use super::market::{MARKET, publish, reviewed};
use super::{Serving, log, packed, token};
use crate::loopback::{Loopback, head_of, itself, somebody_else};
use crate::support::{Lab, Ran, assert_plain, component, probe_manifest, root};

/// Who asks a marketplace.
struct Customer<'a> {
    lab: &'a Lab,
    url: String,
    token: String,
}

impl Customer<'_> {
    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.lab.command(args);
        command.env("LODGER_MARKETPLACE", &self.url).env("LODGER_MARKETPLACE_TOKEN", &self.token);
        let ran = Ran::of(args, command.output().unwrap());
        assert!(!ran.stdout.contains(&self.token) && !ran.stderr.contains(&self.token), "{ran:?}");
        ran
    }

    fn json(&self, args: &[&str]) -> Value {
        self.run(&[&["--json"], args].concat()).ok().json()
    }

    /// A verb that is refused, and leaves nothing behind.
    #[track_caller]
    fn refused(&self, args: &[&str], exit: i32, code: &str) -> Value {
        let (list, files) = (self.lab.json(&["list"]), self.lab.installed_files());
        let error = self.run(&[&["--json"], args].concat()).fails_with(exit, code);
        assert_eq!((self.lab.json(&["list"]), self.lab.installed_files()), (list, files), "{args:?}");
        assert_plain(&self.run(args).stderr);
        error
    }
}

fn manifest(namespace: &str, name: &str, version: &str, depends: Value) -> Value {
    let mut manifest = probe_manifest(namespace, 60_000);
    (manifest["name"], manifest["version"], manifest["config_vars"]) = (json!(name), json!(version), json!([]));
    manifest["depends"] = depends;
    manifest
}

/// The package of an addon that does everything well.
fn package(lab: &Lab, namespace: &str, name: &str, version: &str, depends: Value) -> String {
    let dir = format!("{namespace}-{name}-{version}");
    lab.package(&dir, &manifest(namespace, name, version, depends), component("hooks_all")).display().to_string()
}

/// `base` in three versions, and `top`, which needs the second at most: published and approved.
fn published(customer: &Customer<'_>, author: &Lab) {
    for version in ["1.0.0", "1.2.0", "2.0.0", "3.0.0-rc.1"] {
        let dir = package(author, "t", "base", version, json!([]));
        let entry = customer.json(&["publish", &dir]);
        assert_eq!((&entry["status"], &entry["version"]), (&json!("approved"), &json!(version)), "{entry}");
    }
    let needs = json!([{ "namespace": "t", "name": "base", "version": ">=1, <2" }]);
    let archive = author.write("top.tar.gz", packed(author, &package(author, "t", "top", "1.0.0", needs)));
    let said = customer.run(&["publish", archive.to_str().unwrap()]).ok().stderr;
    assert!(said.contains("published t/top 1.0.0 at ") && said.ends_with("t/top 1.0.0: approved\n"), "{said}");
}

#[test]
fn what_one_publishes_another_finds_installs_with_what_it_needs_and_upgrades() {
    let (market, lab, author) = (Lab::new(), Lab::new(), Lab::new());
    let server = Serving::start(&market);
    let author_is = Customer { lab: &author, url: server.url("/"), token: token(&market, "publish:t") };
    published(&author_is, &author);
    let customer = Customer { lab: &lab, url: server.url(""), token: token(&market, "read") };

    let found = customer.json(&["search", "BASE"]);
    let of = |key: &str| found.as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("version"), ["3.0.0-rc.1", "2.0.0", "1.2.0", "1.0.0"]);
    assert!(of("addon").iter().all(|addon| addon == "t/base") && of("status").iter().all(|is| is == "approved"));
    assert!(found[0]["digest"].as_str().unwrap().starts_with("sha256:") && found[0]["review"]["checks"].is_array());
    assert!(found[0]["id"].is_string() && found[0].get("_id").is_none(), "{found}");
    let listed = customer.run(&["search", "t/"]).ok().stdout;
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert_eq!(listed.lines().last(), Some("t/top   1.0.0"));
    assert!(customer.run(&["search", "nothing-such"]).ok().stderr.contains("has no such addon"));

    // Whatever it takes is shown before anything is installed, and accepted by what was shown.
    let dry = customer.json(&["install", "top", "--dry-run"]);
    assert_eq!([&dry[0]["grant"]["addon"], &dry[1]["grant"]["addon"]], [&json!("t/base"), &json!("t/top")]);
    customer.refused(&["install", "top"], 1, "grant-not-accepted");
    let [base, top] = [0, 1].map(|place| dry[place]["grant"]["digest"].as_str().unwrap().to_owned());
    customer.refused(&["install", "top", "--accept-grant", &top], 1, "grant-not-accepted");
    let done = customer.json(&["install", "t/top", "--accept-grant", &top, "--accept-grant", &base]);
    assert_eq!((&done[0]["id"], &done[0]["version"]), (&json!("t/base"), &json!("1.2.0")));
    assert_eq!((&done[1]["id"], &done[1]["changed"]), (&json!("t/top"), &json!(true)));
    let entry = found.as_array().unwrap().iter().find(|entry| entry["version"] == "1.2.0").unwrap();
    assert_eq!(done[0]["digest"], entry["digest"]);
    let enabled = customer.json(&["enable", "top"]);
    assert_eq!((&enabled["state"], &enabled["enabled_first"]), (&json!("enabled"), &json!(["t/base"])));
    let again = customer.json(&["install", "top@1.0.0"]);
    assert_eq!((&again["id"], &again["changed"]), (&json!("t/top"), &json!(false)));

    // A later version takes over; one that another cannot use does not.
    let dir = package(&author, "t", "base", "1.3.0", json!([]));
    author_is.run(&["publish", &dir]).ok();
    customer.refused(&["install", "base@^1"], 1, "other-version");
    customer.refused(&["upgrade", "base", "base"], 1, "dependency-version");
    customer.refused(&["upgrade", "base", "top"], 1, "other-addon");
    let upgraded = customer.json(&["upgrade", "base", "t/base@^1"]);
    assert_eq!((&upgraded["from"], &upgraded["to"]), (&json!("1.2.0"), &json!("1.3.0")));
    // What is there as a path is one.
    std::fs::create_dir(lab.path("base")).unwrap();
    customer.refused(&["install", "base"], 1, "invalid-package");
    for token in [&author_is.token, &customer.token] {
        assert!(!log(&market).contains(token.rsplit_once('_').unwrap().1));
    }
}

#[test]
fn the_marketplace_of_the_policy_is_asked_and_its_token_told_to_no_other() {
    let (market, lab, author) = (Lab::new(), Lab::new(), Lab::new());
    let server = Serving::start(&market);
    let token_file = lab.write("token", format!("{}\n", token(&market, "publish:t")));
    lab.policy(&format!("[marketplace]\nurl = \"{}\"\ntoken_file = \"{}\"\n", server.url("/"), token_file.display()));
    let dir = package(&author, "t", "base", "1.0.0", json!([]));
    let entry = lab.json(&["publish", &dir, "--no-wait"]);
    assert_eq!(entry["status"], "under_review", "{entry}");
    reviewed(&server, &entry["id"]);
    lab.lodger(&["install", "base", "--yes"]).ok();

    let other = Loopback::start(|stream, head| {
        let refuses = head.to_ascii_lowercase().contains("authorization");
        let body = if refuses { "[1]" } else { "[]" };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let url = format!("http://{}", other.authority());
    assert_eq!(lab.json(&["search", "--marketplace", &url]), json!([]));

    for (policy, words) in [
        (
            "[marketplace]\nurl = \"http://addons.example.com\"\n",
            "marketplace.url: `http://addons.example.com` is not on",
        ),
        ("[marketplace]\nurl = \"localhost\"\n", "marketplace.url: that is no URL"),
        ("[marketplace]\nurl = \"https://h\"\ntoken_file = \"x\"\n", "marketplace.token_file"),
        ("[marketplace]\nurl = \"https://h\"\ntoken = \"x\"\n", "unknown field `token`"),
        ("[marketplace]\ntoken_file = \"/x\"\n", "missing field `url`"),
    ] {
        lab.policy(policy);
        let error = lab.lodger(&["--json", "search"]).fails_with(4, "invalid-policy");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    lab.policy("");
    let error = lab.lodger(&["--json", "install", "base"]).fails_with(2, "usage");
    assert!(error["message"].as_str().unwrap().contains("there is no path `base`: no marketplace is named"), "{error}");
}

#[test]
fn what_a_review_finds_wrong_is_told_with_its_reasons() {
    let (market, author) = (Lab::new(), Lab::new());
    market.policy("[grant]\nnetwork = []\n");
    let server = Serving::start(&market);
    let customer = Customer { lab: &author, url: server.url(""), token: token(&market, "publish:t,publish:local") };
    let mut asks = manifest("t", "asks", "1.0.0", json!([]));
    asks["capabilities"]["network"] = json!(["api.example.com:443"]);
    let dir = author.package("asks", &asks, component("hooks_all")).display().to_string();
    let ran = customer.run(&["publish", &dir]).exits(1);
    for words in ["t/asks 1.0.0: verification failed\n", "  grant: capabilities.network[0]: ", "    hint: "] {
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
    let entry = customer.run(&["--json", "publish", &dir]).exits(1).json();
    assert_eq!((&entry["status"], &entry["addon"]), (&json!("verification_failed"), &json!("t/asks")));
    let failed = entry["review"]["checks"].as_array().unwrap().iter().find(|check| check["passed"] == false).unwrap();
    assert_eq!(failed["problems"][0]["path"], "capabilities.network[0]", "{entry}");
    // It is nowhere to be found.
    assert_eq!(customer.json(&["search"]), json!([]));
    customer.refused(&["install", "t/asks"], 1, "unknown-name");

    // A descriptor alone, as it stands in the example of Oakestra.
    let descriptor = json!({ "name": "My Cache", "services": [], "volumes": [{ "name": "v", "driver": "nfs" }] });
    let path = author.write("cache.json", descriptor.to_string()).display().to_string();
    let entry = customer.run(&["--json", "publish", &path]).exits(1).json();
    assert_eq!((&entry["addon"], &entry["version"]), (&json!("local/my-cache"), &json!("0.0.1")));
    // What is refused before any review.
    let path = author.write("bad.json", r#"{"name": 5, "services": [{}]}"#).display().to_string();
    let error = customer.refused(&["publish", &path], 1, "invalid-body");
    let paths: Vec<&Value> = error["problems"].as_array().unwrap().iter().map(|problem| &problem["path"]).collect();
    assert_eq!(paths, ["name", "services[0].image", "services[0].service_name"], "{error}");
    let path = author.write("half.json", "{").display().to_string();
    customer.refused(&["publish", &path], 1, "malformed-json");
    let mut other = manifest("acme", "other", "1.0.0", json!([]));
    other["description"] = json!("of a namespace that the token is not for");
    let dir = author.package("other", &other, component("hooks_all")).display().to_string();
    customer.refused(&["publish", &dir], 1, "other-scope");
    customer.refused(&["publish", "nowhere"], 1, "failed");
}

#[test]
fn names_that_are_not_there_or_not_one_are_refused_with_what_there_is() {
    let (market, lab, author) = (Lab::new(), Lab::new(), Lab::new());
    let server = Serving::start(&market);
    let author_is = Customer { lab: &author, url: server.url(""), token: token(&market, "manage") };
    published(&author_is, &author);
    author_is.run(&["publish", &package(&author, "u", "base", "1.0.0", json!([]))]).ok();
    let lost = json!([{ "namespace": "t", "name": "lost" }]);
    author_is.run(&["publish", &package(&author, "t", "hopeless", "1.0.0", lost)]).ok();
    let early = json!([{ "namespace": "t", "name": "base", "version": "^9" }]);
    author_is.run(&["publish", &package(&author, "t", "early", "1.0.0", early)]).ok();
    for (name, other) in [("one", "two"), ("two", "one")] {
        let needs = json!([{ "namespace": "ring", "name": other }]);
        author_is.run(&["publish", &package(&author, "ring", name, "1.0.0", needs)]).ok();
    }
    let customer = Customer { lab: &lab, url: server.url(""), token: token(&market, "read") };
    for (name, code, words) in [
        ("nothing", "unknown-name", "has no approved addon `nothing`"),
        ("v/base", "unknown-name", "has no approved addon `v/base`"),
        ("bas", "unknown-name", "has no approved addon `bas`"),
        ("base", "ambiguous-name", "`base` could be `t/base`, `u/base`"),
        ("t/base@9.9.9", "unknown-name", "has no approved addon `t/base@9.9.9`"),
        ("t/base@>2.0.0, <3", "unknown-name", "t/base@>2.0.0, <3"),
        ("hopeless", "unknown-name", "no approved addon `t/lost`, which `t/hopeless` needs"),
        ("early", "unknown-name", "no approved addon `t/base@^9`, which `t/early` needs"),
        ("ring/one", "dependency-cycle", "`ring/one` needs `ring/two` needs `ring/one`"),
        // No name is a path that is not there.
        ("t/base@x.y", "package-unreadable", "t/base@x.y"),
        ("../base", "package-unreadable", "../base"),
    ] {
        let error = customer.refused(&["install", name, "--yes"], 1, code);
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let error = customer.refused(&["install", "t/base@9.9.9"], 1, "unknown-name");
    assert_eq!(error["hint"], "there are `3.0.0-rc.1`, `2.0.0`, `1.2.0`, `1.0.0`");
    for (name, version) in [("t/base@3.0.0-rc.1", "3.0.0-rc.1"), ("t/base@1.0.0", "1.0.0"), ("t/base", "2.0.0")] {
        let lab = Lab::new();
        let customer = Customer { lab: &lab, url: server.url(""), token: customer.token.clone() };
        assert_eq!(customer.json(&["install", name, "--yes"])["version"], version);
    }

    // Who may not ask is told so, and nobody else is told the token.
    let nobody =
        Customer { lab: &lab, url: server.url(""), token: format!("lodger_{}_{}", "0".repeat(16), "0".repeat(64)) };
    nobody.refused(&["search"], 1, "bad-token");
    let broken = Customer { lab: &lab, url: server.url(""), token: "two words".to_owned() };
    broken.refused(&["search"], 2, "invalid-token");
    let app = Customer { lab: &lab, url: server.url(""), token: token(&market, "app:shop") };
    app.refused(&["install", "t/base"], 1, "other-scope");
    for (url, code) in
        [("http://addons.example.com", "clear-text"), ("https://u:hush@h", "invalid-url"), ("h", "invalid-url")]
    {
        let error = customer.refused(&["search", "--marketplace", url], 2, code);
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    drop(server);
    customer.refused(&["install", "t/base@2.0.0", "--yes"], 4, "server-unreachable");
}

/// Its package is what is given to those who may have it, and to nobody what is not shown.
#[test]
fn packages_are_given_as_they_were_approved() {
    let (market, author) = (Lab::new(), Lab::new());
    let server = Serving::start(&market);
    let bytes = packed(&author, &package(&author, "t", "base", "1.0.0", json!([])));
    let id = publish(&server, &server.token, &bytes).is(201).json()["_id"].clone();
    let path = format!("{MARKET}/{}/package", id.as_str().unwrap());
    let entry = reviewed(&server, &id);
    let bounds = Policy::default().package;
    for path in [&path, &format!("{path}/"), &path.replace(MARKET, "/api/addons")] {
        let reply = server.get(path).is(200);
        assert!(reply.head.contains("content-type: application/vnd.lodger.package+gzip"), "{}", reply.head);
        let package = Package::unpack("given", &reply.body, &bounds).unwrap();
        assert_eq!(json!(package.digest), entry["digest"]);
    }
    let [reader, publisher, app] = ["read", "publish:other", "app:shop"].map(|scope| token(&market, scope));
    server.as_(&reader, "GET", &path, &json!({})).is(200);
    server.as_(&publisher, "GET", &path, &json!({})).is(200);
    super::market::refused(server.as_(&app, "GET", &path, &json!({})), 403, "Forbidden");
    super::market::refused(server.ask("GET", &path, "", b""), 401, "Unauthorized");
    super::market::refused(server.as_(&server.token, "POST", &path, &json!({})), 405, "Method Not Allowed");
    super::market::refused(server.get(&format!("{MARKET}/{}/package", "0".repeat(24))), 404, "Not Found");

    // What was not approved is nobody's.
    let broken = json!({ "name": "x", "services": [] });
    let id = server.post(MARKET, &broken).is(201).json()["_id"].clone();
    assert_eq!(reviewed(&server, &id)["status"], "verification_failed");
    let body =
        super::market::refused(server.get(&format!("{MARKET}/{}/package", id.as_str().unwrap())), 409, "Conflict");
    assert_eq!(body["reason"], "not-approved");
}

/// What a marketplace that means no good says: its list, and what it gives as a package.
struct Says {
    list: String,
    package: Vec<u8>,
    /// Follows it for ever.
    more: &'static [u8],
}

/// Serves it until the tests end.
fn saying(says: Says) -> String {
    let says: &'static Says = Box::leak(Box::new(says));
    let server = Loopback::raw(move |stream| {
        let head = String::from_utf8_lossy(&head_of(stream)).into_owned();
        if !head.split(' ').nth(1).unwrap_or_default().contains("/package") {
            let kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            return write!(stream, "{kind}Content-Length: {}\r\n\r\n{}", says.list.len(), says.list);
        }
        stream.write_all(&says.package)?;
        while !says.more.is_empty() {
            stream.write_all(says.more)?;
        }
        Ok(())
    });
    format!("http://{}", server.authority())
}

const GIVEN: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.lodger.package+gzip\r\n\r\n";

/// A package of nothing but this, and its digest.
fn archive(manifest: &Value) -> (Vec<u8>, String) {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in [("addon.json", manifest.to_string().into_bytes()), ("probe.wasm", component("hooks_all"))] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    let packed = archive.into_inner().unwrap().finish().unwrap();
    let digest = Package::unpack("x", &packed, &Policy::default().package).unwrap().digest;
    (packed, digest)
}

fn entry(name: &str, version: &str, digest: &str) -> Value {
    json!({
        "_id": "5f0c5f0c5f0c5f0c5f0c5f0c", "addon": format!("t/{name}"), "version": version, "digest": digest,
        "status": "approved", "description": "", "published_at": 1, "verification": null,
    })
}

#[test]
fn a_marketplace_that_lies_is_found_out_and_nothing_is_installed() {
    let lab = Lab::new();
    let (packed, digest) = archive(&manifest("t", "good", "1.0.0", json!([])));
    let given = || [GIVEN.as_bytes(), &packed].concat();
    let says = |list: Value, package: Vec<u8>| Says { list: json!([list]).to_string(), package, more: b"" };
    let good = || entry("good", "1.0.0", &digest);
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    let mut climbs = good();
    climbs["_id"] = json!("../../../v1/addons");
    let mut unchecked = good();
    unchecked["status"] = json!("under_review");
    let mut nameless = good();
    nameless["addon"] = json!("T/../Good");
    for (says, name, exit, code, words) in [
        (
            says(entry("good", "1.0.0", &format!("sha256:{}", "0".repeat(64))), given()),
            "good",
            4,
            "other-content",
            "has the digest",
        ),
        (says(entry("other", "1.0.0", &digest), given()), "other", 4, "other-content", "is `t/good`"),
        (says(entry("good", "1.0.1", &digest), given()), "good", 4, "other-content", "has 1.0.0, not 1.0.1"),
        (says(good(), GIVEN.into()), "good", 1, "invalid-package", "not an archive"),
        (
            says(good(), [GIVEN.as_bytes(), &packed[..packed.len() / 2]].concat()),
            "good",
            1,
            "invalid-package",
            "damaged",
        ),
        (says(good(), elsewhere.into()), "good", 4, "server-answer", "no redirect is followed"),
        (says(good(), b"nonsense\r\n\r\n".to_vec()), "good", 4, "server-answer", "no HTTP"),
        (
            says(good(), GIVEN.replace("vnd.lodger.package+gzip", "json").into()),
            "good",
            4,
            "server-answer",
            "`application/json`",
        ),
        (Says { more: &[0; 65536], ..says(good(), given()) }, "good", 4, "server-answer", "more than 2000000 bytes"),
        (says(climbs, given()), "good", 4, "server-answer", "what is no id"),
        (says(unchecked, given()), "good", 1, "unknown-name", "no approved addon"),
        (says(nameless, given()), "good", 4, "server-answer", "not understood"),
        (Says { list: "<html>".to_owned(), ..says(good(), given()) }, "good", 4, "server-answer", "not understood"),
    ] {
        lab.policy("[limits]\npackage_bytes = 2000000\n");
        let customer = Customer { lab: &lab, url: saying(says), token: "lodger_0_hush-hush".to_owned() };
        let error = customer.refused(&["install", name, "--yes"], exit, code);
        assert!(error["message"].as_str().unwrap().contains(words), "{words}: {error}");
    }
    let honest = saying(says(good(), given()));
    let customer = Customer { lab: &lab, url: honest, token: "lodger_0_hush-hush".to_owned() };
    customer.run(&["install", "good", "--yes"]).ok();
}

#[test]
fn a_marketplace_bounds_nothing_but_is_bounded_and_acts_on_no_terminal() {
    let lab = Lab::new();
    // Each needs the next: a chain that has no end.
    let mut list = Vec::new();
    for place in 0..40 {
        let (packed, digest) = archive(&manifest(
            "t",
            &format!("n{place}"),
            "1.0.0",
            json!([{ "namespace": "t", "name": format!("n{}", place + 1) }]),
        ));
        let mut entry = entry(&format!("n{place}"), "1.0.0", &digest);
        entry["_id"] = json!(format!("{place}"));
        list.push((entry, packed));
    }
    let entries: Vec<Value> = list.iter().map(|(entry, _)| entry.clone()).collect();
    let shop: &'static (String, Vec<Vec<u8>>) =
        Box::leak(Box::new((json!(entries).to_string(), list.into_iter().map(|(_, packed)| packed).collect())));
    let server = Loopback::raw(move |stream| {
        let head = String::from_utf8_lossy(&head_of(stream)).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let Some(id) = path.strip_suffix("/package").and_then(|path| path.rsplit('/').next()) else {
            let kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            return write!(stream, "{kind}Content-Length: {}\r\n\r\n{}", shop.0.len(), shop.0);
        };
        stream.write_all(GIVEN.as_bytes())?;
        stream.write_all(&shop.1[id.parse::<usize>().unwrap()])
    });
    let customer = Customer { lab: &lab, url: format!("http://{}", server.authority()), token: "lodger_x".to_owned() };
    let error = customer.refused(&["install", "n0", "--yes"], 1, "too-much");
    assert!(error["message"].as_str().unwrap().contains("more than 32 packages"), "{error}");

    let mut loud = entry("loud", "1.0.0", "sha256:\u{1b}[2J");
    loud["description"] = json!("nice\u{1b}]52;c;aGk=\u{7}\r\nt/fake  9.9.9  \u{202e}forged");
    let list = json!([loud]).to_string();
    let customer = Customer {
        lab: &lab,
        url: saying(Says { list, package: Vec::new(), more: b"" }),
        token: "lodger_x".to_owned(),
    };
    let ran = customer.run(&["search"]).ok();
    assert_plain(&ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    let json = customer.run(&["--json", "search"]).ok();
    crate::support::strings(&json.json()).iter().for_each(|text| assert_plain(text));
}

#[test]
fn over_tls_a_server_proves_who_it_is() {
    let lab = Lab::new();
    let (server, other) = (Loopback::raw(itself), Loopback::raw(somebody_else));
    let search = |of: &Loopback, authority: &str| {
        let url = format!("https://{}", of.authority());
        let args = ["--json", "search", "--marketplace", &url];
        let mut command = lab.command(&args);
        command.env("SSL_CERT_FILE", root().join("tests/tls").join(authority));
        Ran::of(&args, command.output().unwrap())
    };
    search(&server, "other.example.pem").fails_with(4, "server-untrusted");
    search(&other, "authority.pem").fails_with(4, "server-untrusted");
    // It is asked, and says that what is asked for is elsewhere.
    let error = search(&server, "authority.pem").fails_with(4, "server-answer");
    assert!(error["message"].as_str().unwrap().contains("no redirect is followed"), "{error}");
}
