//! What only Docker's implementation does: versions on the wire, engines that come and go, what the API is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lodger::engine::docker::{Address, Docker};
use lodger::engine::{ContainerSpec, Credentials, Engine, Exec, Fault, Helper, NetworkSpec, Reach, Streams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::fake::Fake;
use super::{Bench, SHELL, fault, hold, real_docker, socket};
use crate::support::run;

fn at(path: &Path) -> Docker {
    Docker::connect("edge", &Address::Socket(path.to_owned())).unwrap()
}

/// A request the trait has no word for.
async fn raw(request: &str) -> Value {
    let mut stream = UnixStream::connect(socket()).await.unwrap();
    let request = format!("{request} HTTP/1.0\r\nHost: engine\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split_once("\r\n\r\n").expect("an answer").1;
    serde_json::from_str(body).unwrap_or(Value::Null)
}

#[test]
fn the_version_is_agreed_on_and_on_the_wire() {
    run(async {
        let mut fake = Fake::new();
        // 20.10, the engine of Debian; one that refuses old clients; one newer than we are.
        for (oldest, newest, agreed) in [(12, 41, "1.41"), (44, 52, "1.52"), (44, 99, "1.53")] {
            fake.up(oldest, newest);
            assert_eq!(at(&fake.socket()).containers("a", "b").await.unwrap(), []);
            let asked = fake.asked();
            assert!(asked.last().unwrap().starts_with(&format!("GET /v{agreed}/containers/json?")), "{asked:?}");
        }
        // An engine that is updated while we hold on to it: one request at most says so.
        fake.up(12, 41);
        let docker = at(&fake.socket());
        assert_eq!(docker.containers("a", "b").await.unwrap(), []);
        fake.up(44, 52);
        assert_eq!(fault(docker.containers("a", "b").await), Fault::Unreachable);
        assert_eq!(docker.containers("a", "b").await.unwrap(), []);
    });
    hold(real_docker(), async |bench: &Bench| {
        let server = raw("GET /version").await;
        let about = bench.engine.about().await.unwrap();
        assert_eq!(json!(about.version), server["Version"]);
        assert_eq!(json!(about.api_version), server["ApiVersion"], "engines newer than bollard need this line changed");
    });
}

#[test]
fn an_engine_that_is_away_is_said_so_and_comes_back() {
    run(async {
        let mut fake = Fake::new();
        let docker = at(&fake.socket());
        for _ in 0..2 {
            every_method_says(&docker, &fake.socket()).await;
            fake.up(12, 41);
            assert_eq!(docker.containers("a", "b").await.unwrap(), []);
            // Restarted between two requests.
            fake.up(12, 41);
            assert_eq!(docker.containers("a", "b").await.unwrap(), []);
            fake.down();
        }
        // A socket that nobody listens on any more.
        drop(std::os::unix::net::UnixListener::bind(fake.socket()).unwrap());
        every_method_says(&docker, &fake.socket()).await;
    });
}

async fn every_method_says(docker: &Docker, socket: &Path) {
    let (labels, exec) = (BTreeMap::new(), Exec { timeout: Duration::from_secs(1), ..Exec::default() });
    let spec = ContainerSpec { name: "x".into(), memory_bytes: 1, nano_cpus: 1, pids: 1, ..ContainerSpec::default() };
    let network = NetworkSpec { name: "x".into(), ..NetworkSpec::default() };
    let (helper, mut archive) = (Helper::default(), Vec::new());
    let failures = [
        docker.about().await.err(),
        docker.image("x").await.err(),
        docker.pull("x", None, &|_| {}).await.err(),
        docker.tag("x", "y").await.err(),
        docker.create(&spec).await.err(),
        docker.start("x").await.err(),
        docker.stop("x", Duration::ZERO).await.err(),
        docker.remove("x").await.err(),
        docker.container("x").await.err(),
        docker.containers("x", "y").await.err(),
        docker.logs("x", 10).await.err(),
        docker.exec("x", &exec).await.err(),
        docker.pipe("x", &exec, Streams::default()).await.err(),
        docker.create_network(&network).await.err(),
        docker.networks("x", "y").await.err(),
        docker.remove_network("x").await.err(),
        docker.create_volume("x", &labels).await.err(),
        docker.volume("x").await.err(),
        docker.volumes("x", "y").await.err(),
        docker.remove_volume("x").await.err(),
        docker.disk_usage().await.err(),
        docker.export_volume("x", &helper, &mut archive).await.err(),
        docker.import_volume("x", &helper, Box::new(&b""[..])).await.err(),
        docker.events("x", "y").await.err(),
    ];
    for failure in failures {
        let failure = failure.expect("nothing can have been done");
        assert_eq!(failure.fault, Fault::Unreachable, "{failure}");
        assert!(failure.message.contains(&socket.display().to_string()), "{failure}");
        assert_eq!(failure.engine, "edge");
    }
}

#[test]
fn what_is_not_an_engine_says_nothing_about_containers() {
    run(async {
        let mut fake = Fake::new();
        fake.up(12, 41);
        let docker = at(&fake.socket());
        assert_eq!(fault(docker.container("x").await), Fault::Refused);
        assert_eq!(fault(docker.remove("x").await), Fault::Refused);
    });
}

#[test]
fn what_is_kept_is_read_in_both_its_shapes() {
    run(async {
        let mut fake = Fake::new();
        for newest in [41, 51, 52] {
            fake.up(12, newest);
            let usage = at(&fake.socket()).disk_usage().await.unwrap();
            assert_eq!(usage.containers, BTreeMap::from([("a".to_owned(), 7), ("b".to_owned(), 0)]));
            let volumes = [("v".to_owned(), 9), ("unknown".to_owned(), 0), ("untold".to_owned(), 0)];
            assert_eq!(usage.volumes, BTreeMap::from(volumes));
            let asked = fake.asked();
            assert!(asked.last().unwrap().starts_with(&format!("GET /v1.{newest}/system/df?")), "{asked:?}");
        }
    });
}

#[test]
fn credentials_are_readable_for_the_engine() {
    run(async {
        let mut fake = Fake::new();
        fake.up(12, 41);
        let docker = at(&fake.socket());
        let password = "~~~???>>>ÿÿÿ".to_owned();
        let credentials = Credentials { registry: "r.example:5000".into(), user: "u".into(), password };
        let failure = docker.pull("r.example:5000/a/b", Some(&credentials), &|_| {}).await.unwrap_err();
        assert_eq!(failure.fault, Fault::NotFound);
        assert!(!format!("{failure:?} {credentials:?}").contains("???"));
        let asked = fake.asked();
        let head = asked.last().unwrap();
        // All tags would be fetched if none were named.
        assert!(head.starts_with("POST /v1.41/images/create?fromImage=r.example%3A5000%2Fa%2Fb%3Alatest"), "{head}");
        let header = head.lines().find_map(|line| line.strip_prefix("x-registry-auth: ")).expect("it is sent");
        assert!(!header.contains(['+', '/']) && header.contains(['-', '_']), "{header}");
    });
}

#[test]
fn a_key_that_cannot_be_read_is_said_at_once() {
    let tls = Address::Tls {
        address: "127.0.0.1:2376".into(),
        key: "/no/key".into(),
        certificate: "/no/certificate".into(),
        authority: "/no/authority".into(),
    };
    let failure = Docker::connect("far", &tls).err().expect("it cannot");
    assert!(failure.fault == Fault::Untrusted && failure.to_string().contains("/no/key"), "{failure}");
}

#[test]
fn the_api_is_told_all_limits() {
    hold(real_docker(), async |bench: &Bench| {
        let spec = bench.spec("told", SHELL, |spec| spec.scratch = vec!["/tmp".to_owned()]).await;
        bench.engine.create(&spec).await.unwrap();
        let told = raw(&format!("GET /containers/{}/json", spec.name)).await;
        let host = &told["HostConfig"];
        let expected = json!({
            "Binds": null, "CapAdd": [], "CapDrop": ["ALL"], "Devices": null, "Init": false, "IpcMode": "private",
            "LogConfig": { "Type": "json-file", "Config": { "max-file": "2", "max-size": "4194304" } },
            "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000, "NetworkMode": "none", "PidMode": "",
            "PidsLimit": 50, "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": true,
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 }, "SecurityOpt": ["no-new-privileges"],
            "ShmSize": 64 << 20, "Ulimits": [{ "Name": "nofile", "Hard": 16_384, "Soft": 16_384 }],
        });
        for (name, value) in expected.as_object().unwrap() {
            let empty = |value: &Value| value.is_null() || *value == json!([]);
            assert!(host[name] == *value || empty(&host[name]) && empty(value), "{name}: {}", host[name]);
        }
        assert_eq!(told["Config"]["Tty"], json!(false));
        assert_eq!(told["Config"]["Healthcheck"]["Test"], json!(["NONE"]));
    });
}

/// There is nothing outside to reach where the tests run: what makes the difference is at least asked for.
#[test]
fn the_api_is_told_how_far_networks_reach() {
    hold(real_docker(), async |bench: &Bench| {
        let off = |options: &[&str]| -> Value {
            options.iter().map(|option| (format!("com.docker.network.bridge.{option}"), json!("false"))).collect()
        };
        let kinds = [
            (Reach::Internal, true, off(&[])),
            (Reach::Edge, false, off(&["enable_icc", "enable_ip_masquerade"])),
            (Reach::Outside, false, off(&["enable_icc"])),
        ];
        for (reach, internal, options) in kinds {
            let name = bench.network(&format!("{reach:?}"), reach).await;
            let told = raw(&format!("GET /networks/{name}")).await;
            assert_eq!((&told["Driver"], &told["Internal"]), (&json!("bridge"), &json!(internal)));
            let mut named = told["Options"].clone();
            let bridge = named.as_object_mut().unwrap().remove("com.docker.network.bridge.name").unwrap();
            assert_eq!((&named, &told["Attachable"]), (&options, &json!(false)));
            // Rules of a firewall are made for these.
            let bridge = bridge.as_str().unwrap();
            assert!(bridge.starts_with("lodger-") && bridge.len() == 15, "{bridge}");
            assert!(Path::new("/sys/class/net").join(bridge).exists(), "{bridge}");
        }
    });
}

#[test]
fn a_tag_is_another_name() {
    hold(real_docker(), async |bench: &Bench| {
        let id = bench.image(SHELL).await;
        let name = format!("127.0.0.1:5000/{}:1", bench.name("tagged"));
        bench.engine.tag(SHELL, &name).await.unwrap();
        let tagged = bench.engine.image(&name).await.unwrap();
        raw(&format!("DELETE /images/{name}")).await;
        assert_eq!(tagged.map(|image| image.id), Some(id));
        assert_eq!(bench.engine.image(&name).await.unwrap(), None);
        assert_eq!(fault(bench.engine.tag(SHELL, "a@sha256:00").await), Fault::Refused);
    });
}

/// A volume can be a path of the host in disguise, and the engine says nothing when it is asked to make it again.
#[test]
fn a_disguised_volume_is_not_taken() {
    hold(real_docker(), async |bench: &Bench| {
        let name = bench.name("disguised");
        let body = json!({
            "Name": name, "Labels": bench.labels(), "DriverOpts": { "type": "none", "o": "bind", "device": "/etc" },
        });
        let body = body.to_string();
        let head = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        let mut stream = UnixStream::connect(socket()).await.unwrap();
        let request = format!("POST /volumes/create HTTP/1.0\r\nHost: engine\r\n{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(bench.engine.volumes(super::LABEL, &bench.label).await.unwrap().len(), 1);
        assert_eq!(fault(bench.engine.create_volume(&name, &bench.labels()).await), Fault::Conflict);
    });
}
