//! Logging without measure: the host must keep no more than the limit and drop the rest, without an error or a trap.

use std::io::{self, Write};

use probes::Held;

probes::enable!(held);

fn held() -> Held {
    flood(io::stderr())?;
    flood(io::stdout())
}

fn flood(mut log: impl Write) -> Held {
    // A line that never ends, many short ones, empty ones, and one that is larger than the limit by itself.
    for text in ["endless".repeat(1000), "a line\n".repeat(1000), "\n".repeat(7000), "x".repeat(128 << 10)] {
        for _ in 0..20 {
            log.write_all(text.as_bytes())?;
        }
    }
    Ok(log.flush()?)
}
