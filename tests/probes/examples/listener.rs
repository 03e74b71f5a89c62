//! Hears of events, and answers `before` as the setting `TARGET` says: `veto`, `refuse`, `trap`, `hang`, `flood`, and
//! `NAME=VALUE` for a change; what it is told afterwards it notes in `/data/told`, and fails as the setting `OTHER` says. The
//! host must put up with none of it for longer than it has promised; `/data` must be read-only beforehand.

use std::fs::{self, File};
use std::io::Write as _;

use events::{Event, Verdict};
use probes::{Error, Held, Pair, refused, settings};

probes::exports!(events);

impl events::Guest for Probe {
    fn before(event: Event) -> Result<Verdict, Error> {
        eprintln!("before {}", shown(&event));
        refused("writing to /data beforehand", fs::write("/data/before", "x"))?;
        match settings::get("TARGET")?.unwrap_or_default().as_str() {
            "" => Ok(Verdict::Allow),
            "veto" => Ok(Verdict::Veto("not \u{1b}[31mtoday".into())),
            "flood" => Ok(Verdict::Change((0..100_000).map(|_| pair("plan", "x")).collect())),
            "long" => Ok(Verdict::Veto("x".repeat(1 << 20))),
            how => match how.split_once('=') {
                Some((name, value)) => Ok(Verdict::Change(vec![pair(name, value)])),
                None => fail(how).map(|()| Verdict::Allow),
            },
        }
    }

    fn after(event: Event) -> Held {
        let how = settings::get("OTHER")?.unwrap_or_default();
        if how == "fail" || how == event.kind {
            return Err(Error::Unavailable("asked to fail".into()));
        }
        let mut told = File::options().append(true).create(true).open("/data/told")?;
        writeln!(told, "{}", shown(&event))?;
        fail(&how)
    }
}

fn shown(event: &Event) -> String {
    let details: Vec<String> = event.details.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    let [addon, app] = [&event.addon, &event.app].map(|name| name.as_deref().unwrap_or("-"));
    format!("{} {} {addon} {app} {} {} {}", event.sequence, event.kind, event.actor, event.id, details.join(","))
}

fn fail(how: &str) -> Held {
    match how {
        "trap" => panic!("asked to panic"),
        "hang" => loop {
            std::hint::black_box(());
        },
        "refuse" => Err(Error::Other("asked to refuse".into())),
        _ => Ok(()),
    }
}

fn pair(name: &str, value: &str) -> Pair {
    Pair { name: name.into(), value: value.into() }
}
