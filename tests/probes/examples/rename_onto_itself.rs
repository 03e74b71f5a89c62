//! Renaming a file onto itself changes nothing: the host must neither refund the file nor charge for it again.

use std::fs::{self, File};

use probes::{Held, MAX_BYTES, check, directory, fill, within_quota};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    let half = MAX_BYTES / 2;
    data.create_directory_at("inner")?;
    fs::write("/data/file", vec![b'x'; half as usize])?;
    for _ in 0..100 {
        for same in ["file", "./file", "inner/../file"] {
            data.rename_at("file", &data, same)?;
        }
    }
    check(fs::metadata("/data/file")?.len() == half, "the file has changed")?;
    let rest = fill(&File::create("/data/rest")?);
    within_quota("renaming")?;
    check(rest >= half / 2, format!("room for only {rest} bytes is left"))
}
