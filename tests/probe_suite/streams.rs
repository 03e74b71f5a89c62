//! Probes of what is dumped and restored: without end, without permission, without care.

use std::io::Read;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use lodger::{Done, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, duplex, repeat, sink};

use super::{PATIENT_MS, Probe, refusal, trapped};
use crate::support::{Ran, id, most_resident_bytes};

/// The bytes that may be on their way.
const BUFFER: u64 = 64 << 10;

impl Probe {
    async fn dump(&self, app: &str, to: impl AsyncWrite + Send + Unpin + 'static) -> Done<u64> {
        self.host.dump(&id(app), &self.id, None, to).await.unwrap()
    }

    async fn restore(&self, app: &str, from: impl AsyncRead + Send + Unpin + 'static) -> Done<u64> {
        self.host.restore(&id(app), &self.id, None, from).await.unwrap()
    }

    async fn with_apps(self, apps: &[&str]) -> Probe {
        for app in apps {
            assert!(self.add(app).await.outcome.is_completed());
        }
        self
    }
}

#[track_caller]
fn moved(done: &Done<u64>) -> u64 {
    done.call.as_ref().expect("a guest was entered").report.stream_bytes
}

/// Never gives anything, and never ends.
struct Silent;

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

pub async fn a_dump_without_end_is_stopped(name: &str) {
    let probe = Probe::with_deadline(name, 1000).await;
    assert!(probe.enable().await.outcome.is_completed());
    let probe = probe.with_apps(&["silent", "endless"]).await;
    for (app, least) in [("silent", 0), ("endless", 1 << 20)] {
        let done = probe.dump(app, sink()).await;
        assert_eq!(done.outcome.name(), "deadline-exceeded");
        assert!(moved(&done) >= least && done.outcome.exit_code() == 3, "{done:?}");
    }
    // Nobody reads: not more is written than the reader holds.
    let (_reader, to) = duplex(1000);
    let done = probe.dump("endless", to).await;
    assert_eq!((done.outcome.name(), moved(&done)), ("deadline-exceeded", 1000));
    // The reader goes away.
    let (mut reader, to) = duplex(1000);
    let read = async {
        let mut start = [0; 3000];
        reader.read_exact(&mut start).await.unwrap();
        drop(reader);
    };
    let (done, ()) = tokio::join!(probe.dump("endless", to), read);
    let (code, message) = refusal(&done.outcome);
    assert_eq!(code, lodger::BROKEN_STREAM);
    assert!(message.contains("what was dumped cannot be written: broken pipe"), "{message}");
    assert!((3000..6000).contains(&moved(&done)), "{done:?}");

    // Nor does the binary wait for whoever is at the other end of a pipe.
    let addon = probe.id.to_string();
    let lab = probe.close();
    for verb in ["dump", "restore"] {
        let mut stuck = lab.command(&[verb, "endless", &addon]).stdin(Stdio::piped()).spawn().unwrap();
        let open = (stuck.stdin.take(), stuck.stdout.take());
        assert_eq!(stuck.wait().unwrap().code(), Some(3), "{verb}");
        drop(open);
    }
    nothing_large_is_held(name).await;
}

