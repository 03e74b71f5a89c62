//! Appending past the quota: the host must count it, however many descriptors append to the same file.

use std::fs::{File, OpenOptions};
use std::io;

use probes::{Held, fill, within_quota};

probes::enable!(held);

fn held() -> Held {
    let open = |_| OpenOptions::new().append(true).create(true).open("/data/log");
    let files = (0..4).map(open).collect::<io::Result<Vec<File>>>()?;
    for file in &files {
        fill(file);
        within_quota("appending")?;
    }
    Ok(())
}
