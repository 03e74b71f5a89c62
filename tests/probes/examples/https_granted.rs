//! HTTPS: the host must prove who answers, by the name that is granted, before it says a word to them.

use probes::http::{answer, request, target};
use probes::wasip2::http::outgoing_handler::handle;
use probes::wasip2::http::types::{ErrorCode, IncomingResponse, Scheme};
use probes::{Held, check, settings};

probes::enable!(held);

fn held() -> Held {
    let response = get(&target()?)?;
    check(response.status() == 302, format!("status {}", response.status()))?;
    // This one has a certificate of the same authority, for another name.
    let other = settings::get("OTHER")?.unwrap_or_default();
    let answer = get(&other);
    check(matches!(answer, Err(ErrorCode::TlsCertificateError)), format!("{:?}", answer.map(|_| ())))
}

fn get(authority: &str) -> Result<IncomingResponse, ErrorCode> {
    let request = request(authority, "/secret").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    request.set_scheme(Some(&Scheme::Https)).map_err(|()| ErrorCode::HttpProtocolError)?;
    answer(&handle(request, None)?)
}
