//! Hard links cannot be made: the host must refuse them, since one would carry a file past its quota or out of `/addon`.

use std::fs;

use probes::{Held, check, directory, refused, wasip2::filesystem::types::PathFlags};

probes::enable!(held);

fn held() -> Held {
    let (data, addon) = (directory("/data")?, directory("/addon")?);
    fs::write("/data/own", "own")?;
    for follow in [PathFlags::empty(), PathFlags::SYMLINK_FOLLOW] {
        refused("link in /data", data.link_at(follow, "own", &data, "link"))?;
        refused("link into /addon", data.link_at(follow, "own", &addon, "link"))?;
        refused("link out of /addon", addon.link_at(follow, "readme.txt", &data, "link"))?;
        refused("link from outside", data.link_at(follow, "../../../../etc/passwd", &data, "link"))?;
        refused("link to the outside", data.link_at(follow, "own", &data, "../link"))?;
    }
    refused("link by std", fs::hard_link("/data/own", "/data/link"))?;
    check(!fs::exists("/data/link")? && !fs::exists("/addon/link")?, "a link is there")
}
