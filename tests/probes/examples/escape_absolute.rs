//! Absolute paths lead nowhere: the host must refuse them, whether they exist on its own file system or in the guest's.

use probes::{Held, directory, unreachable};

probes::enable!(held);

fn held() -> Held {
    for name in ["/data", "/addon"] {
        std::fs::read_dir(name)?;
    }
    let data = directory("/data")?;
    for path in
        ["/", "//", "/etc/passwd", "//etc/passwd", "/proc/self/environ", "/tmp/x", "/data", "/data/own", "/addon"]
    {
        unreachable(&data, path)?;
    }
    Ok(())
}
