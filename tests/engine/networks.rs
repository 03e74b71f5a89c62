//! Networks: how far containers get.
#![expect(clippy::disallowed_methods, reason = "a client of a published port")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lodger::engine::{Container, ContainerSpec, Fault, NetworkSpec, Published, Reach};

use super::{Bench, LABEL, SHELL, fault};

const WEB: &str = "lodger-test/web:1";
const PAGE: &str = "a page of lodger-test/web";

fn joins(networks: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let own = |aliases: &[&str]| aliases.iter().map(|&alias| alias.to_owned()).collect();
    networks.iter().map(|(network, aliases)| ((*network).to_owned(), own(aliases))).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn fetch(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Asks for a page from inside, and gives up after two seconds.
fn page_of(host: &str) -> String {
    format!("printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 {host} 8080")
}

async fn is_served(bench: &Bench, from: &str, host: &str) -> bool {
    String::from_utf8_lossy(&bench.run(from, &page_of(host)).await.stdout).contains(PAGE)
}

async fn until_served(bench: &Bench, from: &str, host: &str) {
    for _ in 0..50 {
        if is_served(bench, from, host).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{host} is not reached");
}

pub async fn internal_is_for_siblings_only(bench: &Bench) {
    let network = bench.network("inside", Reach::Internal).await;
    let web = bench.start("web", WEB, |spec| spec.networks = joins(&[(&network, &["web", "also-web"])])).await;
    let client = bench.start("client", SHELL, |spec| spec.networks = joins(&[(&network, &["client"])])).await;
    let elsewhere = bench.network("elsewhere", Reach::Internal).await;
    let stranger = bench.start("stranger", SHELL, |spec| spec.networks = joins(&[(&elsewhere, &[])])).await;

    until_served(bench, &client, "web").await;
    until_served(bench, &client, "also-web").await;
    assert_ne!(bench.run(&client, "nc -w 2 1.1.1.1 53 < /dev/null").await.exit_code, Some(0));
    let found = bench.container(&web).await;
    let address = found.networks[&network].expect("a running container has one");
    until_served(bench, &client, &address.to_string()).await;
    assert!(!is_served(bench, &stranger, "web").await);
    assert!(!is_served(bench, &stranger, &address.to_string()).await);

    let alone = bench.start("alone", SHELL, |_| {}).await;
    assert_eq!(bench.says(&alone, "ls /sys/class/net").await, "lo");

    // What it is called there is told, its id not among it, and is no other once it has ended.
    let called = &found.aliases[&network];
    assert!(["web", "also-web"].iter().all(|alias| called.contains(&(*alias).to_owned())), "{called:?}");
    assert!(!called.iter().any(|name| found.id.starts_with(name)), "{called:?}");
    bench.engine.stop(&web, Duration::from_secs(1)).await.unwrap();
    assert_eq!(bench.container(&web).await.aliases, found.aliases);
}

pub async fn edge_publishes_and_does_not_join(bench: &Bench) {
    let inside = bench.network("a-inside", Reach::Internal).await;
    let edge = bench.network("b-edge", Reach::Edge).await;
    let host = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let published = Published { container_port: 8080, host };
    let shape = |spec: &mut ContainerSpec| {
        spec.networks = joins(&[(&inside, &["web"]), (&edge, &[])]);
        spec.ports = vec![published.clone()];
    };
    let web = bench.start("web", WEB, shape).await;
    let on_edge = bench.start("on-edge", SHELL, |spec| spec.networks = joins(&[(&edge, &[])])).await;
    let sibling = bench.start("sibling", SHELL, |spec| spec.networks = joins(&[(&inside, &[])])).await;
    until_served(bench, &sibling, "web").await;

    assert!(fetch(host).unwrap().contains(PAGE));
    let found = bench.container(&web).await;
    assert_eq!(found.ports, vec![published.clone()]);
    assert_eq!(found.networks.keys().collect::<Vec<_>>(), [&inside, &edge]);
    let listed = Container { aliases: BTreeMap::new(), ..found.clone() };
    assert!(bench.mine().await.contains(&listed), "a list tells the same, but for what it is called");
    // The host gets there; who is in the same network does not.
    let address = found.networks[&edge].unwrap();
    assert!(fetch(SocketAddr::new(address, 8080)).unwrap().contains(PAGE));
    assert!(!is_served(bench, &on_edge, &address.to_string()).await);

    // The port and its name inside are the same after a stop, and nobody else gets the port.
    bench.engine.stop(&web, Duration::from_secs(5)).await.unwrap();
    assert_eq!(bench.container(&web).await.ports, vec![published.clone()]);
    bench.engine.start(&web).await.unwrap();
    until_served(bench, &sibling, "web").await;
    assert!(fetch(host).unwrap().contains(PAGE));
    let second = bench.spec("second", WEB, |spec| {
        spec.networks = joins(&[(&edge, &[])]);
        spec.ports = vec![published];
    });
    let second = bench.engine.create(&second.await).await.unwrap();
    assert_eq!(fault(bench.engine.start(&second).await), Fault::Conflict);
}

pub async fn outside_does_not_join(bench: &Bench) {
    let out = bench.network("out", Reach::Outside).await;
    let web = bench.start("web", WEB, |spec| spec.networks = joins(&[(&out, &[])])).await;
    let client = bench.start("client", SHELL, |spec| spec.networks = joins(&[(&out, &[])])).await;
    let address = bench.container(&web).await.networks[&out].unwrap();
    assert!(fetch(SocketAddr::new(address, 8080)).unwrap().contains(PAGE));
    assert!(!is_served(bench, &client, &address.to_string()).await);
}

pub async fn networks_are_made_once(bench: &Bench) {
    let engine = &bench.engine;
    let name = bench.network("twice", Reach::Internal).await;
    let longer = bench.network("twice-and-more", Reach::Internal).await;
    bench.network("twice", Reach::Internal).await;
    let listed = engine.networks(LABEL, &bench.label).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|network| network.labels == bench.labels() && !network.id.is_empty()));
    assert_eq!(engine.networks(LABEL, &bench.label[..2]).await.unwrap(), []);

    // One that reaches further is not taken for it.
    for reach in [Reach::Edge, Reach::Outside] {
        let spec = NetworkSpec { name: name.clone(), labels: bench.labels(), reach };
        assert_eq!(fault(engine.create_network(&spec).await), Fault::Conflict);
    }
    // Made by several at once, it is there once.
    let spec = NetworkSpec { name: bench.name("race"), labels: bench.labels(), reach: Reach::Internal };
    let (a, b, c) =
        tokio::join!(engine.create_network(&spec), engine.create_network(&spec), engine.create_network(&spec));
    for made in [a, b, c] {
        made.unwrap();
    }
    let listed = engine.networks(LABEL, &bench.label).await.unwrap();
    assert_eq!(listed.iter().filter(|network| network.name == spec.name).count(), 1);
    engine.remove_network(&spec.name).await.unwrap();

    let container = bench.start("in-it", SHELL, |spec| spec.networks = joins(&[(&name, &[])])).await;
    assert_eq!(fault(engine.remove_network(&name).await), Fault::Conflict);
    engine.remove(&container).await.unwrap();
    engine.remove_network(&name).await.unwrap();
    engine.remove_network(&name).await.unwrap();
    let listed = engine.networks(LABEL, &bench.label).await.unwrap();
    assert_eq!(listed.iter().map(|network| &network.name).collect::<Vec<_>>(), [&longer]);
}

pub async fn what_fails_half_way_is_not_left(bench: &Bench) {
    let network = bench.network("a", Reach::Internal).await;
    let missing = bench.name("b-missing");
    let spec = bench.spec("half", SHELL, |spec| spec.networks = joins(&[(&network, &[]), (&missing, &[])])).await;
    assert_eq!(fault(bench.engine.create(&spec).await), Fault::NotFound);
    assert_eq!(bench.mine().await, []);
}

pub async fn the_engines_own_are_refused(bench: &Bench) {
    for network in ["host", "bridge", "none", "default", "container:x", "slirp4netns"] {
        let spec = bench.spec("own", SHELL, |spec| spec.networks = joins(&[(network, &[])])).await;
        assert_eq!(fault(bench.engine.create(&spec).await), Fault::Refused, "{network}");
    }
    assert_eq!(bench.mine().await, []);
}
