//! Text that acts on who reads it: the host must escape what is not plain in log, progress, message and error, and forge no
//! lines. `enable` is refused the first time.

use std::fs;
use std::io::{self, Write};

use probes::{Error, Held, progress};

probes::exports!(setup, provider, health);

const ATTACKS: [&str; 9] = [
    "\u{1b}[31mred\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{1b}]52;c;c3RvbGVu\u{7}clipboard",
    "\u{9b}31mone-byte escape",
    "bidi \u{202e}desrever\u{202c} \u{2066}isolate\u{2069}",
    "harmless\rforged line",
    "\n2030-01-01T00:00:00Z ERROR lodger: forged line\n\ndata: forged event\n\n",
    "zero\0byte",
    "back\u{8}\u{8}\u{8}\u{8}space",
    "hidden\u{200b}\u{feff}\u{e0041}",
];

impl setup::Guest for Probe {
    fn enable() -> Held {
        for attack in ATTACKS {
            println!("{attack}");
            eprintln!("{attack}");
            progress::step(attack);
        }
        io::stderr().write_all(b"not UTF-8: \xff\xfe\xc3\n")?;
        if fs::exists("/data/refused")? {
            return Ok(());
        }
        fs::write("/data/refused", "")?;
        Err(Error::Other(ATTACKS.concat()))
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let message = Some(ATTACKS.concat());
        Ok(provider::Provisioned { id: request.key, private: String::new(), message, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        Ok(health::Report { status: health::Status::Degraded, message: Some(ATTACKS.concat()) })
    }
}
