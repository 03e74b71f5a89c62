//! What no service may be: refused at install, with the line to change, before anything is asked of an engine.

use serde_json::{Value, json};

use super::{Site, web};

/// Installs an addon of one service, changed, which must be refused; returns the first problem.
#[track_caller]
fn refused(site: &Site, code: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest =
        json!({ "name": "bad", "version": "1.0.0", "services": [web("web")], "volumes": [{ "name": "data" }] });
    change(&mut manifest);
    let package = site.package(manifest);
    let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, code);
    assert_eq!(site.lab.json(&["list"]), json!([]), "nothing half-installed");
    error["problems"].as_array().map_or(error.clone(), |problems| problems[0].clone())
}

#[track_caller]
fn at(problem: &Value, path: &str, words: &str) {
    assert_eq!(problem["path"], path, "{problem}");
    assert!(problem.to_string().contains(words), "{words} in {problem}");
    assert!(problem["hint"].is_string(), "{problem}");
}

#[test]
fn manifests_that_reach_for_the_machine() {
    let site = Site::new();
    let service = |key: &'static str, value: Value| move |manifest: &mut Value| manifest["services"][0][key] = value;
    let bad = "invalid-manifest";
    let problem = refused(&site, bad, service("volumes", json!(["/var/run/docker.sock:/sock"])));
    at(&problem, "services[0].volumes[0]", "host path");
    let problem = refused(&site, bad, service("volumes", json!(["../..:/x"])));
    at(&problem, "services[0].volumes[0]", "host path");
    let problem = refused(&site, bad, service("volumes", json!(["other:/x"])));
    at(&problem, "services[0].volumes[0]", "not declared");
    for target in ["/", "x", "/a/../b", "/proc/x", "/dev", "/a:ro"] {
        let problem = refused(&site, bad, service("volumes", json!([format!("data:{target}")])));
        at(&problem, "services[0].volumes[0]", "no absolute path");
    }
    let problem = refused(&site, bad, service("networks", json!(["host"])));
    at(&problem, "services[0].networks", "not declared");
    for (key, value) in [("privileged", json!(true)), ("network_mode", json!("host")), ("pid", json!("host"))] {
        let problem = refused(&site, bad, service(key, value));
        assert!(problem["message"].as_str().unwrap().contains(key), "{problem}");
    }
    for image in ["-v", "Redis", "redis:", "redis@sha256:12", "a b", "docker.io/../x"] {
        let problem = refused(&site, bad, service("image", json!(image)));
        assert_eq!(problem["path"], "services[0].image", "{problem}");
    }
    let problem = refused(&site, bad, |manifest| manifest["volumes"][0]["driver"] = json!("bridge"));
    at(&problem, "volumes[0].driver", "only `local`");
    let problem = refused(&site, bad, |manifest| manifest["volumes"][0]["driver_opts"] = json!({ "o": "bind" }));
    at(&problem, "volumes[0].driver_opts", "without options");
    let problem = refused(&site, bad, |manifest| manifest["networks"] = json!([{ "name": "n", "driver": "macvlan" }]));
    at(&problem, "networks[0].driver", "only `bridge`");
    let problem = refused(&site, bad, |manifest| manifest["services"] = json!([web("web"), web("Web")]));
    assert_eq!(problem["path"], "services[1].service_name", "{problem}");
    let problem = refused(&site, bad, service("capabilities", json!(["SYS_ADMIN"])));
    assert!(problem["message"].as_str().unwrap().contains("never given"), "{problem}");
    let fixed = |manifest: &mut Value| {
        manifest["services"][0]["start"] = json!("provision");
        manifest["services"][0]["ports"] = json!({ "8080": "17000" });
    };
    at(&refused(&site, bad, fixed), "services[0].ports.8080", "a host port of its own");
    site.has_nothing();
}

#[test]
fn grants_the_policy_does_not_give() {
    let site = Site::with_policy("images = [\"ghcr.io/acme/*\"]\ncapabilities = [\"CHOWN\"]\n");
    let no = "grant-refused";
    let service = |key: &'static str, value: Value| {
        move |manifest: &mut Value| {
            manifest["services"][0]["image"] = json!("ghcr.io/acme/web:1");
            manifest["services"][0][key] = value;
        }
    };
    let problem = refused(&site, no, service("image", json!("ghcr.io.evil.example/acme/web:1")));
    at(&problem, "services[0].image", "images under [grant] in lodger.toml");
    at(&refused(&site, no, service("egress", json!(true))), "services[0].egress", "egress = true");
    let problem = refused(&site, no, service("capabilities", json!(["SETUID"])));
    at(&problem, "services[0].capabilities", "add `SETUID` to capabilities");
    for port in ["80", "22", "6379"] {
        at(&refused(&site, no, service("ports", json!({ "8080": port }))), "services[0].ports", "host_ports");
    }
    let problem = refused(&site, no, service("limits", json!({ "memory_bytes": 1u64 << 40 })));
    at(&problem, "services[0].limits.memory_bytes", "service_memory_bytes");
    let problem = refused(&site, no, service("limits", json!({ "disk_bytes": 1u64 << 40 })));
    at(&problem, "services[0].limits.disk_bytes", "service_disk_bytes");
    let problem = refused(&site, "invalid-manifest", service("limits", json!({ "disk_bytes": 0 })));
    assert_eq!(
        (&problem["path"], &problem["message"]),
        (&json!("services[0].limits.disk_bytes"), &json!("must be above 0"))
    );
}

