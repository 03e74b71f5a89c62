//! A response whose head never ends: the host must give up on it.

use probes::http::{get, target};
use probes::wasip2::http::types::ErrorCode;
use probes::{Held, check};

probes::enable!(held);

fn held() -> Held {
    let answer = get(&target()?, "/");
    let given_up = matches!(answer, Err(ErrorCode::HttpResponseHeaderSectionSize(_)));
    check(given_up, format!("answered {:?}", answer.map(|_| ())))
}
