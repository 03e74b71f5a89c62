//! HTTP to all but what is granted, in every spelling: `handle` itself must deny, with the error code for it.

use probes::http::{port, request};
use probes::wasip2::http::{outgoing_handler::handle, types::ErrorCode, types::Method, types::Scheme};
use probes::{Held, broken, check};

probes::enable!(held);

fn held() -> Held {
    // A server listens here; whether `localhost` is granted at this port is up to the test.
    let port = port("OTHER")?;
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "localhost",
        "localhost.",
        "user@localhost",
        "user:password@localhost",
        "localhost:80@localhost",
        "localhost%00.example",
        "stolen-data.example.com",
        "xn--localhost-.example",
    ];
    for host in hosts {
        denied(&format!("{host}:{port}"))?;
        denied(host)?;
    }
    denied(&format!("localhost:0{port}"))?;
    denied("localhost:")?;
    denied("localhost:0")?;
    denied("")
}

fn denied(authority: &str) -> Held {
    for scheme in [None, Some(Scheme::Http), Some(Scheme::Https)] {
        for method in [Method::Get, Method::Connect] {
            let Some(request) = request(authority, "/stolen") else { return Ok(()) };
            request.set_scheme(scheme.as_ref()).map_err(|()| broken("a scheme is refused"))?;
            request.set_method(&method).map_err(|()| broken("a method is refused"))?;
            match handle(request, None) {
                Err(ErrorCode::HttpRequestDenied) => {}
                Err(other) => check(false, format!("{authority:?} is denied as {other:?}"))?,
                Ok(_) => check(false, format!("{authority:?} is not denied"))?,
            }
        }
    }
    Ok(())
}
