//! Renaming moves nothing out of `/data` or into it: the host must refuse, and leave the file where it was.

use std::fs;

use probes::{Held, check, directory, refused};

probes::enable!(held);

fn held() -> Held {
    let (data, addon) = (directory("/data")?, directory("/addon")?);
    fs::write("/data/own", "own")?;
    fs::create_dir_all("/data/inner/most")?;
    for outside in ["../own", "inner/../../own", "/own", "/tmp/own", "..", "../", "own/../../own"] {
        refused(&format!("file to {outside:?}"), data.rename_at("own", &data, outside))?;
        refused(&format!("directory to {outside:?}"), data.rename_at("inner", &data, outside))?;
        refused(&format!("from {outside:?}"), data.rename_at(outside, &data, "stolen"))?;
        refused(&format!("to {outside:?} of /addon"), data.rename_at("own", &addon, outside))?;
    }
    refused("directory into itself", data.rename_at("inner", &data, "inner/most/inner"))?;
    check(fs::read("/data/own")? == b"own" && fs::exists("/data/inner/most")?, "something moved")
}
