//! Growing a file without writing: the host must count a size that is set like bytes written.

use probes::{Held, MAX_BYTES, directory, open, refused, within_quota};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    let (one, two) = (open(&data, "one")?, open(&data, "two")?);
    for size in [MAX_BYTES + 1, 1 << 32, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX] {
        refused(&format!("size {size}"), one.set_size(size))?;
        within_quota("setting a size")?;
    }
    one.set_size(MAX_BYTES / 4 * 3)?;
    refused("the same again in a second file", two.set_size(MAX_BYTES / 4 * 3))?;
    within_quota("setting two sizes")
}
