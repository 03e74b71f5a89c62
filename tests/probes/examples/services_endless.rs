//! A command that does not end: the host must end it with its container, within the call's time, and start the container
//! again. One that is asked for when that time is over must not be started at all.

use probes::services::exec;
use probes::{Error, Held, check};

probes::enable!(held);

fn held() -> Held {
    let command = ["sh", "-c", "trap '' TERM; yes; while :; do sleep 1; done"].map(str::to_owned);
    for attack in ["an endless command", "another one after it"] {
        let answer = exec("main", &command, &[]).map(|ran| ran.exit_code);
        check(matches!(answer, Err(Error::Unavailable(_))), format!("{attack}: {answer:?}"))?;
    }
    Ok(())
}
