//! An addon in several versions, made of this one component: what a version does is in its package, `/addon/does.txt`. Its
//! `upgrade` writes over all data and then does that: refuses, panics, hangs, fills its quota, or comes to be unhealthy.

use std::io::{Read as _, Write as _};
use std::{fs, thread::sleep, time::Duration};

use probes::{Error, Held, InputStream, OutputStream, broken};

probes::exports!(setup, provider, url, backup, health, upgrade);

impl setup::Guest for Probe {
    fn enable() -> Held {
        fs::create_dir_all("/data/deep/deeper")?;
        fs::write("/data/deep/deeper/format", "1")?;
        Ok(())
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        fs::write(format!("/data/{}", request.key), &request.app)?;
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        let _ = fs::remove_file(format!("/data/{}", request.key));
        Ok(())
    }
}

impl url::Guest for Probe {
    fn url(id: String, _: String) -> Result<String, Error> {
        let (format, app) =
            (fs::read_to_string("/data/deep/deeper/format")?, fs::read_to_string(format!("/data/{id}"))?);
        Ok(format!("probe://{app}/{format}"))
    }
}

impl backup::Guest for Probe {
    fn dump(id: String, _: String, mut output: OutputStream) -> Held {
        Ok(output.write_all(&fs::read(format!("/data/{id}"))?)?)
    }

    fn restore(id: String, _: String, mut input: InputStream) -> Held {
        let mut app = Vec::new();
        input.read_to_end(&mut app)?;
        fs::write("/data/incoming", app)?;
        Ok(fs::rename("/data/incoming", format!("/data/{id}"))?)
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        let ill = does()? == "ail";
        let status = if ill { health::Status::Unhealthy } else { health::Status::Healthy };
        Ok(health::Report { status, message: ill.then(|| "the rows are gone".into()) })
    }
}

impl upgrade::Guest for Probe {
    fn upgrade(from_version: String) -> Held {
        fs::write("/data/deep/deeper/format", format!("2, from {from_version}"))?;
        for entry in fs::read_dir("/data")? {
            let path = entry?.path();
            if path.is_file() {
                fs::write(path, "written over")?;
            }
        }
        fs::write("/data/new", "")?;
        match does()?.as_str() {
            "refuse" => Err(Error::Conflict("cannot read that format".into())),
            "trap" => panic!("asked to panic"),
            "hang" => loop {
                sleep(Duration::from_secs(3600));
            },
            "fill" => {
                let full = fs::write("/data/full", vec![0; 2 << 20]).is_err();
                Err(if full { Error::Exhausted("no room".into()) } else { broken("wrote beyond its quota") })
            }
            _ => Ok(()),
        }
    }
}

fn does() -> Result<String, Error> {
    Ok(fs::read_to_string("/addon/does.txt")?)
}
