//! A granted name by HTTP: the host must send the request as it is, to whom it is for, and give the answer as it is.

use probes::http::{get, post, read, target};
use probes::{Held, check};

probes::enable!(held);

fn held() -> Held {
    let target = target()?;
    // The server answers with what it was sent.
    let response = get(&target, "/echo?a=b")?;
    check(response.status() == 200, format!("status {}", response.status()))?;
    let (said, end) = read(&response);
    check(end.is_ok(), format!("the body ended by {end:?}"))?;
    let said = String::from_utf8_lossy(&said).to_lowercase();
    check(said.starts_with("get /echo?a=b http/1.1\r\n"), format!("another request was sent: {said}"))?;
    check(said.contains(&format!("\r\nhost: {target}\r\n")), format!("to another host: {said}"))?;
    let (said, _) = read(&post(&target, "/echo", b"the whole body")?);
    check(said.ends_with(b"the whole body"), "the body was lost")
}
