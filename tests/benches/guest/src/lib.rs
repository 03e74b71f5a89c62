//! What the benchmark calls: `url` does as little as a hook can, `enable` writes a file and counts a directory's entries,
//! `provision` is what a durable call is measured with.

use std::fs;

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package local:bench;
        world bench {
            export lodger:addon/setup@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/url@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::{provider, setup, url};
use lodger::addon::types::Error;

struct Bench;
export!(Bench);

impl setup::Guest for Bench {
    fn enable() -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Other(error.to_string());
        fs::write("/data/note", "enabled").map_err(failed)?;
        let entries = fs::read_dir("/data").map_err(failed)?.count();
        if entries > 0 { Ok(()) } else { Err(Error::Other("the file is not there".to_owned())) }
    }

    fn disable() -> Result<(), Error> {
        Ok(())
    }
}

impl provider::Guest for Bench {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        Ok(provider::Provisioned {
            id: request.key,
            private: "password".to_owned(),
            message: None,
            log_drain_url: None,
        })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Result<(), Error> {
        Ok(())
    }
}

impl url::Guest for Bench {
    fn url(id: String, private: String) -> Result<String, Error> {
        Ok(format!("bench://{id}:{private}@localhost"))
    }
}
