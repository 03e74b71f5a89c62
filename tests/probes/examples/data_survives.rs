//! Files survive a call and memory does not: the host must give every call a fresh sandbox on the same `/data`. The test
//! enables, disables and enables; `/data/calls` then has three lines.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use probes::{Held, check};

probes::exports!(setup);

static CALLS: AtomicU32 = AtomicU32::new(0);

impl setup::Guest for Probe {
    fn enable() -> Held {
        seen("enable")
    }

    fn disable() -> Held {
        seen("disable")?;
        check(fs::read_to_string("/data/calls")?.starts_with("enable\n"), "what `enable` wrote is lost")
    }
}

fn seen(hook: &str) -> Held {
    check(CALLS.fetch_add(1, Relaxed) == 0, "memory survived a call")?;
    let mut calls = OpenOptions::new().append(true).create(true).open("/data/calls")?;
    Ok(writeln!(calls, "{hook}")?)
}
