//! A trailing slash or dot changes nothing: the host must refuse paths out of `/data` that end in one.

use probes::{Held, directory, unreachable};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    data.create_directory_at("inner")?;
    for path in
        ["../", "..//", "../.", "./../", "../x/", "inner/../../", "inner/..//../x/", "../../../etc/", "/etc/", "/"]
    {
        unreachable(&data, path)?;
    }
    Ok(())
}
