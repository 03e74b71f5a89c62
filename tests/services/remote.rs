//! Engines over mutual TLS: on another machine, as far as Lodger can tell. They are who the policy's authority says, or
//! nothing is asked of them; and their ports are not this machine's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::private::{APPS, PrivateEngine};
use super::redis::url;
use super::{Site, docker, web};
use crate::mutual_tls::{MutualTls, pem};

const SOCKET: &str = "/var/run/docker.sock";

/// The lines of an engine over TLS.
fn far(address: &str, client: &Path, authority: &Path, more: &str) -> String {
    format!(
        "[[engine]]\nname = \"far\"\naddress = \"{address}\"\nkey = \"{0}\"\ncertificate = \"{0}\"\nauthority = \"{1}\"\n{more}\n",
        client.display(),
        authority.display()
    )
}

fn good(server: &MutualTls, more: &str) -> String {
    far(&format!("localhost:{}", server.port), &pem("client.pem"), &pem("authority.pem"), more)
}

/// The address that an engine's machine has in a network of the engine: one beside the loopback.
fn address_in(network: &str, mut docker: Command) -> String {
    let format = "{{(index .IPAM.Config 0).Gateway}}";
    let output = docker.args(["network", "inspect", network, "--format", format]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn services_run_on_an_engine_over_tls() {
    let server = MutualTls::before(Path::new(SOCKET));
    let site = Site::new();
    // It goes with the site, where the test does not come to its end.
    let network = &site.namespace;
    docker(&["network", "create", "--label", &format!("lodger.addon={network}/gateway"), network]);
    let address = address_in(network, Command::new("docker"));
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    site.lab.policy(&format!("{policy}{}", good(&server, &format!("apps_address = \"{address}\""))));
    let pages = site.install("pages", json!([web("web")]));
    let explained = site.lodger(&["explain", &pages]).ok().stdout;
    assert!(explained.contains(&format!("a port of {address} that is assigned once")), "{explained}");
    site.lodger(&["enable", &pages]).ok();
    let published = docker(&["port", &site.has("containers")[0], "8080"]);
    assert!(published.starts_with(&format!("{address}:")), "{published}");
    let mut stream = TcpStream::connect(published.trim()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("a page of lodger-test/web"), "{page}");

    // With commands run in it, by the hook and to see whether it is ready.
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    assert!(url(&site, "shop").contains(&format!("@{address}:")));
    assert!(!site.lodger(&["logs", &redis, "--service", "redis"]).ok().stdout.is_empty());
    site.lodger(&["remove", "shop", &redis]).ok();
    for addon in [&pages, &redis] {
        site.lodger(&["disable", addon]).ok();
        site.lodger(&["uninstall", addon]).ok();
    }
    docker(&["network", "rm", network]);
    site.has_nothing();
}

#[test]
fn an_engine_is_who_the_policy_says_or_nothing_is_asked_of_it() {
    let server = MutualTls::before(Path::new(SOCKET));
    let (at, by_number) = (format!("localhost:{}", server.port), format!("127.0.0.1:{}", server.port));
    let site = Site::new();
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let addon = site.install("web", json!([{ "service_name": "web", "image": "lodger-test/web:1" }]));
    let (client, authority, stranger) = (pem("client.pem"), pem("authority.pem"), pem("other.example.pem"));
    let cases = [
        // Another authority than the one that has signed the engine's certificate.
        (far(&at, &client, &pem("clients.pem"), ""), "whom `authority` vouches for"),
        // A certificate for another name.
        (far(&by_number, &client, &authority, ""), "by this `address`"),
        // A certificate that the engine's authority has not signed.
        (far(&at, &stranger, &authority, ""), "does not take our `certificate`"),
        (far(&at, &pem("none.pem"), &authority, ""), "none.pem"),
        (far(&at, &client, &pem("README.md"), ""), "README.md: no certificate in it"),
        (far(&at, &client, &authority, "").replacen("client.pem", "localhost.pem", 1), "localhost.pem"),
    ];
    for (lines, words) in cases {
        site.lab.policy(&format!("{policy}{lines}apps_address = \"10.255.255.1\"\n"));
        let mut enable = site.lab.command(&["--json", "enable", &addon]);
        // Whom this machine trusts does not matter.
        enable.env("SSL_CERT_FILE", &authority);
        let error = crate::support::Ran::of(&["enable"], enable.output().unwrap()).fails_with(4, "engine-untrusted");
        assert!(error["message"].as_str().unwrap().contains(words), "{words}: {error}");
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("`authority`") && hint.contains("[[engine]] `far` in lodger.toml"), "{hint}");
    }
    site.has_nothing();
    // What does not speak TLS at all.
    let deaf = crate::loopback::Loopback::raw(|stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let lines = far(&deaf.authority(), &client, &authority, "apps_address = \"10.255.255.1\"");
    site.lab.policy(&format!("{policy}{lines}"));
    let error = site.lodger(&["--json", "enable", &addon]).fails_with(4, "engine-untrusted");
    assert!(error["message"].as_str().unwrap().contains("does not agree on TLS"), "{error}");
}

#[test]
fn ports_of_another_machine_are_its_own() {
    let private = PrivateEngine::new(&["lodger-test/web:1"]);
    let server = MutualTls::before(Path::new(&private.socket()));
    let address = address_in(APPS, private.docker());
    let near = format!("[[engine]]\nname = \"a-near\"\nsocket = \"{SOCKET}\"\n");
    let site = Site::with_policy(&format!("{near}{}", good(&server, &format!("apps_address = \"{address}\""))));
    let policy = std::fs::read_to_string(site.lab.home().join("lodger.toml")).unwrap();
    let port = policy.split("host_ports = \"").nth(1).unwrap().split('-').next().unwrap();
    let mut fixed = web("web");
    fixed["ports"] = json!({ "8080": port });
    fixed["ready"] = json!({ "exec": ["true"] });
    let [one, two, three] = ["one", "two", "three"].map(|name| site.install(name, json!([fixed])));
    site.lodger(&["enable", &one]).ok();
    site.lodger(&["enable", &two]).ok();
    assert_eq!(docker(&["port", &site.has("containers")[0], "8080"]).trim(), format!("127.0.0.1:{port}"));
    let listed = private.docker().args(["ps", "--format", "{{.Ports}}"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&format!("{address}:{port}->8080/tcp")), "{listed}");
    site.lodger(&["--json", "enable", &three]).fails_with(1, "port-taken");
    for addon in [&one, &two, &three] {
        site.lodger(&["disable", addon]).ok();
        site.lodger(&["uninstall", addon]).ok();
    }

    // Where its apps are in a network there, nothing of this machine is taken for a port of it.
    let network = policy.replace(&near, "").replace(&format!("apps_address = \"{address}\""), "");
    site.lab.policy(&format!("{network}[apps]\nreach = \"network:{APPS}\"\n"));
    let four = site.install("four", json!([web("web")]));
    let error = site.lodger(&["--json", "enable", &four]).fails_with(1, "service");
    assert!(error["message"].as_str().unwrap().contains("engine `far` is not reached from this machine"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("`apps_address`"), "{error}");
    site.lodger(&["disable", &four]).ok();
    site.lodger(&["uninstall", &four]).ok();
    site.has_nothing();
    private.is_empty();
}
