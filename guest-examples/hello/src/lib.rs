//! Greets each app and gives it a URL of its own: the smallest addon that is useful to read.

use std::{fs, io};

// Turns the interface package into Rust: traits to implement for what we export, functions to call for what we import.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package local:addon;
        world addon {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/url@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::{provider, url};
use lodger::addon::{progress, types::Error};

struct Addon;
export!(Addon);

// `lodger add APP hello` comes here, and `lodger remove APP hello`.
impl provider::Guest for Addon {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        // What the user typed after `--option` arrives unchecked: refuse what you do not know.
        if let Some(option) = request.options.first() {
            return Err(Error::Invalid(format!("unknown option {:?}", option.name)));
        }
        // Anything slow should say what it is doing; the user sees it at once.
        progress::step("Writing the greeting");
        // Only files under /data outlive this call. `key` is unique for ever and safe as a file name. The same call may
        // come twice: writing the same file again leaves the same state.
        fs::write(file(&request.key), &request.app).map_err(failed)?;
        Ok(provider::Provisioned {
            id: request.key,        // our name of the resource, given back to us below; not a secret
            private: String::new(), // a password would go here: Lodger stores it sealed
            message: Some(format!("Hello, {}!", request.app)),
            log_drain_url: None,
        })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Result<(), Error> {
        match fs::remove_file(file(&request.key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()), // already gone is fine: the same call may come twice
        }
    }
}

// Asked each time the app's environment is made: the answer becomes HELLO_URL. /data is read-only here.
impl url::Guest for Addon {
    fn url(id: String, _private: String) -> Result<String, Error> {
        let app = fs::read_to_string(file(&id)).map_err(|_| Error::NotFound(format!("no greeting {id:?}")))?;
        Ok(format!("https://hello.example/{app}"))
    }
}

fn file(key: &str) -> String {
    format!("/data/{key}")
}

// The text reaches the user. A panic would too, but as a fault of this addon: return errors instead.
fn failed(error: io::Error) -> Error {
    Error::Other(error.to_string())
}
