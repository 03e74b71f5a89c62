//! The port of its own service, after the service was stopped and another program has taken the port: the host must refuse to
//! connect to it, by TCP and by HTTP, however the guest has come by the address, and let it connect again when the service is
//! back.
//!
//! The test's server, `TARGET`, stops the service and takes its port before it answers the first request; it gives the port
//! back and starts the service before it answers the second.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use probes::http::{get, target};
use probes::services::endpoint;
use probes::wasip2::http::types::ErrorCode;
use probes::{Error, Held, check};

probes::enable!(held);

fn held() -> Held {
    let at = endpoint("main", 8080)?;
    let address = format!("{}:{}", at.host, at.port);
    page(&address)?;
    check(get(&address, "/")?.status() == 200, "no page by HTTP")?;

    meanwhile("/stop")?;
    for attack in ["the address it had", "the address it is said to have"] {
        let connected = TcpStream::connect(&address).map(drop).map_err(|error| error.kind());
        check(connected == Err(ErrorKind::PermissionDenied), format!("{attack}, by TCP: {connected:?}"))?;
        let answered = get(&address, "/").map(|answer| answer.status());
        let denied = matches!(answered, Err(ErrorCode::HttpRequestDenied));
        check(denied, format!("{attack}, by HTTP: {answered:?}"))?;
        let now = endpoint("main", 8080)?;
        check((&now.host, now.port) == (&at.host, at.port), "the endpoint has changed")?;
    }

    meanwhile("/start")?;
    endpoint("main", 8080)?;
    page(&address)
}

/// What the service serves.
fn page(address: &str) -> Held {
    let mut said = String::new();
    // The engine takes connections a moment before the service does.
    while said.is_empty() {
        let mut stream = TcpStream::connect(address)?;
        if stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok() {
            // Cut off is as good as empty.
            let _ = stream.read_to_string(&mut said);
        }
    }
    check(said.contains("a page of lodger-test/web"), format!("the service said {said:?}"))
}

fn meanwhile(what: &str) -> Result<(), Error> {
    check(get(&target()?, what)?.status() == 200, "the test's server is not well")
}
