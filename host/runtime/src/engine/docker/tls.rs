//! Mutual TLS: an engine proves who it is to the authority the policy names, and to no other, however many this machine
//! trusts; and so do we to it. Bollard's own takes whom the machine trusts as well, and panics in a program that has two
//! implementations of cryptography.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bollard::BollardRequest;
use bollard::errors::Error;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::outbound::dial_for_operator;

/// Where an engine is, and how both sides prove who they are.
pub struct Tls {
    at: Authority,
    port: u16,
    host: HeaderValue,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Tls {
    /// Reads the files, which are PEM. What is wrong with one is told with its path.
    pub fn read(address: &str, key: &Path, certificate: &Path, authority: &Path) -> Result<Tls, String> {
        let bad = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
        let ours = certificates(certificate).map_err(|error| bad(certificate, &error))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(authority).map_err(|error| bad(authority, &error))? {
            roots.add(root).map_err(|error| bad(authority, &error))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(ours, private)
            .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))?;
        let nowhere = || format!("`{address}` is not HOST:PORT");
        let at = crate::policy::tls_address(address).ok_or_else(nowhere)?;
        let name = at.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Tls {
            port: at.port_u16().ok_or_else(nowhere)?,
            host: HeaderValue::from_str(at.as_str()).map_err(|_| nowhere())?,
            name: ServerName::try_from(name).map_err(|_| nowhere())?,
            connector: TlsConnector::from(Arc::new(config)),
            at,
        })
    }

    /// What bollard's requests are made to; they go to [`Tls::send`].
    pub fn url(&self) -> String {
        format!("https://{}", self.at)
    }

    /// One request over a connection of its own, which may become a stream of both directions and ends with the answer.
    pub async fn send(&self, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let stream = dial_for_operator(self.at.host(), self.port).await?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // What goes wrong is told to whoever reads the answer.
            let _ = connection.with_upgrades().await;
        });
        if let Some(path) = request.uri().path_and_query() {
            *request.uri_mut() = Uri::from(path.clone());
        }
        request.headers_mut().insert(HOST, self.host.clone());
        Ok(sender.send_request(request).await?)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// What one side did not believe of the other, with the key of the policy that says otherwise.
pub fn disbelief(error: &Error) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = match error {
        Error::IOError { err } => Some(err),
        Error::HyperResponseError { err } => Some(err),
        _ => None,
    };
    while let Some(error) = cause {
        // A cause in an I/O error is not among its sources.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => {
                return Some(format!("does not take our `certificate`: it answers {alert:?}"));
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                return Some(format!("is not, by this `address`, whom `authority` vouches for: {why}"));
            }
            Some(other) => return Some(format!("does not agree on TLS: {other}")),
            None => cause = error.source(),
        }
    }
    None
}
