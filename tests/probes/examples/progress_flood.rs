//! Progress without measure: the host must cut long steps and drop those beyond a thousand, without an error or a trap.

use probes::{Held, progress};

probes::enable!(held);

fn held() -> Held {
    for number in 0..5000 {
        progress::step(&format!("step {number}"));
        progress::percent((number % 256) as u8);
    }
    progress::step(&"x".repeat(1 << 20));
    progress::step("");
    Ok(())
}
