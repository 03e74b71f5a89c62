//! `addon.json`: what is wrong is named by its path, and all of it at once.

use serde_json::{Value, json};

use super::{manifest, refused, says};
use crate::support::{Lab, component};

/// Installs a package with this manifest, which must be refused, and returns where and why.
#[track_caller]
fn problems(lab: &Lab, code: &str, text: impl AsRef<[u8]>) -> Vec<(String, String)> {
    let package = lab.package("package", &manifest(), component("hello"));
    std::fs::write(package.join("addon.json"), text).unwrap();
    let error = refused(lab, &package, code);
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
    error["problems"].as_array().unwrap().iter().map(|p| (text(p, "path"), text(p, "message"))).collect()
}

#[test]
fn a_document_that_cannot_be_read_is_refused_as_a_whole() {
    let lab = Lab::new();
    let deep = format!("{{\"name\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_objects = format!("{}1{}", "{\"name\":".repeat(100_000), "}".repeat(100_000));
    let cases: [(&[u8], &str, &str); 14] = [
        (b"", ".", "EOF while parsing a value"),
        (b"{", ".", "EOF while parsing an object"),
        (b"{\"name\": \"addon\"", ".", "EOF while parsing an object"),
        (b"null", ".", "invalid type: null"),
        (b"\"addon\"", ".", "invalid type: string"),
        (b"[]", ".", "invalid length 0"),
        (b"{} {}", ".", "missing field `name`"),
        (b"{\"name\": \"addon\", \"component\": \"addon.wasm\"} x", ".", "after the manifest"),
        (b"{\"name\": \"add\xffon\"}", ".", "not UTF-8 after byte 13"),
        (b"\xef\xbb\xbf{\"name\": \"addon\"}", ".", "expected value"),
        (b"{\"name\": \"a\", \"name\": \"b\"}", ".", "duplicate field `name`"),
        (b"{\"name\": \"\\ud800\"}", "name", "unexpected end of hex escape"),
        (deep.as_bytes(), "name", "invalid type: sequence"),
        (deep_objects.as_bytes(), "name", "invalid type: map"),
    ];
    for (text, path, message) in cases {
        let found = problems(&lab, "invalid-manifest", text);
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        assert!(matches!(&found[..], [(at, why)] if at == path && why.contains(message)), "{shown}: {found:?}");
    }
}

#[test]
fn a_hundred_megabytes_of_json_are_not_read() {
    let lab = Lab::new();
    let package = lab.package("package", &manifest(), component("hello"));
    let file = std::fs::File::create(package.join("addon.json")).unwrap();
    file.set_len(100 << 20).unwrap();
    says(
        &refused(&lab, &package, "invalid-package"),
        &["package", "`addon.json` goes past the 1048576 bytes of a manifest"],
    );
}

#[test]
fn a_wrong_type_or_an_unknown_key_is_named_by_its_path() {
    let lab = Lab::new();
    let cases: [(&str, Value, &str, &str); 27] = [
        ("/colour", json!(1), "colour", "unknown field `colour`"),
        ("/name", json!(1), "name", "invalid type: integer `1`, expected a string"),
        ("/config_vars", json!("A"), "config_vars", "expected a sequence"),
        ("/config_vars", json!([1]), "config_vars[0]", "expected a string"),
        ("/plans", json!([{ "name": "a", "cost": 1 }]), "plans[0].cost", "unknown field `cost`"),
        ("/plans", json!([{}]), "plans[0]", "missing field `name`"),
        ("/plans", json!([{ "name": "a", "options": { "b": 1 } }]), "plans[0].options.b", "expected a string"),
        ("/settings", json!({ "A": { "secret": "yes" } }), "settings.A.secret", "expected a boolean"),
        ("/settings", json!({ "A": { "private": true } }), "settings.A.private", "unknown field `private`"),
        ("/capabilities", json!({ "root": true }), "capabilities.root", "unknown field `root`"),
        ("/capabilities", json!({ "data": { "max_bytes": -1 } }), "capabilities.data.max_bytes", "invalid value"),
        ("/capabilities", json!({ "data": { "max_bytes": 1.5 } }), "capabilities.data.max_bytes", "expected u64"),
        ("/capabilities", json!({ "data": { "max_bytes": "1" } }), "capabilities.data.max_bytes", "expected u64"),
        ("/capabilities", json!({ "network": "*" }), "capabilities.network", "expected a sequence"),
        ("/limits", json!({ "cpu": 1 }), "limits.cpu", "unknown field `cpu`"),
        ("/limits", json!({ "stack_bytes": 1 }), "limits.stack_bytes", "unknown field `stack_bytes`"),
        ("/limits", json!({ "memory_bytes": null, "deadlines_ms": [] }), "limits.deadlines_ms", "expected an object"),
        (
            "/services",
            json!([{ "service_name": "a", "image": "b", "privileged": true }]),
            "services[0].privileged",
            "unknown field",
        ),
        (
            "/services",
            json!([{ "service_name": "a", "image": "b", "start": "boot" }]),
            "services[0].start",
            "unknown variant",
        ),
        ("/provider", json!({ "regions": { "eu": 1 } }), "provider.regions", "expected a sequence"),
        ("/depends", json!("base"), "depends", "expected a sequence"),
        ("/depends", json!(["base"]), "depends[0]", "invalid type: string"),
        ("/depends", json!([{ "namespace": "lodger" }]), "depends[0]", "missing field `name`"),
        ("/depends", json!([{ "name": 1 }]), "depends[0].name", "expected a string"),
        ("/depends", json!([{ "name": "base", "version": 1.2 }]), "depends[0].version", "expected a string"),
        ("/depends", json!([{ "name": "base", "optional": true }]), "depends[0].optional", "unknown field"),
        ("/volumes", json!([{ "name": "a", "label": {} }]), "volumes[0].label", "unknown field"),
    ];
    for (pointer, value, path, message) in cases {
        let mut document = manifest();
        document[&pointer[1..]] = value;
        let found = problems(&lab, "invalid-manifest", document.to_string());
        assert!(
            matches!(&found[..], [(at, why)] if at == path && why.contains(message)),
            "{pointer} {path}: {found:?}"
        );
    }
}

#[test]
fn names_and_values_against_the_rules_are_each_named() {
    let lab = Lab::new();
    let long = "x".repeat(10_001);
    let many: Vec<String> = (0..65).map(|number| format!("ADDON_{number}")).collect();
    let hosts: Vec<String> = (0..65).map(|number| format!("host-{number}.example.com:443")).collect();
    let needs: Vec<Value> = (0..65).map(|number| json!({ "name": format!("a{number}") })).collect();
    let reach = |network: Value| json!({ "network": network });
    let cases: [(&str, Value, &str, &str); 42] = [
        ("name", json!("!!!"), "name", "holds no letter or digit"),
        ("namespace", json!("../other"), "namespace", "is not an id"),
        ("namespace", json!(""), "namespace", "is not an id"),
        ("namespace", json!("a\u{202e}b"), "namespace", "`a\\u{202e}b` is not an id"),
        ("version", json!("one"), "version", "unexpected character"),
        ("version", json!("1.0"), "version", "unexpected end"),
        ("component", json!("../addon.wasm"), "component", "is not a file name in the package's root"),
        ("component", json!("/etc/passwd"), "component", "is not a file name in the package's root"),
        ("component", json!("a/b.wasm"), "component", "is not a file name in the package's root"),
        ("component", json!("."), "component", "is not a file name in the package's root"),
        ("component", json!(""), "component", "is not a file name in the package's root"),
        ("component", json!("a\\b"), "component", "is not a file name in the package's root"),
        ("component", json!("a\nb"), "component", "is not a file name in the package's root"),
        ("description", json!(long), "description", "10001 bytes; at most 10000"),
        ("config_vars", json!(["ADDON_A", "ADDON_A"]), "config_vars", "`ADDON_A` stands twice"),
        ("config_vars", json!(["addon_a"]), "config_vars[0]", "does not match"),
        ("config_vars", json!(many), "config_vars", "65 entries; at most 64"),
        ("plans", json!([{ "name": "a" }, { "name": "a" }]), "plans", "`a` stands twice"),
        ("plans", json!([{ "name": "A B" }]), "plans[0].name", "is not an id"),
        ("plans", json!([{ "name": "a", "price": -1.0 }]), "plans[0].price", "must be 0 or more"),
        ("settings", json!({ "a": {} }), "settings.a", "setting names match"),
        ("settings", json!({ "A": { "secret": true, "default": "x" } }), "settings.A", "no secret"),
        ("limits", json!({ "deadlines_ms": { "provison": 1 } }), "limits.deadlines_ms.provison", "no such hook"),
        ("limits", json!({ "deadlines_ms": { "enable": 0 } }), "limits.deadlines_ms.enable", "must be above 0"),
        ("capabilities", reach(json!(["example.com"])), "capabilities.network[0]", "it has no port"),
        ("capabilities", reach(json!(["a.example:1", "b.example:0"])), "capabilities.network[1]", "1 to 65535"),
        ("capabilities", reach(json!(["https://example.com:443"])), "capabilities.network[0]", "inner dashes"),
        ("capabilities", reach(json!(["user@example.com:443"])), "capabilities.network[0]", "inner dashes"),
        ("capabilities", reach(json!(["*.example.com:443"])), "capabilities.network[0]", "inner dashes"),
        ("capabilities", reach(json!(["2130706433:80"])), "capabilities.network[0]", "that is an address"),
        ("capabilities", reach(json!(["[::1]:80"])), "capabilities.network[0]", "inner dashes"),
        ("capabilities", reach(json!(["a.example:1", "A.example:1"])), "capabilities.network", "stands twice"),
        ("capabilities", reach(json!(hosts)), "capabilities.network", "65 entries; at most 64"),
        ("depends", json!([{ "name": "addon" }]), "depends[0]", "`local/addon` cannot need itself"),
        ("depends", json!([{ "name": "a" }, { "namespace": "local", "name": "a" }]), "depends", "stands twice"),
        ("depends", json!([{ "name": "../a" }]), "depends[0].name", "is not an id"),
        ("depends", json!([{ "namespace": "A", "name": "a" }]), "depends[0].namespace", "is not an id"),
        ("depends", json!([{ "name": "a", "version": "one" }]), "depends[0].version", "unexpected character"),
        ("depends", json!([{ "name": "a", "version": "\u{202e}" }]), "depends[0].version", "unexpected character"),
        ("depends", json!([{ "name": "a", "version": "" }]), "depends[0].version", "unexpected end"),
        (
            "depends",
            json!([{ "name": "a", "version": ">1,".repeat(67) }]),
            "depends[0].version",
            "201 bytes; at most 200",
        ),
        ("depends", json!(needs), "depends", "65 entries; at most 64"),
    ];
    for (key, value, path, message) in cases {
        let mut document = manifest();
        document[key] = value;
        let found = problems(&lab, "invalid-manifest", document.to_string());
        assert!(matches!(&found[..], [(at, why)] if at == path && why.contains(message)), "{key} {path}: {found:?}");
    }
}

#[test]
fn a_key_that_stands_twice_in_an_object_of_names_is_refused() {
    let lab = Lab::new();
    for (object, path) in [
        (r#""settings": { "A": {}, "A": { "secret": true } }"#, "settings"),
        (r#""limits": { "deadlines_ms": { "enable": 1, "enable": 2 } }"#, "limits.deadlines_ms"),
        (r#""plans": [{ "name": "a", "options": { "b": "1", "b": "2" } }]"#, "plans[0].options"),
    ] {
        let text = format!(r#"{{ "name": "addon", "component": "addon.wasm", {object} }}"#);
        let found = problems(&lab, "invalid-manifest", text);
        assert!(matches!(&found[..], [(at, why)] if at.starts_with(path) && why.contains("stands twice")), "{found:?}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let lab = Lab::new();
    let mut document = manifest();
    document["namespace"] = json!("A");
    document["version"] = json!("x");
    document["component"] = json!("../x");
    document["config_vars"] = json!(["a", "PATH"]);
    let found = problems(&lab, "invalid-manifest", document.to_string());
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["namespace", "version", "component", "config_vars[0]", "config_vars[1]"]);
}

#[test]
fn variables_that_would_take_over_an_app_are_refused_whatever_they_are_declared_as() {
    let lab = Lab::new();
    let never = [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_INSERT_LIBRARIES",
        "PATH",
        "IFS",
        "ENV",
        "BASH_ENV",
        "PS4",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NODE_OPTIONS",
        "PYTHONSTARTUP",
        "PYTHONPATH",
        "PERL5LIB",
        "RUBYOPT",
        "JAVA_TOOL_OPTIONS",
        "GIT_SSH_COMMAND",
        "LESSOPEN",
        "XDG_CONFIG_HOME",
        "LODGER_HOME",
    ];
    let mut document = manifest();
    document["config_vars"] = json!(never);
    let found = problems(&lab, "invalid-manifest", document.to_string());
    assert_eq!(found.len(), never.len());
    for (place, (name, (path, message))) in never.iter().zip(&found).enumerate() {
        assert_eq!(*path, format!("config_vars[{place}]"));
        assert_eq!(*message, format!("`{name}` is read by loaders, interpreters or proxies and is never given"));
    }
    // The name that follows from the addon's own is judged too.
    for name in ["ld", "python", "https"] {
        let mut document = manifest();
        document["name"] = json!(name);
        document["config_vars"] =
            json!([format!("{}_{}", name.to_uppercase(), if name == "https" { "PROXY" } else { "URL" })]);
        problems(&lab, "invalid-manifest", document.to_string());
    }
    let document = json!({ "name": "ld", "component": "addon.wasm" });
    let found = problems(&lab, "grant-refused", document.to_string());
    assert_eq!(found, [("config_vars[0]".to_owned(), "`LD_URL` is never given to an app".to_owned())]);
}

#[test]
fn what_the_policy_does_not_admit_is_refused_with_the_line_to_change() {
    let lab = Lab::new();
    let cases: [(&str, Value, &str, &str); 11] = [
        (
            "limits",
            json!({ "memory_bytes": 1u64 << 40 }),
            "limits.memory_bytes",
            "asks for 1099511627776; the policy's ceiling is 536870912",
        ),
        ("limits", json!({ "memory_bytes": 0 }), "limits.memory_bytes", "must be above 0"),
        (
            "limits",
            json!({ "handles": u64::MAX }),
            "limits.handles",
            "asks for 18446744073709551615; the policy's ceiling is 10000",
        ),
        (
            "limits",
            json!({ "deadlines_ms": { "default": 3_600_001 } }),
            "limits.deadlines_ms.default",
            "asks for 3600001 ms; the policy's ceiling is 3600000 ms",
        ),
        (
            "capabilities",
            json!({ "data": { "max_bytes": 1u64 << 40 } }),
            "capabilities.data.max_bytes",
            "asks for 1099511627776; the policy's ceiling is 1073741824",
        ),
        (
            "capabilities",
            json!({ "network": ["example.com:443"] }),
            "capabilities.network[0]",
            "asks for `example.com:443`, which the policy does not let addons reach",
        ),
        (
            "capabilities",
            json!({ "events": ["app.*"] }),
            "capabilities.events[0]",
            "asks for events `app.*`, which the policy lets no addon hear of",
        ),
        (
            "capabilities",
            json!({ "services": true }),
            "capabilities.services",
            "asks to use services, and the manifest declares none",
        ),
        ("replaces", json!("kitchen"), "replaces", "this host has no slot `kitchen`"),
        (
            "replaces",
            json!("scheduler"),
            "replaces",
            "asks to fill the slot `scheduler`, which the policy gives to no addon",
        ),
        ("config_vars", json!(["DATABASE_URL"]), "config_vars[0]", "`DATABASE_URL` does not start with `ADDON_`"),
    ];
    for (key, value, path, message) in cases {
        let mut document = manifest();
        document[key] = value;
        let package = lab.package("package", &document, component("hello"));
        let error = refused(&lab, &package, "grant-refused");
        let [problem] = &error["problems"].as_array().unwrap()[..] else { panic!("{error}") };
        assert_eq!((&problem["path"], &problem["message"]), (&json!(path), &json!(message)));
        assert!(problem["hint"].is_string(), "{error}");
    }
}
