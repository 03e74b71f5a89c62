//! A write in flight at the deadline: the host must stop the call for good. The next `enable` sees the counter stand still.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::{thread::sleep, time::Duration};

use probes::{Held, broken, check};

probes::enable!(held);

const COUNTER: &str = "/data/counter";

fn held() -> Held {
    if fs::exists(COUNTER)? {
        let before = fs::read(COUNTER)?;
        sleep(Duration::from_millis(300));
        return check(before == fs::read(COUNTER)?, "a call that was stopped still writes");
    }
    let mut file = File::create(COUNTER)?;
    for count in 0..u64::MAX {
        file.rewind()?;
        file.write_all(&count.to_le_bytes())?;
    }
    Err(broken("counted to the end"))
}
