//! Writing past the quota: the host must refuse the bytes beyond it, in small writes and in large ones, in one file or many.

use std::fs::{self, File};
use std::io::Write;

use probes::{Held, MAX_BYTES, check, fill, refused, within_quota};

probes::enable!(held);

fn held() -> Held {
    let taken = fill(&File::create("/data/small")?);
    check(taken >= MAX_BYTES / 2, format!("refused after {taken} bytes already"))?;
    within_quota("small writes")?;
    fill(&File::create("/data/more")?);
    within_quota("small writes to a second file")?;

    fs::remove_file("/data/small")?;
    fs::remove_file("/data/more")?;
    let written = File::create("/data/large")?.write_all(&vec![b'x'; 2 * MAX_BYTES as usize]);
    refused("one large write", written)?;
    within_quota("one large write")
}
