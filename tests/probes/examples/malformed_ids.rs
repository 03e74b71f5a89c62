//! Ids and private values against the rules: the host must refuse the answer and undo the resource by its key, which we
//! record in `/data/undone`. The app says which rule to break.

use std::fs;

use probes::{Error, Held};

probes::exports!(provider);

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let key = request.key;
        let (id, private) = match request.app.as_str() {
            "good" => (key, "pass word".into()),
            "colon" => ("a:b".into(), String::new()),
            "control" => ("a\u{7}b".into(), String::new()),
            "newline" => ("a\nb".into(), String::new()),
            "ansi" => ("a\u{1b}[31mb".into(), String::new()),
            "bidi" => ("a\u{202e}b".into(), String::new()),
            "empty" => (String::new(), String::new()),
            "long" => ("x".repeat(256), String::new()),
            "duplicate" => ("same".into(), String::new()),
            "private-colon" => (key, "a:b".into()),
            "private-control" => (key, "a\0b".into()),
            "private-long" => (key, "x".repeat(4097)),
            other => return Err(Error::Invalid(format!("no variant {other}"))),
        };
        Ok(provider::Provisioned { id, private, message: None, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        fs::create_dir_all("/data/undone")?;
        Ok(fs::write(format!("/data/undone/{}", request.key), request.id.unwrap_or_default())?)
    }
}
