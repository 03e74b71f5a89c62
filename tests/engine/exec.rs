//! Commands in a container.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use lodger::engine::{Exec, Executed, Fault, Streams};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, duplex, repeat};

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
    assert_eq!(done.exit_code, Some(0));
    // Podman breaks off with what it has not passed on yet, which is told.
    assert!(done.stdout == b"done\n" || done.truncated, "{done:?}");
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

/// Bytes that say where they belong.
struct Pattern(u64);

fn pattern(place: u64) -> u8 {
    (place % 251) as u8
}

impl AsyncRead for Pattern {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while to.remaining() > 0 {
            to.put_slice(&[pattern(self.0)]);
            self.0 += 1;
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes the pattern up to a length, and then fails.
struct Taken<'a> {
    bytes: &'a AtomicU64,
    most: u64,
}

impl AsyncWrite for Taken<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let before = self.bytes.load(Ordering::Relaxed);
        if before + bytes.len() as u64 > self.most {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        assert!(bytes.iter().zip(before..).all(|(byte, place)| *byte == pattern(place)), "other bytes than went in");
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn pipe(bench: &Bench, container: &str, command: &str, streams: Streams<'_>) -> Executed {
    bench.engine.pipe(container, &shell(command), streams).await.unwrap()
}

pub async fn streams_are_whole_and_held_nowhere(bench: &Bench) {
    let name = bench.start("streams", SHELL, |_| {}).await;
    let length = 50_000_000;
    let bytes = AtomicU64::new(0);
    let mut to = Taken { bytes: &bytes, most: u64::MAX };
    let streams = Streams { stdin: Some(&mut Pattern(0).take(length)), stdout: Some(&mut to) };
    let done = pipe(bench, &name, "cat; echo e >&2; exit 3", streams).await;
    assert_eq!((done.exit_code, bytes.load(Ordering::Relaxed)), (Some(3), length));
    assert_eq!((&*done.stdout, &*done.stderr, done.truncated), (&b""[..], &b"e\n"[..], false));
    assert_eq!((done.broken, done.killed), (None, false));

    // Either alone: the other end is as it is without streams.
    let streams = Streams { stdin: Some(&mut &b"given"[..]), stdout: None };
    assert_eq!(pipe(bench, &name, "cat", streams).await.stdout, b"given");
    let mut out = Vec::new();
    let streams = Streams { stdin: None, stdout: Some(&mut out) };
    assert_eq!(pipe(bench, &name, "cat; echo out", streams).await.exit_code, Some(0));
    assert_eq!(out, b"out\n");
    // One that reads nothing of what never ends is not waited for.
    let streams = Streams { stdin: Some(&mut repeat(b'x')), stdout: None };
    assert_eq!(pipe(bench, &name, "echo done", streams).await.stdout, b"done\n");
    // stderr is bounded all the same.
    let done = pipe(bench, &name, "head -c 3000000 /dev/zero >&2", Streams::default()).await;
    assert_eq!((done.exit_code, done.stderr.len(), done.truncated), (Some(0), 1000, true));
}

pub async fn a_slow_reader_holds_the_command_back(bench: &Bench) {
    let name = bench.start("slow", SHELL, |spec| spec.scratch = vec!["/tmp".to_owned()]).await;
    let (mut reader, mut to) = duplex(1000);
    let blocks = 1500;
    let script =
        format!("i=0; while [ $i -lt {blocks} ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >/tmp/blocks; done");
    let exec = Exec { timeout: Duration::from_secs(60), ..shell(&script) };
    let running = async {
        let streams = Streams { stdin: None, stdout: Some(&mut to) };
        let done = bench.engine.pipe(&name, &exec, streams).await.unwrap();
        drop(to);
        done
    };
    let reading = async {
        // Until it gets no further.
        let mut before = String::new();
        loop {
            let now = bench.says(&name, "cat /tmp/blocks || true").await;
            if !now.is_empty() && now == before {
                break;
            }
            before = now;
        }
        let written: u64 = before.parse().unwrap();
        let mut bytes = 0;
        let mut part = vec![0; 1 << 16];
        loop {
            match reader.read(&mut part).await.unwrap() {
                0 => return (written, bytes),
                read => bytes += read,
            }
        }
    };
    let (done, (written, bytes)) = tokio::join!(running, reading);
    assert!(written < 200, "{written} blocks were written that nobody had read");
    assert_eq!((done.exit_code, bytes), (Some(0), blocks << 16));
}

pub async fn a_stream_that_fails_ends_its_command(bench: &Bench) {
    let name = bench.start("broken", SHELL, |spec| spec.scratch = vec!["/tmp".to_owned()]).await;
    let bytes = AtomicU64::new(0);
    let mut to = Taken { bytes: &bytes, most: 300_000 };
    // Through a pipe, so that there are several to be ended.
    let streams = Streams { stdin: Some(&mut Pattern(0)), stdout: Some(&mut to) };
    let done = pipe(bench, &name, "cat | cat", streams).await;
    assert!(done.broken.as_ref().is_some_and(|why| why.contains("broken pipe")), "{done:?}");
    assert_eq!((done.exit_code, done.killed), (None, true));
    assert_eq!(bench.says(&name, "ps | grep -c '[c]at$' || true").await, "0");

    // What reads a stream that has failed does not find it ended.
    let mut from = Failing(Pattern(0).take(300_000));
    let streams = Streams { stdin: Some(&mut from), stdout: None };
    let done = pipe(bench, &name, "cat >/tmp/all; touch /tmp/ended; sleep 100", streams).await;
    assert!(done.broken.as_ref().is_some_and(|why| why.contains("the disk is gone")), "{done:?}");
    assert!(done.killed && !done.left_running());
    assert_eq!(bench.says(&name, "test -e /tmp/ended && echo ended; ps | grep -c '[s]leep 100' || true").await, "0");
}

struct Failing(tokio::io::Take<Pattern>);

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, to);
        if to.filled().len() == before { Poll::Ready(Err(io::Error::other("the disk is gone"))) } else { read }
    }
}

pub async fn the_endless_are_killed_where_they_have_streams(bench: &Bench) {
    let name = bench.start("killed", SHELL, |_| {}).await;
    for command in ["sleep 100 & sleep 100", "trap '' TERM; yes >/dev/null", "exec >&- 2>&-; sleep 100"] {
        let mut out = Vec::new();
        let streams = Streams { stdin: Some(&mut repeat(b'x')), stdout: Some(&mut out) };
        let exec = Exec { timeout: Duration::from_secs(1), ..shell(command) };
        let done = bench.engine.pipe(&name, &exec, streams).await.unwrap();
        assert_eq!((done.exit_code, done.killed, done.broken), (None, true, None), "{command}");
    }
    assert_eq!(bench.says(&name, "ps | grep -c -e '[s]leep 100' -e '[y]es' || true").await, "0");
}
