//! Symbolic links cannot be made: the host must refuse every target, harmless ones too, and leave no name behind.

use probes::{Held, check, directory, open, refused, wasip2::filesystem::types::PathFlags};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    open(&data, "own")?;
    data.create_directory_at("inner")?;
    for target in
        ["/etc/passwd", "../../../../etc/passwd", "..", ".", "own", "inner", "link", "missing", "/data/own", "../addon"]
    {
        for link in ["link", "inner/link"] {
            refused(&format!("symbolic link to {target:?}"), data.symlink_at(target, link))?;
            check(data.stat_at(PathFlags::empty(), link).is_err(), format!("a link to {target:?} is there"))?;
        }
    }
    Ok(())
}
