//! The host side of `wasi:http`, outgoing: wasmtime-wasi-http's, with every request sent through [`outbound`](crate::outbound).
//!
//! A request to what is not granted is denied by `handle` itself, before anything is looked up. Timeouts are the guest's or
//! what is left of its call, whichever ends first; the bytes of heads and
//! bodies count, both ways.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Request, Response, Uri};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi_http::p2::HttpResult;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, Scheme};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use crate::network::{Network, Route, Slot, Traffic, note};
use crate::outbound::{DialError, Driver, HEAD_MAX, exchange};

/// Most bytes of one set of fields, as they are held. How many there are is bounded by the call's `resources`.
pub(crate) const FIELDS_MAX: usize = 8 << 10;
/// Most bytes of a request's body taken at a time; two such pieces may wait to be sent.
const CHUNK: usize = 16 << 10;

/// `wasi:http` of one call.
pub(crate) struct Http<'a> {
    pub network: &'a mut Network,
    pub ctx: &'a mut WasiHttpCtx,
    pub table: &'a mut ResourceTable,
}

impl<'a> Http<'a> {
    pub fn wasi(self) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: self.network, table: self.table, ctx: self.ctx }
    }

    /// `outgoing-handler.handle`.
    pub fn handle(
        self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<HostFutureIncomingResponse>> {
        let asked = self.table.get(&request)?;
        let tls = !matches!(asked.scheme, Some(Scheme::Http));
        let is_tunnel = matches!(asked.method, Method::Connect);
        let authority = asked.authority.as_deref().unwrap_or_default();
        if is_tunnel || route(self.network, authority, tls).is_none() {
            self.table.delete(request)?;
            return Err(ErrorCode::HttpRequestDenied.into());
        }
        self.wasi().handle(request, options)
    }
}

/// Defines `wasi:http/outgoing-handler`. Not by wasmtime-wasi-http's function for it, whose host could not say no.
pub(crate) fn add_handler_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    http: impl Fn(&mut T) -> Http<'_> + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    type Asked = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
    linker.instance("wasi:http/outgoing-handler@0.2.12")?.func_wrap(
        "handle",
        move |mut store: StoreContextMut<'_, T>, (request, options): Asked| match http(store.data_mut())
            .handle(request, options)
        {
            Ok(response) => Ok((Ok(response),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        },
    )
}

/// How the host and port of a URI are dialled. A name for the user before the host is part of no name.
fn route(network: &Network, authority: &str, tls: bool) -> Option<Route> {
    let port_of = |text: &str| text.parse().ok().filter(|port: &u16| port.to_string() == text);
    let (host, port) = match authority.rsplit_once(':') {
        // In brackets it is an address, with its colons.
        Some((host, port)) if !port.ends_with(']') => (host, port_of(port).unwrap_or(0)),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    network.route(host, port)
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Network {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let tls = request.uri().scheme_str() == Some("https");
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let Some(to) = route(self, &authority, tls) else {
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        };
        let Some(slot) = self.slot() else {
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        };
        Box::new(send(self, to, tls, request, options.unwrap_or_default(), slot))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

fn send(
    network: &Network,
    to: Route,
    tls: bool,
    request: Request<WasiBody>,
    options: RequestOptions,
    slot: Slot,
) -> impl Future<Output = Result<Sent, Error>> + use<> {
    let (outbound, traffic, end, log) =
        (network.outbound.clone(), network.traffic.clone(), network.until, network.log());
    let dialable = network.dialable();
    // The guest's own patience, or what is left of the call.
    let until = move |patience: Option<Duration>| {
        patience.and_then(|patience| Instant::now().checked_add(patience)).map_or(end, |until| until.min(end))
    };
    let refused = move |error: DialError| {
        note(&log, &error);
        match error {
            DialError::Lookup { .. } => Error::DnsError { rcode: Some("name not found".to_owned()), info_code: None },
            DialError::NotPublic { .. } | DialError::NotThisMachine { .. } => Error::DestinationIpProhibited,
            DialError::Connect { .. } => Error::ConnectionRefused,
            DialError::Certificate { .. } => Error::TlsCertificateError,
            DialError::Tls { .. } => Error::TlsProtocolError,
            DialError::Timeout { .. } => Error::ConnectionTimeout,
        }
    };
    async move {
        if !traffic.take(head_bytes(request.headers())) {
            return Err(Error::HttpRequestHeaderSectionSize(None));
        }
        let request = origin_form(request)?.map(|body| Counted { body, traffic: traffic.clone(), pause: None });
        let by = until(options.connect_timeout);
        let (stream, host) = match to {
            Route::Granted(to) => {
                (outbound.connect(&to, by, slot.clone()).await.map_err(&refused)?, to.host().to_owned())
            }
            Route::Endpoint(to) => {
                let may = match dialable {
                    Some(dialable) => dialable.may(to).await,
                    None => false,
                };
                if !may {
                    return Err(Error::HttpRequestDenied);
                }
                (outbound.connect_exactly(to, by).await.map_err(&refused)?, to.ip().to_string())
            }
        };
        let by = until(options.first_byte_timeout);
        let (response, driver) = if tls {
            let stream = outbound.secure(&host, stream, by).await.map_err(&refused)?;
            timeout_at(by, exchange(stream, request)).await
        } else {
            timeout_at(by, exchange(stream, request)).await
        }
        .map_err(|_| Error::ConnectionReadTimeout)?
        .map_err(in_words)?;
        if !traffic.take(head_bytes(response.headers())) {
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        let pause =
            options.between_bytes_timeout.map(|most| Pause { most, end: Box::pin(sleep_until(until(Some(most)))) });
        let response = response.map(|body| Counted { body: body.map_err(in_words), traffic, pause }.boxed_unsync());
        let driven: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(drive(driver, slot));
        Ok((response, driven))
    }
}

fn head_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Holds the slot for as long as the connection is there.
async fn drive(driver: Driver, slot: Slot) -> Result<(), Error> {
    driver.ended().await;
    drop(slot);
    Ok(())
}

/// Whom it is for is in the `Host` header; a URI with a host would ask for a proxy.
fn origin_form<B>(mut request: Request<B>) -> Result<Request<B>, Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path).map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(request)
}

/// What hyper says, as the guest may be told it.
fn in_words(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HEAD_MAX).ok())
    } else if error.is_user()
        && let Some(Error::HttpResponseBodySize(most)) = error.source().and_then(|source| source.downcast_ref())
    {
        // What a body that was counted says, of the one that was sent.
        Error::HttpRequestBodySize(*most)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Error::HttpResponseIncomplete
    } else {
        Error::HttpProtocolError
    }
}

/// A body whose bytes count as the call's traffic, and which may not pause for longer than the guest waits.
struct Counted<B> {
    body: B,
    traffic: Arc<Traffic>,
    pause: Option<Pause>,
}

struct Pause {
    most: Duration,
    end: Pin<Box<Sleep>>,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match (Pin::new(&mut self.body).poll_frame(cx), &mut self.pause) {
            (Poll::Ready(frame), _) => frame,
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(pause)) => {
                ready!(pause.end.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
        };
        if let Some(pause) = &mut self.pause
            && let Some(next) = Instant::now().checked_add(pause.most)
        {
            pause.end.as_mut().reset(next);
        }
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len) + frame.trailers_ref().map_or(0, head_bytes),
            _ => 0,
        };
        if self.traffic.take(bytes) {
            Poll::Ready(frame)
        } else {
            Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(self.traffic.max())))))
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
