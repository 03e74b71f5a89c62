//! HTTP as a guest has it, with raw WASI: what std cannot say.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};
use wasip2::io::streams::StreamError;

use crate::{Error, broken, settings};

/// The destination the test has given this probe, as `localhost:PORT`.
pub fn target() -> Result<String, Error> {
    settings::get("TARGET")?.ok_or_else(|| broken("the test gave no TARGET"))
}

/// A setting of the test's that is a port.
pub fn port(setting: &str) -> Result<u16, Error> {
    let value = settings::get(setting)?.unwrap_or_default();
    let digits = value.rsplit(':').next().unwrap_or_default();
    digits.parse().map_err(|_| broken(format!("the test gave no {setting}")))
}

/// A request; `None` when it cannot even be said.
pub fn request(authority: &str, path: &str) -> Option<OutgoingRequest> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(path)).ok()?;
    Some(request)
}

/// A `GET` under way.
pub fn start(
    authority: &str,
    path: &str,
    options: Option<RequestOptions>,
) -> Result<FutureIncomingResponse, ErrorCode> {
    handle(request(authority, path).ok_or(ErrorCode::HttpRequestUriInvalid)?, options)
}

/// Waits for the answer.
pub fn answer(response: &FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    response.subscribe().block();
    response.get().expect("it is ready").expect("nobody has taken it")
}

pub fn get(authority: &str, path: &str) -> Result<IncomingResponse, ErrorCode> {
    answer(&start(authority, path, None)?)
}

pub fn post(authority: &str, path: &str, body: &[u8]) -> Result<IncomingResponse, ErrorCode> {
    let request = request(authority, path).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    request.set_method(&Method::Post).expect("a method");
    let outgoing = request.body().expect("the first body");
    let response = handle(request, None)?;
    let stream = outgoing.write().expect("the first stream");
    for chunk in body.chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            break;
        }
    }
    drop(stream);
    // Whatever is wrong with it, the response says so too.
    let _ = OutgoingBody::finish(outgoing, None);
    answer(&response)
}

/// Reads the body to its end, and says how many bytes there were until it ended, and whether it ended well.
pub fn read(response: &IncomingResponse) -> (Vec<u8>, Result<(), StreamError>) {
    let body = response.consume().expect("the first to read it");
    let stream = body.stream().expect("the first stream");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

/// What a probe does by right fails it with `?`.
impl From<ErrorCode> for Error {
    fn from(error: ErrorCode) -> Self {
        broken(format!("refused something harmless: {error:?}"))
    }
}
