//! Volumes, and their content as archives.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lodger::engine::{Fault, Status, Volume};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::{Bench, LABEL, SHELL, fault};

pub async fn volumes_are_made_once(bench: &Bench) {
    let engine = &bench.engine;
    let name = bench.volume("twice").await;
    bench.volume("twice").await;
    let longer = bench.volume("twice-and-more").await;
    let mut listed = engine.volumes(LABEL, &bench.label).await.unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let volume = |name: &str| Volume { name: name.to_owned(), labels: bench.labels() };
    assert_eq!(listed, [volume(&name), volume(&longer)]);
    assert_eq!(engine.volumes(LABEL, &bench.label[..2]).await.unwrap(), []);

    let mounts = BTreeMap::from([(name.clone(), "/data".to_owned())]);
    let container = bench.start("user", SHELL, |spec| spec.volumes = mounts).await;
    assert_eq!(fault(engine.remove_volume(&name).await), Fault::Conflict);
    // A named volume outlives its containers.
    engine.remove(&container).await.unwrap();
    assert_eq!(engine.volumes(LABEL, &bench.label).await.unwrap().len(), 2);
    engine.remove_volume(&name).await.unwrap();
    engine.remove_volume(&name).await.unwrap();
    assert_eq!(engine.volumes(LABEL, &bench.label).await.unwrap(), [volume(&longer)]);
}

pub async fn content_goes_out_and_in(bench: &Bench) {
    let engine = &bench.engine;
    let image = bench.image(SHELL).await;
    let (from, to) = (bench.volume("from").await, bench.volume("to").await);
    let mounts = BTreeMap::from([(from.clone(), "/from".to_owned()), (to.clone(), "/to".to_owned())]);
    let shell = bench.start("shell", SHELL, |spec| {
        spec.volumes = mounts;
        spec.capabilities = vec!["CHOWN".to_owned(), "DAC_OVERRIDE".to_owned()];
    });
    let shell = shell.await;
    bench.says(&shell, "mkdir /from/dir; echo hello > /from/dir/file; chmod 640 /from/dir/file").await;
    bench
        .says(&shell, "chown 7:8 /from/dir/file; ln -s dir/file /from/link; dd if=/dev/zero of=/from/big bs=1M count=3")
        .await;
    bench.says(&shell, "echo kept > /to/kept; echo old > /to/big").await;

    let mut archive = Vec::new();
    let bytes = engine.export_volume(&from, &bench.helper(&image), &mut archive).await.unwrap();
    assert_eq!(bytes, archive.len() as u64);
    let mut names = Vec::new();
    for entry in tar::Archive::new(Cursor::new(&archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().trim_start_matches("./").trim_end_matches('/').to_owned();
        if name == "dir/file" {
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            assert_eq!(content, "hello\n");
        }
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["", "big", "dir", "dir/file", "link"]);

    engine.import_volume(&to, &bench.helper(&image), Box::new(Cursor::new(archive))).await.unwrap();
    let there = "cd /to; cat dir/file kept link; stat -c '%a %u %g' dir/file; stat -c %s big; ls";
    assert_eq!(bench.says(&shell, there).await, "hello\nkept\nhello\n640 7 8\n3145728\nbig\ndir\nkept\nlink");

    // No helper holds on to them.
    engine.remove(&shell).await.unwrap();
    engine.remove_volume(&from).await.unwrap();
    engine.remove_volume(&to).await.unwrap();
}

/// An archive that breaks off.
struct Broken(Cursor<Vec<u8>>);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        if buf.filled().len() == before { Poll::Ready(Err(std::io::Error::other("the disk is gone"))) } else { read }
    }
}

pub async fn failed_archives_leave_no_helper(bench: &Bench) {
    let engine = &bench.engine;
    let image = bench.image(SHELL).await;
    let volume = bench.volume("data").await;
    let missing = bench.name("missing");
    let helper = bench.helper(&image);
    assert_eq!(fault(engine.export_volume(&missing, &helper, &mut Vec::new()).await), Fault::NotFound);
    assert_eq!(fault(engine.import_volume(&missing, &helper, Box::new(&b""[..])).await), Fault::NotFound);
    let no_image = bench.helper(&format!("sha256:{}", "0".repeat(64)));
    assert_eq!(fault(engine.export_volume(&volume, &no_image, &mut Vec::new()).await), Fault::NotFound);
    assert_eq!(fault(engine.import_volume(&volume, &helper, Box::new(&[7_u8; 9000][..])).await), Fault::Refused);
    let broken = Broken(Cursor::new(vec![0; 100]));
    let failure = engine.import_volume(&volume, &helper, Box::new(broken)).await.unwrap_err();
    assert!(failure.fault == Fault::Refused && failure.message.contains("the disk is gone"), "{failure}");
    // Written to where there is no room.
    let mut small = [0_u8; 10];
    let mut room = Cursor::new(&mut small[..]);
    assert_eq!(fault(engine.export_volume(&volume, &helper, &mut room).await), Fault::Refused);
    engine.remove_volume(&volume).await.unwrap();
    engine.create_volume(&missing, &bench.labels()).await.unwrap();
    engine.remove_volume(&missing).await.unwrap();
}

/// Somebody who does not get on, and whose disk is not full either.
struct Stuck(Arc<Notify>);

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.notify_one();
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub async fn a_helper_that_is_left_has_its_name_and_labels(bench: &Bench) {
    let engine = &bench.engine;
    let helper = bench.helper(&bench.image(SHELL).await);
    let volume = bench.volume("data").await;
    let begun = Arc::new(Notify::new());
    let mut stuck = Stuck(begun.clone());
    tokio::select! {
        exported = engine.export_volume(&volume, &helper, &mut stuck) => panic!("{exported:?}"),
        () = begun.notified() => {}
    }
    let left = bench.container(&helper.name).await;
    assert_eq!((&left.labels[LABEL], left.status), (&bench.label, Status::Created));
    assert_eq!(fault(engine.remove_volume(&volume).await), Fault::Conflict);
    // It is in the way of no other.
    assert!(engine.export_volume(&volume, &bench.helper(&helper.image), &mut Vec::new()).await.is_ok());
    assert_eq!(bench.mine().await.len(), 1);
    engine.remove(&left.id).await.unwrap();
    engine.remove_volume(&volume).await.unwrap();
}
