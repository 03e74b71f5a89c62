//! Values that services get as files: nowhere in what the engine shows, exactly as given, and gone with their container.

use serde_json::{Value, json};

use super::{Site, docker};
use crate::support::until;

const FIRST: &str = "f1rst ünd \"$HOME\" `id`\nof two lines\n";
const SECOND: &str = "s3cond";

/// An addon of a service that keeps data, and is told a secret as a file and another value as a variable.
fn told(site: &Site) -> String {
    let addon = site.install_with(json!({
        "name": "told", "version": "1.0.0", "settings": { "TOKEN": { "secret": true } },
        "services": [{
            "service_name": "main", "image": "lodger-test/shell:1", "volumes": ["data:/data"],
            "environment": { "TOKEN": "", "PLAIN": "shown" }, "secret_files": ["TOKEN"],
        }],
        "volumes": [{ "name": "data" }],
    }));
    set(site, &addon, FIRST);
    addon
}

fn set(site: &Site, addon: &str, value: &str) {
    site.lodger(&["set", addon, &format!("TOKEN={value}")]).ok();
}

/// The name of the only container.
fn container(site: &Site) -> String {
    let [name] = <[String; 1]>::try_from(site.has("containers")).unwrap();
    name
}

fn volume(container: &str) -> String {
    let format = "{{range .Mounts}}{{if eq .Destination \"/run/secrets\"}}{{.Name}}{{end}}{{end}}";
    docker(&["inspect", "--format", format, container]).trim().to_owned()
}

#[track_caller]
fn holds(container: &str, value: &str) {
    assert_eq!(docker(&["exec", container, "ls", "/run/secrets"]), "TOKEN\n", "and nothing else");
    assert_eq!(docker(&["exec", "--user", "65534", container, "cat", "/run/secrets/TOKEN"]), value);
}

#[track_caller]
fn repairs(site: &Site, what: &str) {
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!((&repaired[0]["service"], &repaired[0]["what"]), (&json!("main"), &json!(what)), "{repaired}");
    assert_eq!(site.lab.json(&["reconcile"]), json!([]), "nothing more to do");
}

#[test]
fn a_secret_is_a_file_and_the_engine_does_not_show_it() {
    let site = Site::new();
    let addon = told(&site);
    let explained = site.lab.json(&["explain", &addon]);
    let because = |what: &str| {
        let line = explained["lines"].as_array().unwrap().iter().find(|line| line["what"] == what);
        line.unwrap_or_else(|| panic!("{what}: {explained}"))["because"].as_str().unwrap().to_owned()
    };
    assert_eq!(because("hand TOKEN to main as the file /run/secrets/TOKEN"), "addon.json: services[0].secret_files");
    let plain = "hand PLAIN to main in its environment, which whoever may ask the engine can read";
    assert_eq!(because(plain), "addon.json: services[0].environment");

    site.lodger(&["enable", &addon]).ok();
    let name = container(&site);
    holds(&name, FIRST);
    let run = |command: &str| docker(&["exec", &name, "sh", "-c", command]);
    assert_eq!(run("echo $TOKEN_FILE $PLAIN ${TOKEN-unset}"), "/run/secrets/TOKEN shown unset\n");
    assert_eq!(run("stat -c '%a %u %g' /run/secrets/TOKEN"), "444 0 0\n");
    let locked = "for it in 'touch /run/secrets/new' 'rm -f /run/secrets/TOKEN' 'chmod 644 /run/secrets/TOKEN'
        do $it 2>/dev/null && echo \"could $it\"; done; true";
    assert_eq!(run(locked), "");
    let env = docker(&["inspect", "--format", "{{json .Config.Env}}", &name]);
    assert!(env.contains("\"PLAIN=shown\"") && env.contains("\"TOKEN_FILE=/run/secrets/TOKEN\""), "{env}");
    for shown in [docker(&["inspect", &name]), docker(&["volume", "inspect", &volume(&name)])] {
        assert!(!shown.contains("f1rst") && !shown.contains("of two lines"), "{shown}");
    }
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn another_value_is_another_container_and_none_outlives_its_own() {
    let site = Site::new();
    let addon = told(&site);
    site.lodger(&["enable", &addon]).ok();
    let name = container(&site);
    let id = || docker(&["inspect", "--format", "{{.Id}}", &name]);
    let first = id();
    docker(&["exec", &name, "sh", "-c", "echo kept > /data/it"]);
    set(&site, &addon, SECOND);
    repairs(&site, "made anew");
    assert_ne!(id(), first);
    holds(&name, SECOND);
    site.lodger(&["set", &addon, "TOKEN="]).ok();
    repairs(&site, "made anew");
    holds(&name, "");
    set(&site, &addon, SECOND);
    repairs(&site, "made anew");

    site.lodger(&["disable", &addon]).ok();
    let [data] = <[String; 1]>::try_from(site.has("volumes")).unwrap();
    assert!(data.contains("-data-"), "only what is no secret is kept: {data}");
    site.lodger(&["enable", &addon]).ok();
    holds(&name, SECOND);
    assert_eq!(docker(&["exec", &name, "cat", "/data/it"]), "kept\n");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon, "--keep-data"]).ok();
    assert_eq!(site.has("volumes"), [data]);
}

