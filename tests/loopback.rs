//! A server on the loopback, of a few words of HTTP: what guests with a network talk to in the tests.
#![expect(clippy::disallowed_methods, reason = "the tests listen where guests are to be let, and where they are not")]

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::until;

/// Serves until the tests end.
pub struct Loopback {
    pub port: u16,
    /// The ports of those who have connected, in order, and which of them were only asked to know that.
    from: Arc<Mutex<Vec<u16>>>,
    own: Mutex<Vec<u16>>,
    closed: Mutex<Receiver<()>>,
}

impl Loopback {
    /// On a port of its own. `serve` is given each connection, with the head of its request.
    pub fn start(serve: fn(&mut TcpStream, &str) -> std::io::Result<()>) -> Loopback {
        Loopback::raw(move |stream| {
            let head = head_of(stream);
            serve(stream, &String::from_utf8_lossy(&head))
        })
    }

    /// The same, of whatever begins with a connection.
    pub fn raw(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Copy + Send + 'static) -> Loopback {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let from = Arc::new(Mutex::new(Vec::new()));
        let (tell, closed) = channel();
        let list = from.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                list.lock().unwrap().push(stream.peer_addr().unwrap().port());
                let tell = tell.clone();
                std::thread::spawn(move || {
                    // A client that closes its end in the middle is what some tests want.
                    if serve(&mut stream).is_err() {
                        let _ = tell.send(());
                    }
                });
            }
        });
        Loopback { port, from, own: Mutex::default(), closed: Mutex::new(closed) }
    }

    pub fn authority(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Connections so far. Those still waiting to be taken in come before one that is made now.
    pub fn accepted(&self) -> usize {
        let last = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut own = self.own.lock().unwrap();
        own.push(last.local_addr().unwrap().port());
        until(|| {
            let from = self.from.lock().unwrap();
            from.ends_with(&own[own.len() - 1..]).then(|| from.len() - own.len())
        })
    }

    /// Waits until one more connection has been closed by its client.
    pub fn one_is_closed(&self) {
        self.closed.lock().unwrap().recv().unwrap();
    }
}

pub fn head_of(stream: &mut impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    head
}

/// What the probes ask for, by path.
pub fn by_path(stream: &mut TcpStream, head: &str) -> std::io::Result<()> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path.split('?').next().unwrap_or_default() {
        "/echo" => {
            let told = head.to_ascii_lowercase();
            let mut body = Vec::new();
            if told.contains("transfer-encoding: chunked") {
                body = read_chunks(stream)?;
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len() + body.len())?;
            stream.write_all(&body)
        }
        "/a-byte" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")?;
            until_closed(stream)
        }
        "/no-answer" => until_closed(stream),
        "/swallow" => until_closed(stream),
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            forever(stream, &[b'x'; 4096])
        }
        _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

/// Speaks TLS first, with a certificate and its key.
fn redirect_in_tls(stream: &mut TcpStream, certificate: &[u8]) -> std::io::Result<()> {
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
    let certificates = certificates.map_err(std::io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(certificate).map_err(std::io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(std::io::Error::other)?;
    let tls = ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    if !head_of(&mut stream).ends_with(b"\r\n\r\n") {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    stream.write_all(REDIRECT)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// For the name `localhost`, by the authority of `tls/authority.pem`, whose key nobody has any more.
pub fn itself(stream: &mut TcpStream) -> std::io::Result<()> {
    redirect_in_tls(stream, include_bytes!("tls/localhost.pem"))
}

/// For another name, by the same authority.
pub fn somebody_else(stream: &mut TcpStream) -> std::io::Result<()> {
    redirect_in_tls(stream, include_bytes!("tls/other.example.pem"))
}

const REDIRECT: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";

pub fn redirect(stream: &mut TcpStream, _: &str) -> std::io::Result<()> {
    stream.write_all(REDIRECT)
}

pub fn endless_headers(stream: &mut TcpStream, _: &str) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ")?;
    forever(stream, &[b'x'; 4096])
}

pub fn endless_trailers(stream: &mut TcpStream, _: &str) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-long\r\n\r\n0\r\nx-long: ")?;
    forever(stream, &[b'x'; 4096])
}

fn forever(stream: &mut TcpStream, block: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(block)?;
    }
}

/// Takes in all that comes. A client that is gone is an error, as it is for whoever writes.
fn until_closed(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut block = [0; 4096];
    while stream.read(&mut block)? > 0 {}
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

fn read_chunks(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend(&chunk[..size]);
    }
}
