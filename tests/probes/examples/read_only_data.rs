//! `/data` is read-only in `url`, `config-vars`, `dump` and `check`: the host must refuse every change, and let us read.

use std::fs::{self, File, OpenOptions};

use probes::wasip2::filesystem::types::{DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use probes::{Error, Held, InputStream, OutputStream, check, directory, refused};

probes::exports!(provider, url, config, backup, health);

const FILE: &str = "/data/kept";

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        fs::write(FILE, "kept")?;
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl url::Guest for Probe {
    fn url(_: String, _: String) -> Result<String, Error> {
        held().map(|()| "ok://held".into())
    }
}

impl config::Guest for Probe {
    fn config_vars(_: String, _: String) -> Result<Vec<config::ConfigVar>, Error> {
        held().map(|()| vec![config::ConfigVar { name: "PROBE_HELD".into(), value: "yes".into() }])
    }
}

impl backup::Guest for Probe {
    fn dump(_: String, _: String, _: OutputStream) -> Held {
        held()
    }

    fn restore(_: String, _: String, _: InputStream) -> Held {
        Ok(fs::write(FILE, "kept")?)
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        held().map(|()| health::Report { status: health::Status::Healthy, message: None })
    }
}

fn held() -> Held {
    let data = directory("/data")?;
    let (nowhere, now) = (PathFlags::empty(), NewTimestamp::Now);
    refused("write", OpenOptions::new().write(true).open(FILE))?;
    refused("append", OpenOptions::new().append(true).open(FILE))?;
    refused("truncate", OpenOptions::new().write(true).truncate(true).open(FILE))?;
    refused("create", File::create("/data/new"))?;
    refused("make a directory", fs::create_dir("/data/new"))?;
    refused("remove", fs::remove_file(FILE))?;
    refused("rename", fs::rename(FILE, "/data/new"))?;
    refused("symbolic link", data.symlink_at("kept", "new"))?;
    refused("hard link", data.link_at(nowhere, "kept", &data, "new"))?;
    refused("set times", data.set_times_at(nowhere, "kept", now, now))?;

    let file = data.open_at(nowhere, "kept", OpenFlags::empty(), DescriptorFlags::READ)?;
    refused("write to a reader", file.write(b"x", 0))?;
    refused("resize a reader", file.set_size(0))?;
    refused("set times of a reader", file.set_times(now, now))?;
    check(fs::read(FILE)? == b"kept" && !fs::exists("/data/new")?, "/data has changed")
}