#[test]
fn images_that_are_not_what_they_should_be() {
    let site = Site::new();
    let image = |name: &'static str| move |manifest: &mut Value| manifest["services"][0]["image"] = json!(name);
    let error = refused(&site, "image", image("lodger-test/forged:1"));
    assert!(error["message"].as_str().unwrap().contains("`lodger.addon`, which only the host sets"), "{error}");
    let error = refused(&site, "image", image("lodger-test/otherarch:1"));
    assert!(error["message"].as_str().unwrap().contains("is made for"), "{error}");
    let error = refused(&site, "image", image("127.0.0.1:1/none:1"));
    assert!(error["message"].as_str().unwrap().contains("could not fetch it"), "{error}");

    let strict = Site::new();
    strict.lab.policy("");
    let error = refused(&strict, "image", |_| ());
    assert_eq!(
        error["hint"],
        "push it to a registry, or add \"docker.io/lodger-test/web:1\" to unpinned under [grant] in lodger.toml"
    );
}

#[test]
fn policies_that_say_nothing_sensible() {
    let site = Site::new();
    let tls = |address: &str, without: &str| {
        let files = ["key", "certificate", "authority"].into_iter().filter(|file| *file != without);
        let files: String = files.map(|file| format!("{file} = \"/{file}\"\n")).collect();
        format!("[[engine]]\nname = \"a\"\naddress = \"{address}\"\n{files}")
    };
    for (line, words) in [
        ("[grant]\nimages = [\"Redis\"]", "grant.images"),
        ("[grant]\nhost_ports = \"80-90\"", "grant.host_ports"),
        ("[grant]\ncapabilities = [\"NET_RAW\"]", "never given"),
        ("[[engine]]\nname = \"a\"", "needs either `socket`"),
        ("[[engine]]\nname = \"a\"\nsocket = \"relative\"", "needs either `socket`"),
        ("[[engine]]\nname = \"a\"\naddress = \"tcp://h:2375\"", "add `key`, `certificate` and `authority`"),
        (&tls("tcp://h:2375", "certificate"), "add `key`, `certificate` and `authority`"),
        (&tls("http://h:2375", ""), "HOST:PORT"),
        (&tls("unix:///var/run/docker.sock", ""), "HOST:PORT"),
        (&tls("h", ""), "HOST:PORT"),
        (&tls("root@h:2376", ""), "HOST:PORT"),
        (&tls("h:2376", ""), "add `apps_address`"),
        (&format!("{}apps_address = \"127.0.0.1\"", tls("h:2376", "")), "does not lead to another machine"),
        ("[[engine]]\nname = \"a\"\nsocket = \"/a\"\napps_address = \"10.0.0.1\"", "where [apps] says"),
        ("[[engine]]\nname = \"a\"\nsocket = \"/a\"\n[[engine]]\nname = \"a\"\nsocket = \"/b\"", "stands twice"),
        ("[[replaceable]]\nslot = \"ui\"\ncontainer = \"a b\"", "no name of a container"),
        ("[[replaceable]]\nslot = \"ui\"\ncontainer = \"cafe\"", "no name of a container"),
        ("[[replaceable]]\nslot = \"ui\"\ncontainer = \"ui\"\nengine = \"b\"", "no engine `b`"),
        (
            "[[replaceable]]\nslot = \"ui\"\ncontainer = \"x\"\n[[replaceable]]\nslot = \"ui\"\ncontainer = \"y\"",
            "twice",
        ),
        (
            "[[replaceable]]\nslot = \"ui\"\ncontainer = \"x\"\n[[engine]]\nname = \"a\"\nsocket = \"/a\"\n\
             [[engine]]\nname = \"b\"\nsocket = \"/b\"",
            "say which `engine`",
        ),
        ("[apps]\nreach = \"everywhere\"", "apps.reach"),
        ("[[registry]]\nname = \"docker.io\"\nuser = \"me\"", "come together"),
        ("[[registry]]\nname = \"http://x\"", "no host name"),
    ] {
        site.lab.policy(line);
        let error = site.lodger(&["--json", "list"]).fails_with(4, "invalid-policy");
        assert!(error["message"].as_str().unwrap().contains(words), "{line}: {error}");
    }
}
