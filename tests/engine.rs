//! The contract of engines: what `lodger::engine` promises, held against a real engine. Every implementation runs the same
//! tests; what only Docker's does is in `docker`.
//!
//! Whatever a test makes has a label of its own and is gone after it, also when it fails.

mod containers;
mod docker;
mod exec;
mod fake;
mod networks;
pub mod podman;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use lodger::engine::docker::{Address, Docker};
use lodger::engine::{Container, ContainerSpec, Engine, Exec, Executed, Fault, Helper, NetworkSpec, Reach, Status};

use crate::mutual_tls::MutualTls;
use crate::support::run;

const LABEL: &str = "lodger.test";
const SHELL: &str = "lodger-test/shell:1";
const HINT: &str = "no engine, or not the images for tests: run `cargo xtask test --install-engine`";

/// The tests of the contract, for an engine made by `$engine`.
macro_rules! contract {
    ($engine:path: $($part:ident { $($test:ident)* })*) => {
        $(mod $part {
            $(#[test] fn $test() { crate::engine::hold($engine(), crate::engine::$part::$test); })*
        })*
    };
}

mod on_docker {
    contract! { crate::engine::real_docker:
        containers {
            lives_and_is_gone a_taken_name_is_a_conflict the_stubborn_are_killed_after_their_grace an_exit_is_seen
            output_is_bounded limits_hold_inside what_is_mounted_is_as_asked capabilities_are_those_given
            lists_are_exact images_are_told what_is_not_there_is_said_so events_arrive it_says_what_it_is
            a_fetch_that_fails_says_so
        }
        networks {
            internal_is_for_siblings_only edge_publishes_and_does_not_join outside_does_not_join
            networks_are_made_once what_fails_half_way_is_not_left the_engines_own_are_refused
        }
        exec {
            commands_answer input_is_given output_is_cut the_endless_are_left it_needs_a_running_container
            streams_are_whole_and_held_nowhere a_slow_reader_holds_the_command_back a_stream_that_fails_ends_its_command
            the_endless_are_killed_where_they_have_streams
        }
        volumes {
            volumes_are_made_once content_goes_out_and_in failed_archives_leave_no_helper what_is_kept_is_measured
            what_is_only_read_is_as_it_was_given a_helper_that_is_left_has_its_name_and_labels
        }
    }
}

mod on_podman {
    // Not of Podman 4.3:
    // - `output_is_bounded`: of a line without an end it shows nothing, where Docker shows the last of it;
    // - `edge_publishes_and_does_not_join` and `outside_does_not_join`: it cannot keep containers of one network apart, and
    //   such networks are refused, which `networks_that_cannot_be_are_refused` holds it to;
    // - `content_goes_out_and_in`: its archives of a volume say that everything in it is root's.
    contract! { crate::engine::podman::real_podman:
        containers {
            lives_and_is_gone a_taken_name_is_a_conflict the_stubborn_are_killed_after_their_grace an_exit_is_seen
            limits_hold_inside what_is_mounted_is_as_asked capabilities_are_those_given
            lists_are_exact images_are_told what_is_not_there_is_said_so events_arrive it_says_what_it_is
            a_fetch_that_fails_says_so
        }
        networks {
            internal_is_for_siblings_only networks_are_made_once what_fails_half_way_is_not_left
            the_engines_own_are_refused
        }
        exec {
            commands_answer input_is_given output_is_cut the_endless_are_left it_needs_a_running_container
        }
        volumes {
            volumes_are_made_once failed_archives_leave_no_helper what_is_kept_is_measured
        }
        podman { networks_that_cannot_be_are_refused }
    }
}

/// What streams in both directions, or breaks off, over a connection that is not a socket's.
mod over_tls {
    contract! { crate::engine::docker_over_tls:
        containers { lives_and_is_gone output_is_bounded events_arrive a_fetch_that_fails_says_so it_says_what_it_is }
        exec { commands_answer input_is_given output_is_cut the_endless_are_left }
        volumes { content_goes_out_and_in failed_archives_leave_no_helper what_is_kept_is_measured }
    }
}

pub fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").ok();
    let path = host.as_deref().and_then(|host| host.strip_prefix("unix://"));
    PathBuf::from(path.unwrap_or("/var/run/docker.sock"))
}

/// An engine, and what it needs to be there.
struct Under {
    engine: Box<dyn Engine>,
    /// Ends with the last test that uses it.
    podman: Option<Arc<podman::Podman>>,
}

fn real_docker() -> Under {
    Under { engine: Box::new(Docker::connect("local", &Address::Socket(socket())).unwrap()), podman: None }
}

