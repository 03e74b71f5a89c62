//! A response whose trailers never end: the host must give up on them.

use probes::http::{get, target};
use probes::wasip2::http::types::IncomingBody;
use probes::{Held, broken, check};

probes::enable!(held);

fn held() -> Held {
    let body = get(&target()?, "/")?.consume().map_err(|()| broken("no body"))?;
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let answer = trailers.get().and_then(Result::ok).ok_or_else(|| broken("not ready"))?;
    check(answer.is_err(), "trailers without end have come to an end")
}
