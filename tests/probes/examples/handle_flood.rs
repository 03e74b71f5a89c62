//! Descriptors without number: the host must refuse or stop the call before ten thousand are open.

use probes::{Held, check, directory, open};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    let handles: Vec<_> = (0..10_000).map_while(|_| open(&data, "file").ok()).collect();
    check(handles.len() < 10_000, "ten thousand descriptors are open")
}
