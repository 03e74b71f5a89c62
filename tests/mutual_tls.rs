//! An engine that is reached over mutual TLS, as one on another machine is: its socket behind a server that wants to be shown
//! a certificate, and shows one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lodger::engine::docker::Address;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::root;

/// Serves until it is dropped.
pub struct MutualTls {
    pub port: u16,
    serving: Option<Runtime>,
}

/// A file of the certificates that the tests have.
pub fn pem(name: &str) -> PathBuf {
    root().join("tests/tls").join(name)
}

impl MutualTls {
    /// It is `localhost`, by the authority of `authority.pem`, and lets in whom that of `clients.pem` has signed.
    #[expect(clippy::disallowed_methods, reason = "the tests listen as an engine does")]
    pub fn before(socket: &Path) -> MutualTls {
        let serving = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = serving.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, socket) = (acceptor(), socket.to_owned());
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, socket) = (acceptor.clone(), socket.clone());
                // Who goes away in the middle is done.
                tokio::spawn(async move { serve(acceptor, stream, &socket).await.ok() });
            }
        });
        MutualTls { port, serving: Some(serving) }
    }

    /// As a client is to be told, with files that are good.
    pub fn address(&self) -> Address {
        Address::Tls {
            address: format!("localhost:{}", self.port),
            key: pem("client.pem"),
            certificate: pem("client.pem"),
            authority: pem("authority.pem"),
        }
    }
}

impl Drop for MutualTls {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.shutdown_background();
        }
    }
}

fn acceptor() -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(CertificateDer::from_pem_file(pem("clients.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone()).build().unwrap();
    let certificate = CertificateDer::from_pem_file(pem("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(pem("localhost.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, socket: &Path) -> io::Result<()> {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut client) => {
            let mut engine = UnixStream::connect(socket).await?;
            copy_bidirectional(&mut client, &mut engine).await.map(drop)
        }
        Err((_, mut stream)) => {
            // Closed with something unread, it would take back what it has said.
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        }
    }
}
