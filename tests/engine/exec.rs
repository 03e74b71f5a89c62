//! Commands in a container.

use std::time::Duration;

use lodger::engine::{Exec, Fault};

use super::{Bench, SHELL, fault, seconds};

fn shell(command: &str) -> Exec {
    Exec {
        command: ["sh", "-c", command].map(str::to_owned).to_vec(),
        stdin: Vec::new(),
        output_max: 1000,
        timeout: Duration::from_secs(20),
    }
}

pub async fn commands_answer(bench: &Bench) {
    let name = bench.start("exec", SHELL, |_| {}).await;
    let done = bench.run(&name, "echo out; echo err >&2; exit 7").await;
    assert_eq!((done.exit_code, &*done.stdout, &*done.stderr), (Some(7), &b"out\n"[..], &b"err\n"[..]));
    assert!(!done.truncated && !done.left_running());
    assert_eq!(bench.run(&name, "exec >&- 2>&-; sleep 1; exit 4").await.exit_code, Some(4));
    assert_eq!(
        bench.says(&name, "id -u; tty || true; cat /proc/self/status | grep CapEff").await,
        "0\nnot a tty\nCapEff:\t0000000000000000"
    );
    // Arguments are arguments, whatever is in them.
    let exec = Exec { command: ["echo", "$HOME `id` ; a\nb"].map(str::to_owned).to_vec(), ..shell("") };
    assert_eq!(bench.engine.exec(&name, &exec).await.unwrap().stdout, b"$HOME `id` ; a\nb\n");
    // Engines differ in how they say it.
    let exec = Exec { command: vec!["/no/such".to_owned()], ..shell("") };
    match bench.engine.exec(&name, &exec).await {
        Ok(done) => assert!(matches!(done.exit_code, Some(126 | 127)), "{done:?}"),
        Err(failure) => assert!(matches!(failure.fault, Fault::Refused | Fault::NotFound), "{failure}"),
    }
}

pub async fn input_is_given(bench: &Bench) {
    let name = bench.start("stdin", SHELL, |_| {}).await;
    let stdin: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let exec = Exec { stdin: stdin.clone(), output_max: 1 << 20, ..shell("cat") };
    let done = bench.engine.exec(&name, &exec).await.unwrap();
    assert_eq!(done.exit_code, Some(0));
    assert!(done.stdout == stdin && !done.truncated);
    // One that reads nothing ends all the same, also when there is more to read than fits anywhere.
    let exec = Exec { stdin: vec![b'x'; 4 << 20], ..shell("echo done") };
    let done = bench.engine.exec(&name, &exec).await.unwrap();
    assert_eq!((done.exit_code, &*done.stdout), (Some(0), &b"done\n"[..]));
    // Without input there is none to wait for.
    assert_eq!(bench.says(&name, "cat").await, "");
}

pub async fn output_is_cut(bench: &Bench) {
    let name = bench.start("cut", SHELL, |_| {}).await;
    let exec = shell("yes | tr -d '\\n' | head -c 3000000; echo e >&2; exit 5");
    let done = bench.engine.exec(&name, &exec).await.unwrap();
    assert_eq!(done.exit_code, Some(5));
    assert_eq!((done.stdout.len(), &*done.stderr), (1000, &b"e\n"[..]));
    assert!(done.truncated);
    let exec = Exec { output_max: 0, ..shell("echo x") };
    let done = bench.engine.exec(&name, &exec).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.len(), done.truncated), (Some(0), 0, true));
}

pub async fn the_endless_are_left(bench: &Bench) {
    let name = bench.start("endless", SHELL, |_| {}).await;
    for command in ["echo begun; sleep 100", "yes", "exec >&- 2>&-; sleep 100"] {
        let exec = Exec { timeout: Duration::from_secs(1), ..shell(command) };
        let mut done = None;
        let took = seconds(async { done = bench.engine.exec(&name, &exec).await.ok() }).await;
        let done = done.expect("it is an answer");
        assert!((0.9..10.0).contains(&took), "{took}");
        assert!(done.left_running(), "{command}");
        assert!(done.stdout.len() <= 1000);
    }
    assert_ne!(bench.says(&name, "ps | grep -c '[s]leep 100'").await, "0");
    // Restarting the container ends it.
    bench.engine.stop(&name, Duration::from_secs(5)).await.unwrap();
    bench.engine.start(&name).await.unwrap();
    assert_eq!(bench.says(&name, "ps | grep -c '[s]leep 100' || true").await, "0");
}

pub async fn it_needs_a_running_container(bench: &Bench) {
    let spec = bench.spec("still", SHELL, |_| {}).await;
    bench.engine.create(&spec).await.unwrap();
    assert_eq!(fault(bench.engine.exec(&spec.name, &shell("true")).await), Fault::Conflict);
    assert_eq!(fault(bench.engine.exec(&bench.name("none"), &shell("true")).await), Fault::NotFound);
}
