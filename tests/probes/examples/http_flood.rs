//! Requests without number at one time: the host must refuse those beyond the limit, and take more when some have ended.

use probes::http::{answer, start, target};
use probes::wasip2::http::types::ErrorCode;
use probes::{Held, broken, check};

probes::enable!(held);

fn held() -> Held {
    let target = target()?;
    let mut held: Vec<_> = (0..8).map(|_| start(&target, "/no-answer", None)).collect::<Result<_, _>>()?;
    for _ in 0..100 {
        let more = answer(&start(&target, "/no-answer", None)?);
        let refused = matches!(more, Err(ErrorCode::ConnectionLimitReached));
        check(refused, format!("one more answered {:?}", more.map(|_| ())))?;
    }
    let others = std::net::TcpStream::connect(&target);
    check(others.is_err(), "a socket is not counted with the requests")?;
    held.pop().ok_or_else(|| broken("none"))?;
    drop(held);
    // The connections are closed soon after: nobody says when.
    while matches!(answer(&start(&target, "/echo", None)?), Err(ErrorCode::ConnectionLimitReached)) {}
    Ok(())
}
