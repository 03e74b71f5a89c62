//! Volumes, and their content as archives.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lodger::engine::{CAPABILITIES, Fault, Status, Volume};
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
    assert_eq!(engine.volume(&name).await.unwrap(), Some(volume(&name)));
    assert_eq!(engine.volume(&bench.name("twic")).await.unwrap(), None);

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

pub async fn what_is_only_read_is_as_it_was_given(bench: &Bench) {
    let engine = &bench.engine;
    let volume = bench.volume("given").await;
    let mut archive = tar::Builder::new(Vec::new());
    for name in ["one", "two"] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o444);
        header.set_size(3);
        archive.append_data(&mut header, name, name.as_bytes()).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    engine
        .import_volume(&volume, &bench.helper(&bench.image(SHELL).await), Box::new(Cursor::new(archive)))
        .await
        .unwrap();
    let mounts = BTreeMap::from([(volume.clone(), "/run/given".to_owned())]);
    let reader = bench.start("reader", SHELL, |spec| {
        spec.read_only_volumes = mounts;
        spec.scratch = vec!["/run".to_owned()];
        // Not even for root as it is outside.
        spec.capabilities = CAPABILITIES.map(str::to_owned).to_vec();
    });
    let reader = reader.await;
    assert_eq!(bench.says(&reader, "cd /run/given; ls; cat *; stat -c '%a %u' one").await, "one\ntwo\nonetwo444 0");
    for change in ["touch new", "rm -f one", "chmod 666 one", "sh -c 'echo x > two'"] {
        let command = format!("cd /run/given; {change}");
        assert_ne!(bench.run(&reader, &command).await.exit_code, Some(0), "{change}");
    }
    assert_eq!(fault(engine.remove_volume(&volume).await), Fault::Conflict);

    // What the image has at that path does not get in.
    let empty = bench.volume("empty").await;
    let mounts = BTreeMap::from([(empty.clone(), "/bin".to_owned())]);
    let spec = bench.spec("covered", SHELL, |spec| spec.read_only_volumes = mounts).await;
    engine.create(&spec).await.unwrap();
    let mut exported = Vec::new();
    engine.export_volume(&empty, &bench.helper(&bench.image(SHELL).await), &mut exported).await.unwrap();
    let entries = tar::Archive::new(Cursor::new(&exported)).entries().unwrap().count();
    assert_eq!(entries, 1, "the directory itself");
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
    // Not every engine has the volume itself among what is in it.
    names.retain(|name| !name.is_empty());
    names.sort();
    assert_eq!(names, ["big", "dir", "dir/file", "link"]);

    engine.import_volume(&to, &bench.helper(&image), Box::new(Cursor::new(archive))).await.unwrap();
    let there = "cd /to; cat dir/file kept link; stat -c '%a %u %g' dir/file; stat -c %s big; ls";
    assert_eq!(bench.says(&shell, there).await, "hello\nkept\nhello\n640 7 8\n3145728\nbig\ndir\nkept\nlink");

    // No helper holds on to them.
    engine.remove(&shell).await.unwrap();
    engine.remove_volume(&from).await.unwrap();
    engine.remove_volume(&to).await.unwrap();
}

pub async fn what_is_kept_is_measured(bench: &Bench) {
    const MIB: u64 = 1 << 20;
    let engine = &bench.engine;
    let (full, empty) = (bench.volume("full").await, bench.volume("empty").await);
    let mounts = BTreeMap::from([(full.clone(), "/full".to_owned()), (empty.clone(), "/empty".to_owned())]);
    let shell = bench.start("writes", SHELL, |spec| {
        spec.volumes = mounts;
        spec.read_only = false;
        spec.scratch = vec!["/tmp".to_owned()];
    });
    let shell = shell.await;
    let idle = bench.start("idle", SHELL, |_| {}).await;
    let write = "dd if=/dev/zero bs=1M count=3 of=/full/3; dd if=/dev/zero bs=1M count=2 of=/var/2; \
                 dd if=/dev/zero bs=1M count=9 of=/tmp/9; sync";
    bench.says(&shell, write).await;
    // What does not run keeps what it has written.
    for stop in [false, true] {
        if stop {
            engine.stop(&shell, std::time::Duration::ZERO).await.unwrap();
        }
        let usage = engine.disk_usage().await.unwrap();
        let about = |bytes: u64, mib: u64| (mib * MIB..(mib + 1) * MIB).contains(&bytes);
        assert!(about(usage.volumes[&full], 3) && about(usage.volumes[&empty], 0), "{usage:?}");
        assert!(about(usage.containers[&shell], 2) && about(usage.containers[&idle], 0), "{usage:?}");
    }
    // Several may ask at a time.
    let (a, b, c) = tokio::join!(engine.disk_usage(), engine.disk_usage(), engine.disk_usage());
    assert!([a, b, c].into_iter().all(|usage| usage.unwrap().volumes.contains_key(&full)));
    engine.remove(&shell).await.unwrap();
    engine.remove_volume(&full).await.unwrap();
    let usage = engine.disk_usage().await.unwrap();
    assert!(!usage.containers.contains_key(&shell) && !usage.volumes.contains_key(&full));
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
