//! Probes that speak: what they say is redacted and escaped wherever a person or a program reads it.

use std::fs;

use lodger::{Answer, Outcome, ProgressEvent};

use super::{Probe, refusal};
use crate::support::{Lab, SECRET, assert_plain, strings};

/// All that the binary shows of a probe's calls.
fn everything_shown(lab: &Lab, addon: &str) -> Vec<String> {
    let mut shown = Vec::new();
    let verbs: [&[&str]; 8] = [
        &["calls"],
        &["logs", addon],
        &["info", addon],
        &["explain", addon],
        &["list"],
        &["doctor"],
        &["apps"],
        &["enable", addon],
    ];
    for verb in verbs {
        for json in [false, true] {
            let ran = lab.lodger(&if json { [&["--json"], verb].concat() } else { verb.to_vec() });
            if json {
                shown.extend(strings(&ran.json()));
            }
            shown.extend([ran.stdout, ran.stderr]);
        }
    }
    shown
}

/// What it says to people when it is enabled after all, makes a resource, and is asked for its health.
async fn messages(probe: &Probe) -> Vec<String> {
    assert!(probe.enable().await.outcome.is_completed());
    let Outcome::Completed(made) = probe.add("shop").await.outcome else { panic!("it makes a resource") };
    let health = probe.host.check_health(&probe.id).await.unwrap().unwrap().outcome;
    let Outcome::Completed(Answer::Health(report)) = health else { panic!("{health:?}") };
    vec![made.message.unwrap(), report.message.unwrap()]
}

fn steps(probe: &Probe) -> Vec<String> {
    let step = |event| match event {
        ProgressEvent::Step(step) => Some(step),
        ProgressEvent::Percent(_) => None,
    };
    probe.told.by_guests().into_iter().filter_map(step).collect()
}

pub async fn the_secret_appears_nowhere(name: &str) {
    let probe = Probe::installed(name).await;
    let done = probe.enable().await;
    assert_eq!(refusal(&done.outcome), ("other", "cannot log in with [redacted]"));
    let mut said = done.call.unwrap().log;
    assert_eq!(
        said,
        [
            "the secret is [redacted], again [redacted][redacted]",
            "the secret is [redacted]",
            "in two writes: [redacted]"
        ]
    );
    said.extend(steps(&probe));
    assert_eq!(said.len(), 5);
    let messages = messages(&probe).await;
    assert_eq!(messages, ["made with [redacted], the password is [redacted]", "[redacted] is too short"]);
    said.extend(messages);
    let (addon, lab) = (probe.id.to_string(), probe.close());
    said.extend(everything_shown(&lab, &addon));
    for text in said {
        assert!(!text.contains(SECRET) && !text.contains(&SECRET[..8]), "{text}");
    }
    for file in ["lodger.db", "lodger.db-wal"] {
        let bytes = fs::read(lab.home().join(file)).unwrap_or_default();
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "in {file}");
    }
}

pub async fn text_acts_on_nobody(name: &str) {
    let probe = Probe::installed(name).await;
    let done = probe.enable().await;
    let (code, message) = refusal(&done.outcome);
    assert_eq!(code, "other");
    assert!(message.starts_with("\\u{1b}[31mred"), "{message}");
    assert!(!message.contains('\n'), "one line: {message}");
    let messages = messages(&probe).await;
    let mut said = [vec![message.to_owned()], done.call.unwrap().log, steps(&probe), messages].concat();
    assert!(said.iter().all(|line| !line.contains('\n')), "a line was forged");
    let (addon, lab) = (probe.id.to_string(), probe.close());
    said.extend(everything_shown(&lab, &addon));
    said.iter().for_each(|text| assert_plain(text));
    let logs = lab.lodger(&["logs", &addon]).ok().stdout;
    let forged = |line: &&str| line.starts_with("2030-") || line.starts_with("data:") || line.starts_with("forged");
    assert_eq!(logs.lines().find(forged), None);
}
