//! A file removed while open still takes room: the host must refund it at the last close, and not before.

use std::fs::{self, File};

use probes::{Held, MAX_BYTES, check, fill};

probes::enable!(held);

fn held() -> Held {
    hide("removing", |path| fs::remove_file(path))?;
    hide("replacing", |path| {
        File::create("/data/empty")?;
        fs::rename("/data/empty", path)
    })
}

/// Fills one file after the other, hiding each while its descriptor stays open.
fn hide(how: &str, away: fn(&str) -> std::io::Result<()>) -> Held {
    let mut open = Vec::new();
    let mut hidden = 0;
    for _ in 0..4 {
        let file = File::create("/data/file")?;
        hidden += fill(&file);
        away("/data/file")?;
        open.push(file);
    }
    check(hidden <= MAX_BYTES, format!("{hidden} bytes hidden by {how} open files"))?;
    drop(open);
    let again = fill(&File::create("/data/file")?);
    fs::remove_file("/data/file")?;
    check(again + 4096 >= hidden, format!("{again} bytes of {hidden} came back at close after {how}"))
}
