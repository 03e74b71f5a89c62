//! A hole and one byte: the host must count the hole, or a file may grow to any size for the price of a byte.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use probes::{Held, MAX_BYTES, directory, open, refused, stream_write, within_quota};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    let raw = open(&data, "raw")?;
    for offset in [MAX_BYTES, 10 * MAX_BYTES, 1 << 32, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX] {
        refused(&format!("write at {offset}"), raw.write(b"x", offset))?;
        refused(&format!("stream at {offset}"), stream_write(&raw, offset, b"x"))?;
        within_quota("a byte behind a hole")?;
    }
    let mut file = File::create("/data/std")?;
    file.seek(SeekFrom::Start(2 * MAX_BYTES))?;
    refused("seek and write", file.write_all(b"x"))?;
    within_quota("seek and write")
}
