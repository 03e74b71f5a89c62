//! Oakestra's addon descriptors, as its users write them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{Site, docker, web};

/// A descriptor with the host port moved into this site's range.
fn moved(site: &Site, descriptor: &str) -> (Value, String) {
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let port = policy.split("host_ports = \"").nth(1).unwrap().split('-').next().unwrap().to_owned();
    let mut manifest: Value = serde_json::from_str(descriptor).unwrap();
    for host in manifest["services"][0]["ports"].as_object_mut().unwrap().values_mut() {
        *host = json!(port);
    }
    (manifest, port)
}

#[test]
fn a_descriptor_is_a_manifest_as_it_is() {
    let site = Site::new();
    let path = crate::support::root().join("guest-examples/shared-cache/addon.json");
    let (manifest, port) = moved(&site, &std::fs::read_to_string(path).unwrap());
    let package = site.package(manifest);
    let installed = site.lab.json(&["install", package.to_str().unwrap(), "--yes"]);
    let addon = format!("{}/shared-cache", site.namespace);
    assert_eq!((&installed["id"], &installed["version"]), (&json!(addon), &json!("0.0.1")));
    site.lodger(&["enable", &addon]).ok();
    let answer = crate::support::until(|| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).ok()?;
        Some(answer)
    });
    assert_eq!(&answer, b"+PONG\r\n");
    let labels = docker(&["inspect", "--format", "{{json .Config.Labels}}", &site.has("containers")[0]]);
    assert!(labels.contains("\"lodger.x.team\":\"platform\"") && !labels.contains("\"team\""), "{labels}");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    site.has_nothing();
}

#[test]
fn siblings_know_each_other_by_the_names_their_author_gave_them() {
    let site = Site::new();
    let mut one = web("my_service");
    one["ports"] = json!({});
    let mut asks = web("asks");
    asks["ports"] = json!({});
    asks["image"] = json!("lodger-test/shell:1");
    asks["command"] = json!("term sleep infinity");
    asks["ready"] =
        json!({ "exec": ["sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 my_service 8080 | grep -q ."] });
    let addon = site.install("pair", json!([one, asks]));
    site.lodger(&["enable", &addon]).ok();
}

/// The example of Oakestra's own documentation: its volume driver is none, which ended their monitor for every addon.
#[test]
fn the_documented_example_fails_cleanly_and_alone() {
    let site = Site::new();
    let other = site.install("other", json!([web("web")]));
    let documented = json!({
        "name": "addon-name", "networks": [], "volumes": [{ "name": "myvolume", "driver": "bridge" }],
        "services": [{
            "image": "your-username/addon-name:latest", "service_name": "my_service", "networks": [],
            "volumes": ["myvolume:/somevolume"], "ports": { "10007": "10007" },
        }],
    });
    let package = site.package(documented);
    let error =
        site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "invalid-manifest");
    let problem = &error["problems"][0];
    assert_eq!((&problem["path"], &problem["hint"]), (&json!("volumes[0].driver"), &json!("remove the line")));
    site.lodger(&["enable", &other]).ok();
    assert_eq!(site.lab.json(&["list"]).as_array().unwrap().len(), 1);
}
