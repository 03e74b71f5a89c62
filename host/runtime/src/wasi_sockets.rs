//! The host side of `wasi:sockets`: TCP to what is granted, by addresses that came out of a lookup in the same call.
//!
//! Delegates to wasmtime-wasi, which asks before every connection whether the address may be dialled
//! ([`Dialable`](crate::network::Dialable)). Lookups of names go through [`outbound`](crate::outbound). Binding and listening
//! are denied; UDP is never allowed in the context.

use std::io;
use std::mem::replace;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, Network as WasiNetwork, OutputStream, Pollable,
    SocketError, SocketResult, StreamError, StreamResult, TcpSocket, subscribe,
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use crate::network::{Network, Traffic};
use crate::outbound::DialError;

pub(crate) struct Sockets<'a> {
    pub wasi: WasiSocketsCtxView<'a>,
    pub network: &'a mut Network,
}

pub(crate) struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

/// The addresses a name leads to, once they are known. It stands in the table for wasmtime-wasi's own.
enum Lookup {
    Pending(AbortOnDropJoinHandle<Result<Vec<IpAddr>, DialError>>),
    Found(std::vec::IntoIter<IpAddr>),
    Failed(ErrorCode),
}

impl Lookup {
    fn ended(found: Result<Vec<IpAddr>, DialError>) -> Lookup {
        match found {
            Ok(found) => Lookup::Found(found.into_iter()),
            Err(DialError::NotPublic { .. }) => Lookup::Failed(ErrorCode::AccessDenied),
            Err(DialError::Timeout { .. }) => Lookup::Failed(ErrorCode::TemporaryResolverFailure),
            Err(_) => Lookup::Failed(ErrorCode::NameUnresolvable),
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Lookup::Pending(task) = self {
            *self = Lookup::ended(task.await);
        }
    }
}

fn ours(stream: &Resource<ResolveAddressStream>) -> Resource<Lookup> {
    Resource::new_borrow(stream.rep())
}

impl ip_name_lookup::Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<WasiNetwork>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.wasi.table.get(&network)?;
        let own = self.network.endpoints_of(&name);
        let lookup = if own.is_empty() {
            let ports = self.network.ports_of(&name);
            if ports.is_empty() {
                return Err(ErrorCode::AccessDenied.into());
            }
            let slot = self.network.slot().ok_or(ErrorCode::TemporaryResolverFailure)?;
            Lookup::Pending(spawn(self.network.lookup(name, ports, slot)))
        } else {
            Lookup::Found(own.into_iter())
        };
        Ok(Resource::new_own(self.wasi.table.push(lookup)?.rep()))
    }
}

impl ip_name_lookup::HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(&mut self, stream: Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        let lookup = self.wasi.table.get_mut(&ours(&stream))?;
        if let Lookup::Pending(task) = lookup
            && let Some(found) = poll_noop(std::pin::Pin::new(task))
        {
            *lookup = Lookup::ended(found);
        }
        match lookup {
            Lookup::Pending(_) => Err(ErrorCode::WouldBlock.into()),
            Lookup::Found(addresses) => Ok(addresses.next().map(IpAddress::from)),
            Lookup::Failed(code) => Err((*code).into()),
        }
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.wasi.table, ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.wasi.table.delete::<Lookup>(Resource::new_own(stream.rep()))?;
        Ok(())
    }
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.network_error_code(error)
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<WasiNetwork>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasi, network)
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        if self.network.dialable().is_none() {
            return Err(ErrorCode::AccessDenied.into());
        }
        let slot = self.network.slot().ok_or(ErrorCode::NewSocketLimit)?;
        let socket = self.wasi.create_tcp_socket(family)?;
        self.network.socket_opened(socket.rep(), slot);
        Ok(socket)
    }
}

impl tcp::Host for Sockets<'_> {}

/// Functions of a socket that are wasmtime-wasi's as they are.
macro_rules! delegate {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)+) => {
        $(
            fn $name(&mut self, this: Resource<TcpSocket>, $($argument: $kind),*) -> $answer {
                HostTcpSocket::$name(&mut self.wasi, this, $($argument),*)
            }
        )+
    };
}

impl HostTcpSocket for Sockets<'_> {
    async fn start_bind(
        &mut self,
        _: Resource<TcpSocket>,
        _: Resource<WasiNetwork>,
        _: IpSocketAddress,
    ) -> SocketResult<()> {
        Err(ErrorCode::AccessDenied.into())
    }

    async fn start_listen(&mut self, _: Resource<TcpSocket>) -> SocketResult<()> {
        Err(ErrorCode::AccessDenied.into())
    }

    fn finish_connect(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let (input, output) = self.wasi.finish_connect(this)?;
        let traffic = &self.network.traffic;
        let place = self.wasi.table.get_mut(&input)?;
        let stream = replace(place, Box::new(ClosedInputStream));
        *place = Box::new(Counted { stream, traffic: traffic.clone() });
        let place = self.wasi.table.get_mut(&output)?;
        let stream = replace(place, Box::new(ClosedOutputStream));
        *place = Box::new(Counted { stream, traffic: traffic.clone() });
        Ok((input, output))
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        let handle = this.rep();
        HostTcpSocket::drop(&mut self.wasi, this)?;
        self.network.socket_closed(handle);
        Ok(())
    }

    delegate! {
        finish_bind() -> SocketResult<()>;
        start_connect(network: Resource<WasiNetwork>, to: IpSocketAddress) -> SocketResult<()>;
        finish_listen() -> SocketResult<()>;
        accept() -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)>;
        local_address() -> SocketResult<IpSocketAddress>;
        remote_address() -> SocketResult<IpSocketAddress>;
        is_listening() -> wasmtime::Result<bool>;
        address_family() -> wasmtime::Result<IpAddressFamily>;
        set_listen_backlog_size(value: u64) -> SocketResult<()>;
        keep_alive_enabled() -> SocketResult<bool>;
        set_keep_alive_enabled(value: bool) -> SocketResult<()>;
        keep_alive_idle_time() -> SocketResult<u64>;
        set_keep_alive_idle_time(value: u64) -> SocketResult<()>;
        keep_alive_interval() -> SocketResult<u64>;
        set_keep_alive_interval(value: u64) -> SocketResult<()>;
        keep_alive_count() -> SocketResult<u32>;
        set_keep_alive_count(value: u32) -> SocketResult<()>;
        hop_limit() -> SocketResult<u8>;
        set_hop_limit(value: u8) -> SocketResult<()>;
        receive_buffer_size() -> SocketResult<u64>;
        set_receive_buffer_size(value: u64) -> SocketResult<()>;
        send_buffer_size() -> SocketResult<u64>;
        set_send_buffer_size(value: u64) -> SocketResult<()>;
        subscribe() -> wasmtime::Result<Resource<DynPollable>>;
        shutdown(how: ShutdownType) -> SocketResult<()>;
    }
}

/// A stream whose bytes count as the call's traffic.
struct Counted<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Counted<S> {
    fn take(&self, bytes: usize) -> StreamResult<()> {
        if self.traffic.take(bytes) {
            return Ok(());
        }
        let text = format!("more than network_bytes = {}", self.traffic.max());
        Err(StreamError::LastOperationFailed(io::Error::new(io::ErrorKind::QuotaExceeded, text).into()))
    }
}

#[wasmtime_wasi::async_trait]
impl<S: Pollable> Pollable for Counted<S> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Counted<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.stream.read(size)?;
        self.take(bytes.len())?;
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Counted<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(bytes.len())?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
