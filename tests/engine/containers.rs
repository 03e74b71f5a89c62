//! Containers and images.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::Duration;

use lodger::engine::{Credentials, Event, Events, Fault, Status};

use super::{Bench, LABEL, SHELL, fault, seconds};

const SOON: Duration = Duration::from_secs(5);

pub async fn lives_and_is_gone(bench: &Bench) {
    let engine = &bench.engine;
    let spec = bench.spec("life", SHELL, |_| {}).await;
    let id = engine.create(&spec).await.unwrap();
    let made = bench.container(&spec.name).await;
    assert_eq!((made.id.as_str(), made.name.as_str(), made.status), (id.as_str(), spec.name.as_str(), Status::Created));
    assert_eq!(made.image, spec.image);
    // The image's own labels are there too.
    assert!(spec.labels.iter().all(|(label, value)| made.labels.get(label) == Some(value)), "{:?}", made.labels);
    assert_eq!(engine.container(&id).await.unwrap(), Some(made));
    // A part of an id is not an id.
    assert_eq!(fault(engine.container(&id[..12]).await), Fault::Refused);

    engine.start(&id).await.unwrap();
    engine.start(&spec.name).await.unwrap();
    assert_eq!(bench.container(&id).await.status, Status::Running);

    // Its first process ends when it is told to, once it listens: 15 is the fourth digit's.
    let listens = "until grep -Eq '^SigCgt:.*[4-7c-f][0-9a-f]{3}$' /proc/1/status; do sleep 0.1; done";
    bench.says(&id, listens).await;
    assert!(seconds(async { engine.stop(&id, Duration::from_secs(20)).await.unwrap() }).await < 15.0);
    engine.stop(&id, SOON).await.unwrap();
    assert_eq!(bench.container(&id).await.status, Status::Exited(Some(143)));
    engine.start(&id).await.unwrap();
    assert_eq!(bench.container(&id).await.status, Status::Running);

    engine.remove(&spec.name).await.unwrap();
    assert_eq!(engine.container(&id).await.unwrap(), None);
    engine.remove(&spec.name).await.unwrap();
    engine.remove(&id).await.unwrap();
    engine.stop(&spec.name, SOON).await.unwrap();
    assert_eq!(fault(engine.start(&spec.name).await), Fault::NotFound);
}

pub async fn a_taken_name_is_a_conflict(bench: &Bench) {
    let name = bench.start("taken", SHELL, |_| {}).await;
    let first = bench.container(&name).await;
    let again = bench.spec("taken", SHELL, |_| {}).await;
    assert_eq!(fault(bench.engine.create(&again).await), Fault::Conflict);
    assert_eq!(bench.container(&name).await, first);
}

pub async fn the_stubborn_are_killed_after_their_grace(bench: &Bench) {
    let name = bench.start("stubborn", "lodger-test/stubborn:1", |_| {}).await;
    let took = seconds(async { bench.engine.stop(&name, Duration::from_millis(1500)).await.unwrap() }).await;
    assert!((1.4..12.0).contains(&took), "{took}");
    assert_eq!(bench.container(&name).await.status, Status::Exited(Some(137)));
}

pub async fn an_exit_is_seen(bench: &Bench) {
    let name = bench.start("exits", "lodger-test/exits:1", |_| {}).await;
    assert_eq!(bench.until_exited(&name).await, Some(3));
    let listed = bench.mine().await;
    assert_eq!(listed.len(), 1);
    assert!(matches!(listed[0].status, Status::Exited(None | Some(3))), "{listed:?}");
    let output = bench.engine.logs(&name, 1000).await.unwrap();
    assert_eq!(output, b"it cannot start: nothing is right\n");
    assert_eq!(bench.engine.logs(&name, 6).await.unwrap(), b"right\n");
}

