//! A trap on the way out, the answer already made: the host must record a trap, never the answer.

use std::fs;

use probes::Held;

probes::enable!(held);

struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        core::arch::wasm32::unreachable()
    }
}

fn held() -> Held {
    let _late = Late;
    Ok(fs::write("/data/answered", "ok")?)
}
