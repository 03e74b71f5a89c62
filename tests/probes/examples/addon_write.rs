//! `/addon` is read-only: the host must refuse every change to it, and every move or link between it and `/data`.

use std::fs::{self, File, OpenOptions};
use std::io;

use probes::wasip2::filesystem::types::{DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use probes::{Held, check, directory, refused, stream_write};

probes::enable!(held);

const FILE: &str = "/addon/readme.txt";

fn held() -> Held {
    let (data, addon) = (directory("/data")?, directory("/addon")?);
    fs::write("/data/own", "own")?;
    let before = fs::read(FILE)?;
    check(before.windows(9).any(|text| text == b"immutable"), "the file to attack is missing")?;

    refused("write", OpenOptions::new().write(true).open(FILE))?;
    refused("append", OpenOptions::new().append(true).open(FILE))?;
    refused("truncate", OpenOptions::new().write(true).truncate(true).open(FILE))?;
    refused("create", File::create("/addon/new"))?;
    refused("make a directory", fs::create_dir("/addon/new"))?;
    refused("remove a file", fs::remove_file(FILE))?;
    refused("rename", fs::rename(FILE, "/addon/new"))?;
    refused("rename to /data", fs::rename(FILE, "/data/stolen"))?;
    refused("rename from /data", fs::rename("/data/own", FILE))?;
    refused("link to /data", fs::hard_link(FILE, "/data/stolen"))?;
    refused("link from /data", fs::hard_link("/data/own", "/addon/new"))?;

    let (nowhere, now) = (PathFlags::empty(), NewTimestamp::Now);
    refused("set times by path", addon.set_times_at(nowhere, "readme.txt", now, now))?;
    refused("set times of the directory", addon.set_times(now, now))?;
    refused("remove the directory", addon.remove_directory_at("."))?;
    refused("symbolic link", addon.symlink_at("readme.txt", "new"))?;
    let mutable = addon.open_at(nowhere, ".", OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY);
    refused("change a directory opened for it", mutable.and_then(|addon| addon.create_directory_at("new")))?;
    refused("rename a directory in", data.rename_at("own", &addon, "new"))?;

    let file = addon.open_at(nowhere, "readme.txt", OpenFlags::empty(), DescriptorFlags::READ)?;
    refused("write to a reader", file.write(b"x", 0))?;
    refused("resize a reader", file.set_size(0))?;
    refused("set times of a reader", file.set_times(now, now))?;
    refused("stream to a reader", stream_write(&file, 0, b"x"))?;

    let names = fs::read_dir("/addon")?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    check(!names.iter().any(|name| name == "new"), "/addon has a new name")?;
    check(fs::read(FILE)? == before, "the file has changed")
}
