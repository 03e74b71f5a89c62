//! Bytes without end, each way: the host must stop them at the limit of what a call may move.

use std::io::{Read, Write};
use std::net::TcpStream;

use probes::http::{get, post, read, target};
use probes::wasip2::http::types::ErrorCode;
use probes::{Held, broken, check};

/// What the test gives this probe.
const LIMIT: usize = 1 << 20;

probes::provision!(held);

fn held(how: &str) -> Held {
    let target = target()?;
    let moved = match how {
        "http" => {
            let (said, end) = read(&get(&target, "/endless")?);
            check(end.is_err(), "a body without end has come to an end")?;
            said.len()
        }
        "http-upload" => {
            let answer = post(&target, "/echo", &vec![b'x'; 4 * LIMIT]);
            let refused = matches!(answer, Err(ErrorCode::HttpRequestBodySize(_)));
            return check(refused, format!("four times the limit: {:?}", answer.map(|_| ())));
        }
        "tcp" => {
            let mut stream = TcpStream::connect(&target)?;
            stream.write_all(b"GET /endless HTTP/1.1\r\n\r\n")?;
            let mut block = [0; 1 << 16];
            let mut moved = 0;
            while let Ok(more @ 1..) = stream.read(&mut block) {
                moved += more;
                check(moved <= 4 * LIMIT, "no end")?;
            }
            moved
        }
        "tcp-upload" => {
            let mut stream = TcpStream::connect(&target)?;
            stream.write_all(b"POST /swallow HTTP/1.1\r\n\r\n")?;
            (0..4 * LIMIT / 4096).take_while(|_| stream.write_all(&[b'x'; 4096]).is_ok()).count() * 4096
        }
        other => return Err(broken(format!("no such attack: {other}"))),
    };
    check(moved <= LIMIT, format!("{moved} bytes were moved"))
}
