//! Room comes back: the host must refund what is truncated, shrunk, removed or replaced, and charge nothing for writing in place.

use std::fs::{self, File};
use std::io::{Seek, Write};

use probes::{Held, MAX_BYTES, check, fill, within_quota};

probes::enable!(held);

const FILE: &str = "/data/file";

fn held() -> Held {
    let mut file = File::create(FILE)?;
    let most = fill(&file);
    let refill = |how: &str| {
        let again = fill(&File::create("/data/again")?);
        fs::remove_file("/data/again")?;
        check(again + 4096 >= most, format!("{again} bytes of {most} came back after {how}"))
    };

    for _ in 0..10 {
        file.rewind()?;
        file.write_all(&vec![b'y'; most as usize])?;
    }
    within_quota("writing in place")?;
    file.set_len(0)?;
    refill("shrinking")?;

    fill(&File::create(FILE)?);
    File::create(FILE)?;
    refill("truncating")?;

    fill(&File::create(FILE)?);
    drop(file);
    fs::remove_file(FILE)?;
    refill("removing")?;

    fs::write("/data/empty", "")?;
    fill(&File::create(FILE)?);
    fs::rename("/data/empty", FILE)?;
    refill("replacing")?;
    check(fs::metadata(FILE)?.len() < MAX_BYTES, "the file was not replaced")
}
