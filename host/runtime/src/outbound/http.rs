//! HTTP/1.1, one request per connection: what is open belongs to one request, and is gone with it.

use std::error::Error as StdError;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// Most bytes of a response's head, and of what is read ahead of its body. Trailers have the same bound, which is hyper's.
pub(crate) const HEAD_MAX: usize = 16 << 10;

/// Moves the bytes of one connection, until it is dropped.
pub(crate) struct Driver(JoinSet<()>);

impl Driver {
    /// Until the connection has ended.
    pub async fn ended(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Sends a request over a connection and waits for the head of its response. Redirects are answers like any other.
///
/// The request's URI is its path and query; the host is in its header. The body of the response needs its driver.
pub(crate) async fn exchange<S, B>(stream: S, mut request: Request<B>) -> hyper::Result<(Response<Incoming>, Driver)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (mut sender, connection) = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What goes wrong is told to whoever reads the response.
        let _ = connection.await;
    });
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let response = sender.send_request(request).await?;
    Ok((response, Driver(driver)))
}
