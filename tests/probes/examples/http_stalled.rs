//! A server that stops talking: the host must keep the guest's timeouts, and its own deadline where there are none.

use probes::http::{answer, get, read, start, target};
use probes::wasip2::http::types::{ErrorCode, RequestOptions};
use probes::{Error, Held, broken, check};

probes::provision!(held);

fn held(how: &str) -> Held {
    let target = target()?;
    let (options, patience) = (RequestOptions::new(), Some(50_000_000));
    match how {
        "no-answer" => {
            options.set_first_byte_timeout(patience).map_err(|()| broken("a timeout is refused"))?;
            match answer(&start(&target, "/no-answer", Some(options))?) {
                Err(ErrorCode::ConnectionReadTimeout) => Ok(()),
                other => check(false, format!("answered {:?}", other.map(|_| ()))),
            }
        }
        "half-an-answer" => {
            options.set_between_bytes_timeout(patience).map_err(|()| broken("a timeout is refused"))?;
            let (said, end) = read(&answer(&start(&target, "/a-byte", Some(options))?)?);
            check(said == b"x" && end.is_err(), format!("{said:?}, ended by {end:?}"))
        }
        // As long as the host lets it.
        "a-byte" => Err(unending(read(&get(&target, "/a-byte")?))),
        _ => Err(unending(get(&target, "/no-answer").map(|_| ()))),
    }
}

fn unending(end: impl std::fmt::Debug) -> Error {
    broken(format!("came to an end: {end:?}"))
}