pub async fn output_is_bounded(bench: &Bench) {
    // 50 MB without the end of a line.
    let name = bench.start("noisy", "lodger-test/noisy:1", |_| {}).await;
    let mut output = Vec::new();
    for _ in 0..100 {
        output = bench.engine.logs(&name, 100_000).await.unwrap();
        assert!(output.len() <= 100_000);
        if output.len() == 100_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(output.len(), 100_000);
    assert!(output.iter().all(|byte| *byte == b'y'));
}

pub async fn limits_hold_inside(bench: &Bench) {
    let name = bench.start("limits", SHELL, |_| {}).await;
    let either = |old: &str, new: &str| format!("cat /sys/fs/cgroup/{old} 2>/dev/null || cat /sys/fs/cgroup/{new}");
    let memory = bench.says(&name, &either("memory/memory.limit_in_bytes", "memory.max")).await;
    assert_eq!(memory, (64 << 20).to_string());
    assert_eq!(bench.says(&name, &either("pids/pids.max", "pids.max")).await, "50");
    let quota = bench.says(&name, &either("cpu/cpu.cfs_quota_us", "cpu.max")).await;
    assert_eq!(quota.split(' ').next(), Some("50000"));
    let memory_with_swap = "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes 2>/dev/null || true";
    let memory_with_swap = bench.says(&name, memory_with_swap).await;
    assert!(memory_with_swap.is_empty() || memory_with_swap == memory, "{memory_with_swap}");
    assert_eq!(bench.says(&name, "ulimit -n; ulimit -Hn").await, "16384\n16384");
    // A bomb of processes goes off inside: the engine still answers, and the container is removed.
    let bomb = bench.run(&name, "for i in $(seq 100); do sleep 100 & done; echo survived").await;
    assert_ne!(bomb.stdout, b"survived\n");
}

pub async fn what_is_mounted_is_as_asked(bench: &Bench) {
    let volume = bench.volume("data").await;
    let name = bench
        .start("mounts", SHELL, |spec| {
            spec.volumes = BTreeMap::from([(volume, "/data".to_owned())]);
            spec.scratch = vec!["/tmp".to_owned(), "/run/it".to_owned()];
            spec.environment = BTreeMap::from([("GREETING".to_owned(), "a=b \"c\" $HOME".to_owned())]);
        })
        .await;
    assert_ne!(bench.run(&name, "touch /var/x").await.exit_code, Some(0));
    bench.says(&name, "touch /data/x /tmp/x /run/it/x").await;
    assert_eq!(bench.says(&name, "echo \"$GREETING\"").await, "a=b \"c\" $HOME");
    assert_eq!(bench.says(&name, "stat -c %a /tmp /run/it").await, "1777\n1777");
    for path in ["/tmp", "/run/it"] {
        let mounted = bench.says(&name, &format!("grep ' {path} ' /proc/mounts")).await;
        for word in ["tmpfs", "nosuid", "nodev", "size=65536k"] {
            assert!(mounted.contains(word), "{mounted}");
        }
    }
    assert!(bench.says(&name, "grep ' /dev/shm ' /proc/mounts").await.contains("size=65536k"));
    assert_eq!(bench.says(&name, "hostname").await, name);
    // Nothing of the host: no socket of the engine, no device of a disk, and the first process is the container's.
    assert_eq!(bench.says(&name, "ls /var/run /run | grep -c sock || true").await, "0");
    assert_eq!(bench.says(&name, "find /dev -type b | wc -l").await, "0");
    assert!(bench.says(&name, "cat /proc/1/cmdline").await.contains("term"));

    let writable = bench.start("writable", SHELL, |spec| spec.read_only = false).await;
    bench.says(&writable, "touch /var/x").await;
}

pub async fn capabilities_are_those_given(bench: &Bench) {
    let none = bench.start("none", SHELL, |_| {}).await;
    let status = bench.says(&none, "cat /proc/self/status").await;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let two = bench.start("two", SHELL, |spec| spec.capabilities = vec!["CHOWN".to_owned(), "SETUID".to_owned()]).await;
    assert!(bench.says(&two, "cat /proc/self/status").await.contains("CapBnd:\t0000000000000081"));

    let raw = bench.spec("raw", SHELL, |spec| spec.capabilities = vec!["NET_RAW".to_owned()]).await;
    assert_eq!(fault(bench.engine.create(&raw).await), Fault::Refused);
    let endless = bench.spec("endless", SHELL, |spec| spec.memory_bytes = 0).await;
    assert_eq!(fault(bench.engine.create(&endless).await), Fault::Refused);
}

pub async fn lists_are_exact(bench: &Bench) {
    let one = bench.start("one", SHELL, |_| {}).await;
    let spec = bench.spec("two", SHELL, |_| {}).await;
    bench.engine.create(&spec).await.unwrap();
    // The same label with more after it, and another label with the value.
    let longer = format!("{}-x", bench.label);
    let other = bench.spec("other", SHELL, |spec| {
        spec.labels =
            BTreeMap::from([(LABEL.to_owned(), longer.clone()), ("lodger.tests".to_owned(), bench.label.clone())]);
    });
    let other = bench.engine.create(&other.await).await.unwrap();

    let mut listed = bench.mine().await;
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let statuses: Vec<_> = listed.iter().map(|it| (it.name.as_str(), it.status)).collect();
    assert_eq!(statuses, [(one.as_str(), Status::Running), (spec.name.as_str(), Status::Created)]);
    // A list tells what asking for one tells.
    assert_eq!(listed[0], bench.container(&one).await);
    assert_eq!(listed[1], bench.container(&spec.name).await);

    // The beginning of a value is not the value; that of this test's own could be the whole of another's.
    let cut = &longer[..longer.len() - 1];
    assert_eq!(bench.engine.containers(LABEL, cut).await.unwrap(), []);
    assert_eq!(bench.engine.containers(LABEL, "").await.unwrap(), []);
    assert_eq!(bench.engine.containers(LABEL, &longer).await.unwrap().len(), 1);
    bench.engine.remove(&other).await.unwrap();
}

pub async fn images_are_told(bench: &Bench) {
    let image = async |name: &str| bench.engine.image(name).await.unwrap();
    bench.image(SHELL).await;
    let volumes = image("lodger-test/volumes:1").await.unwrap();
    assert_eq!(volumes.volumes, ["/a", "/b"]);
    assert!(volumes.id.starts_with("sha256:") && volumes.id.len() == 71, "{}", volumes.id);
    assert_eq!(image(&volumes.id).await, Some(volumes.clone()));
    let forged = image("lodger-test/forged:1").await.unwrap();
    assert_eq!(forged.labels.get("lodger.home").map(String::as_str), Some("forged"));
    let here = bench.engine.about().await.unwrap().architecture;
    assert_eq!(volumes.architecture, here);
    assert_ne!(image("lodger-test/otherarch:1").await.unwrap().architecture, here);
    assert_eq!(image("lodger-test/no-such:1").await, None);
    assert_eq!(image(&format!("sha256:{}", "0".repeat(64))).await, None);
    assert_eq!(image("docker.io/lodger-test/volumes:1").await, Some(volumes));
}

pub async fn what_is_not_there_is_said_so(bench: &Bench) {
    let engine = &bench.engine;
    let none = bench.name("none");
    assert_eq!(engine.container(&none).await.unwrap(), None);
    assert_eq!(fault(engine.logs(&none, 10).await), Fault::NotFound);
    let mut spec = bench.spec("no-image", SHELL, |spec| spec.image = format!("sha256:{}", "0".repeat(64))).await;
    assert_eq!(fault(engine.create(&spec).await), Fault::NotFound);
    spec =
        bench.spec("no-volume", SHELL, |spec| spec.volumes = BTreeMap::from([(none.clone(), "/x".to_owned())])).await;
    assert_eq!(fault(engine.create(&spec).await), Fault::NotFound);
    assert_eq!(engine.containers(LABEL, &bench.label).await.unwrap(), []);
    engine.create_volume(&none, &bench.labels()).await.unwrap();
    engine.remove_volume(&none).await.unwrap();
    assert_eq!(fault(engine.tag("lodger-test/no-such:1", "lodger-test/other:1").await), Fault::NotFound);
    // What is no name never becomes part of a request, and is shown escaped.
    for name in ["", "..", "a/../b", "a?all=1", "a%2fb", "a\u{1b}[31m"] {
        let failure = engine.remove(name).await.unwrap_err();
        assert_eq!(failure.fault, Fault::Refused);
        assert!(!failure.to_string().contains('\u{1b}'));
        assert_eq!(fault(engine.remove_volume(name).await), Fault::Refused);
        assert_eq!(fault(engine.remove_network(name).await), Fault::Refused);
        assert_eq!(fault(engine.image(name).await), Fault::Refused);
    }
}

/// The next event that is about `action`.
async fn next(events: &mut Events, action: &str) -> Event {
    let wait = async {
        loop {
            let event = poll_fn(|cx| events.as_mut().poll_next(cx)).await.expect("it goes on").unwrap();
            if event.action == action {
                return event;
            }
        }
    };
    tokio::time::timeout(SOON * 2, wait).await.expect("it is told soon")
}

pub async fn events_arrive(bench: &Bench) {
    let mut events = bench.engine.events(LABEL, &bench.label).await.unwrap();
    // Told although nobody has listened yet.
    let name = bench.start("seen", SHELL, |_| {}).await;
    let id = bench.container(&name).await.id;
    let other = bench.spec("unseen", SHELL, |spec| spec.labels = BTreeMap::new()).await;
    let other = bench.engine.create(&other).await.unwrap();
    bench.engine.remove(&other).await.unwrap();

    for action in ["create", "start"] {
        assert_eq!(next(&mut events, action).await, Event { container: id.clone(), action: action.to_owned() });
    }
    bench.says(&name, "true").await;
    bench.engine.remove(&name).await.unwrap();
    let after = poll_fn(|cx| events.as_mut().poll_next(cx)).await.unwrap().unwrap();
    assert!(!after.action.contains("true"), "commands are not told: {after:?}");
    for action in ["die", "destroy"] {
        if after.action != action {
            assert_eq!(next(&mut events, action).await.container, id);
        }
    }
}

pub async fn it_says_what_it_is(bench: &Bench) {
    let about = bench.engine.about().await.unwrap();
    assert!(!about.version.is_empty());
    assert!(about.cpus >= 1.0 && about.memory_bytes > 256 << 20, "{about:?}");
    assert!(["amd64", "arm64"].contains(&about.architecture.as_str()), "{about:?}");
}

pub async fn a_fetch_that_fails_says_so(bench: &Bench) {
    // Nothing listens there.
    let failure = bench.engine.pull("127.0.0.1:1/no/such:1", None, &|_| {}).await.unwrap_err();
    assert!(matches!(failure.fault, Fault::Refused | Fault::NotFound), "{failure}");
    assert!(failure.to_string().contains("127.0.0.1:1/no/such:1"), "{failure}");
    // Credentials for another registry are not sent.
    let credentials = Credentials { registry: "a.example".into(), user: "u".into(), password: "p".into() };
    let failure = bench.engine.pull("a.example.evil/x:1", Some(&credentials), &|_| {}).await.unwrap_err();
    assert!(failure.message.contains("another registry"), "{failure}");
}