/// 300 MiB, by the binary: out to one who reads late, and in again.
async fn nothing_large_is_held(name: &str) {
    let probe = Probe::with_deadline(name, PATIENT_MS).await;
    assert!(probe.enable().await.outcome.is_completed());
    let probe = probe.with_apps(&["large"]).await;
    // A slow reader keeps nobody from the addon.
    let (mut reader, to) = duplex(1000);
    let beside = async {
        reader.read_u8().await.unwrap();
        assert!(probe.add("shop").await.outcome.is_completed());
        tokio::io::copy(&mut reader, &mut sink()).await.unwrap() + 1
    };
    let (done, read) = tokio::join!(probe.dump("large", to), beside);
    assert_eq!((done.outcome, read), (Outcome::Completed(300 << 20), 300 << 20));

    let addon = probe.id.to_string();
    let lab = probe.close();
    let file = lab.path("dump");
    let mut dumping = lab.command(&["dump", "large", &addon]).spawn().unwrap();
    let (process, mut stdout) = (dumping.id(), dumping.stdout.take().unwrap());
    let (read, most) = std::thread::scope(|scope| {
        let most = scope.spawn(move || most_resident_bytes(process));
        let mut start = [0; 1];
        stdout.read_exact(&mut start).unwrap();
        // Nor another process; and the pipe is full long before this has ended.
        lab.lodger(&["add", "blog", &addon]).ok();
        let mut all = std::fs::File::create(&file).unwrap();
        let read = std::io::copy(&mut Read::chain(&start[..], &mut stdout), &mut all).unwrap();
        assert!(dumping.wait().unwrap().success());
        (read, most.join().unwrap())
    });
    assert_eq!(read, 300 << 20);
    assert!(0 < most && most < 100_000_000, "{most} bytes for a dump of 300 MiB");

    let stdin = Stdio::from(std::fs::File::open(&file).unwrap());
    let restore = ["restore", "large", &*addon];
    let restoring = lab.command(&restore).stdin(stdin).spawn().unwrap();
    let most = most_resident_bytes(restoring.id());
    Ran::of(&restore, restoring.wait_with_output().unwrap()).ok();
    assert!(0 < most && most < 100_000_000, "{most} bytes for a restore of 300 MiB");
}

pub async fn no_more_goes_through_than_is_permitted(name: &str) {
    let apps = ["more", "zeroes", "huge", "twice", "kept", "plain"];
    let probe = Probe::provider(name).await.with_apps(&apps).await;
    for app in apps {
        let done = probe.dump(app, sink()).await;
        if ["kept", "plain"].contains(&app) {
            assert_eq!(done.outcome, Outcome::Completed(BUFFER), "{app}");
        } else {
            trapped(&done.outcome);
            assert!(moved(&done) <= BUFFER, "{app}: {done:?}");
        }
    }
    let done = probe.restore("plain", repeat(b'x')).await;
    assert!(done.outcome.is_completed() && moved(&done) <= BUFFER, "{done:?}");
}

pub async fn what_is_not_read_is_not_waited_for(name: &str) {
    let probe = Probe::provider(name).await.with_apps(&["unread", "dropped", "partly", "panics"]).await;
    for (app, bytes) in [("unread", 0), ("dropped", 0), ("partly", 10)] {
        assert_eq!(probe.restore(app, repeat(b'x')).await.outcome, Outcome::Completed(bytes), "{app}");
    }
    for app in ["unread", "dropped"] {
        assert_eq!(probe.restore(app, Silent).await.outcome, Outcome::Completed(0), "{app}");
    }
    // Too little is an end, which the guest has to see for itself; a reader that fails is none, whatever it makes of it.
    let done = probe.restore("partly", &b"short"[..]).await;
    assert_eq!(refusal(&done.outcome).0, "other", "{done:?}");
    let done = probe.restore("partly", AsyncReadExt::chain(&b"short"[..], Failing)).await;
    let (code, message) = refusal(&done.outcome);
    assert_eq!((code, message), (lodger::BROKEN_STREAM, "what is to be restored cannot be read: the disk is gone"));

    // Cut off in the middle, the resource is active, and what it holds is for its addon to say.
    let done = probe.restore("panics", repeat(b'x')).await;
    assert!(trapped(&done.outcome).contains("half of it is enough"), "{done:?}");
    assert_eq!((moved(&done), done.outcome.exit_code()), (10, 3));
    let resource = probe.host.resource(&id("panics"), &probe.id, None).unwrap();
    assert_eq!(resource.state.to_string(), "active");
    let done = probe.dump("panics", sink()).await;
    assert_eq!(refusal(&done.outcome), ("other", "half of it was restored"));
}

struct Failing;

impl AsyncRead for Failing {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Err(std::io::Error::other("the disk is gone")))
    }
}