fn docker_over_tls() -> Under {
    static SERVER: LazyLock<MutualTls> = LazyLock::new(|| MutualTls::before(&socket()));
    Under { engine: Box::new(Docker::connect("far", &SERVER.address()).unwrap()), podman: None }
}

fn hold(Under { engine, podman: _podman }: Under, test: impl AsyncFnOnce(&Bench)) {
    let bench = Bench::new(engine);
    run(async {
        if let Err(failure) = bench.engine.about().await {
            panic!("{failure}: {HINT}");
        }
        test(&bench).await;
    });
}

/// An engine, and a label for all that one test makes there.
struct Bench {
    engine: Box<dyn Engine>,
    label: String,
}

impl Bench {
    fn new(engine: Box<dyn Engine>) -> Bench {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Bench { engine, label: format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    fn name(&self, name: &str) -> String {
        format!("lodger-test-{}-{name}", self.label)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.label.clone())])
    }

    async fn image(&self, name: &str) -> String {
        match self.engine.image(name).await {
            Ok(Some(image)) => image.id,
            Ok(None) => panic!("{name}: {HINT}"),
            Err(failure) => panic!("{failure}: {HINT}"),
        }
    }

    /// A small container, as `change` makes it.
    async fn spec(&self, name: &str, image: &str, change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        let mut spec = ContainerSpec {
            name: self.name(name),
            image: self.image(image).await,
            labels: self.labels(),
            read_only: true,
            memory_bytes: 64 << 20,
            nano_cpus: 500_000_000,
            pids: 50,
            ..ContainerSpec::default()
        };
        change(&mut spec);
        spec
    }

    /// Creates and starts one, and returns its name.
    async fn start(&self, name: &str, image: &str, change: impl FnOnce(&mut ContainerSpec)) -> String {
        let spec = self.spec(name, image, change).await;
        self.engine.create(&spec).await.unwrap();
        self.engine.start(&spec.name).await.unwrap();
        spec.name
    }

    async fn network(&self, name: &str, reach: Reach) -> String {
        let name = self.name(name);
        let spec = NetworkSpec { name: name.clone(), labels: self.labels(), reach };
        self.engine.create_network(&spec).await.unwrap();
        name
    }

    async fn volume(&self, name: &str) -> String {
        let name = self.name(name);
        self.engine.create_volume(&name, &self.labels()).await.unwrap();
        name
    }

    /// Each with a name of its own.
    fn helper(&self, image: &str) -> Helper {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = self.name(&format!("helper-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        Helper { name, image: image.to_owned(), labels: self.labels() }
    }

    async fn container(&self, name: &str) -> Container {
        self.engine.container(name).await.unwrap().expect("it is there")
    }

    async fn mine(&self) -> Vec<Container> {
        self.engine.containers(LABEL, &self.label).await.unwrap()
    }

    async fn run(&self, container: &str, command: &str) -> Executed {
        let command = ["sh", "-c", command].map(str::to_owned).to_vec();
        let timeout = Duration::from_secs(20);
        let exec = Exec { command, stdin: Vec::new(), output_max: 1 << 20, timeout };
        self.engine.exec(container, &exec).await.unwrap()
    }

    /// What a command that succeeds prints.
    async fn says(&self, container: &str, command: &str) -> String {
        let done = self.run(container, command).await;
        assert_eq!(done.exit_code, Some(0), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    async fn until_exited(&self, name: &str) -> Option<i64> {
        for _ in 0..200 {
            if let Status::Exited(code) = self.container(name).await.status {
                return code;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} does not end");
    }

    async fn clean(&self) {
        for container in self.mine().await {
            let _ = self.engine.remove(&container.id).await;
        }
        for network in self.engine.networks(LABEL, &self.label).await.unwrap_or_default() {
            let _ = self.engine.remove_network(&network.name).await;
        }
        for volume in self.engine.volumes(LABEL, &self.label).await.unwrap_or_default() {
            let _ = self.engine.remove_volume(&volume.name).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        run(async {
            // An engine that a test has made unreachable has nothing of it either.
            if self.engine.containers(LABEL, &self.label).await.is_ok() {
                self.clean().await;
                assert!(std::thread::panicking() || self.mine().await.is_empty(), "containers are left");
            }
        });
    }
}

/// How a request failed that must fail.
fn fault<T>(answer: lodger::engine::Result<T>) -> Fault {
    match answer {
        Ok(_) => panic!("it succeeded"),
        Err(failure) => failure.fault,
    }
}

async fn seconds(work: impl Future<Output = ()>) -> f64 {
    let begin = Instant::now();
    work.await;
    begin.elapsed().as_secs_f64()
}
