//! The largest numbers: the host must not panic, wrap or allocate for offsets, lengths, sizes, times and durations.

use probes::wasip2::clocks::{monotonic_clock, wall_clock::Datetime};
use probes::wasip2::filesystem::types::{Advice, Descriptor, NewTimestamp, PathFlags};
use probes::{Held, check, directory, open, refused, within_quota};

probes::enable!(held);

const MOST: u64 = u64::MAX;

fn held() -> Held {
    let data = directory("/data")?;
    let file = open(&data, "file")?;
    file.write(b"four", 0)?;
    offsets(&file)?;
    times(&data, &file);
    durations()?;
    within_quota("large numbers")?;
    check(file.read(MOST, 0)?.0 == b"four", "the file has changed")
}

fn offsets(file: &Descriptor) -> Held {
    for offset in [1 << 63, MOST - 1, MOST] {
        refused("write at the end of numbers", file.write(b"x", offset))?;
        refused("size at the end of numbers", file.set_size(offset))?;
        check(!file.read(MOST, offset).is_ok_and(|(read, _)| !read.is_empty()), "read behind the end")?;
        // Advice may be taken or not.
        file.advise(offset, MOST, Advice::WillNeed).ok();
    }
    let stream = file.read_via_stream(0)?;
    check(stream.blocking_read(MOST).is_ok_and(|read| read == b"four"), "a long read is not the file")?;
    check(!stream.blocking_skip(MOST).is_ok_and(|skipped| skipped > 0), "skipped behind the end")
}

/// Seconds that no file system has, and more nanoseconds than a second. Taken, clamped or refused is all the same to us.
fn times(data: &Descriptor, file: &Descriptor) {
    for (seconds, nanoseconds) in [(0, 1_000_000_000), (0, u32::MAX), (1 << 63, 0), (MOST, 0), (MOST, u32::MAX)] {
        let time = NewTimestamp::Timestamp(Datetime { seconds, nanoseconds });
        file.set_times(time, time).ok();
        data.set_times_at(PathFlags::empty(), "file", time, time).ok();
    }
}

fn durations() -> Held {
    for far in [i64::MAX as u64, 1 << 63, MOST - 1, MOST] {
        check(!monotonic_clock::subscribe_duration(far).ready(), "a far duration is over")?;
        check(!monotonic_clock::subscribe_instant(far).ready(), "a far instant has come")?;
    }
    Ok(())
}
