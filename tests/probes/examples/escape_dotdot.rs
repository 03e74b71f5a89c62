//! `..` leads nowhere: the host must refuse every path out of `/data` and `/addon`.

use probes::{Held, directory, unreachable};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    data.create_directory_at("inner")?;
    for path in
        ["..", "../x", "../..", "./..", "inner/../..", "inner/../../x", "../data", "../../../../../../etc/passwd"]
    {
        unreachable(&data, path)?;
    }
    Ok(())
}