#[test]
fn what_is_done_to_the_files_behind_our_back_is_undone_with_the_next_container() {
    let site = Site::new();
    let addon = told(&site);
    site.lodger(&["enable", &addon]).ok();
    let name = container(&site);
    let volume = volume(&name);
    let mount = format!("{volume}:/it");
    let change = "rm /it/TOKEN; echo -n forged > /it/TOKEN; touch /it/STALE; chmod 777 /it";
    docker(&["run", "--rm", "--volume", &mount, "lodger-test/shell:1", "sh", "-c", change]);
    docker(&["rm", "--force", &name]);
    repairs(&site, "made");
    holds(&name, FIRST);
    docker(&["rm", "--force", &name]);
    docker(&["volume", "rm", &volume]);
    repairs(&site, "made");
    holds(&name, FIRST);

    site.lodger(&["disable", &addon]).ok();
    assert_eq!(site.has("volumes").len(), 1, "the data");
    // A volume that is not ours is no place for them.
    docker(&["volume", "create", &volume]);
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(1, "foreign-volume");
    assert!(error["message"].as_str().unwrap().contains(&volume), "{error}");
    assert_eq!(docker(&["run", "--rm", "--volume", &mount, "lodger-test/shell:1", "ls", "/it"]), "");
    docker(&["volume", "rm", &volume]);
    site.lodger(&["enable", &addon]).ok();
    holds(&name, FIRST);
}

#[test]
fn a_kill_at_any_moment_leaves_no_secrets() {
    let site = Site::new();
    let addon = told(&site);
    let started: [fn(&Site) -> bool; 3] =
        [|site| site.has("volumes").len() == 2, |site| !site.has("containers").is_empty(), |_| true];
    for reached in started {
        let enabling = site.lab.start(&["enable", &addon]);
        until(|| reached(&site).then_some(()));
        enabling.kill();
        site.lodger(&["disable", &addon]).ok();
        // What the engine was at when the host was killed may come after that.
        until(|| {
            site.lodger(&["reconcile"]).ok();
            let data_only = site.has("volumes").iter().all(|name| name.contains("-data-"));
            (data_only && site.has("containers").is_empty()).then_some(())
        });
    }
    site.lodger(&["enable", &addon]).ok();
    holds(&container(&site), FIRST);
    let disabling = site.lab.start(&["disable", &addon]);
    until(|| site.has("containers").is_empty().then_some(()));
    disabling.kill();
    site.lodger(&["disable", &addon]).ok();
    assert_eq!(site.has("volumes").len(), 1, "the data");
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn a_service_that_is_not_ready_takes_its_secrets_along() {
    let site = Site::new();
    let addon = site.install(
        "ends",
        json!([{
            "service_name": "main", "image": "lodger-test/exits:1", "environment": { "TOKEN": "x" },
            "secret_files": ["TOKEN"],
        }]),
    );
    site.lodger(&["--json", "enable", &addon]).fails_with(1, "service-not-ready");
    assert_eq!((site.has("containers"), site.has("volumes")), (Vec::new(), Vec::new()));
}

#[test]
fn manifests_that_say_it_wrongly_are_refused() {
    let site = Site::new();
    let cases: [(Value, &str, &str); 6] = [
        (json!({ "secret_files": ["OTHER"] }), "services[0].secret_files[0]", "not in the service's `environment`"),
        (json!({ "secret_files": ["TOKEN", "../x"] }), "services[0].secret_files[1]", "not in the service's"),
        (json!({ "secret_files": ["TOKEN", "TOKEN"] }), "services[0].secret_files", "`TOKEN` stands twice"),
        (json!({ "secret_files": "TOKEN" }), "services[0].secret_files", "expected a sequence"),
        (
            json!({ "secret_files": ["TOKEN"], "environment": { "TOKEN": "", "TOKEN_FILE": "/x" } }),
            "services[0].environment.TOKEN_FILE",
            "which the host sets",
        ),
        (
            json!({ "secret_files": ["TOKEN"], "volumes": ["data:/run/secrets/more"] }),
            "services[0].volumes[0]",
            "where the files of `secret_files` are",
        ),
    ];
    for (change, path, words) in cases {
        let mut service =
            json!({ "service_name": "main", "image": "lodger-test/shell:1", "environment": { "TOKEN": "" } });
        service.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let package = site.package(json!({
            "name": "bad", "version": "1.0.0", "services": [service], "volumes": [{ "name": "data" }],
        }));
        let error =
            site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "invalid-manifest");
        let [problem] = &error["problems"].as_array().unwrap()[..] else { panic!("{error}") };
        assert_eq!(problem["path"], path, "{problem}");
        assert!(problem["message"].as_str().unwrap().contains(words), "{problem}");
    }
}
