//! One question to an issuer by HTTP, and its answer, bounded in time and size. Collectors of spans are
//! told what they are to know in the same way.
//!
//! No redirect is followed: what is asked is what the configuration, or the issuer's own document, names.
//! No answer is kept here. A client library would bring pools, proxies, cookies and redirects, which
//! would have to be switched off one by one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Request, StatusCode, request};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};
use tokio_util::task::AbortOnDropHandle;

use super::limits::{ANSWER_BYTES_MAX, ANSWER_WITHIN, HEAD_BYTES_MAX, HEADERS_MAX};
use super::url::Url;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("it could not be reached: {0}")]
    Io(#[from] io::Error),
    #[error("its name is no name of a server: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("what it says is no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("it wants us to look elsewhere ({0}), which is not done")]
    Redirect(StatusCode),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the answer broke off, or is larger than {ANSWER_BYTES_MAX} bytes")]
    Body,
    #[error("there was no whole answer within {} seconds", ANSWER_WITHIN.as_secs())]
    Late,
}

/// Gets what stands there.
pub(super) async fn get(url: &Url, tls: &Arc<ClientConfig>) -> Result<Bytes, FetchError> {
    let request = Request::get(&url.path).header(ACCEPT, "application/json");
    request_to(url, tls, request, Body::empty()).await
}

/// Brings JSON there.
pub(crate) async fn post(
    url: &Url,
    tls: &Arc<ClientConfig>,
    body: Bytes,
) -> Result<(), FetchError> {
    let request = Request::post(&url.path).header(CONTENT_TYPE, "application/json");
    request_to(url, tls, request, Body::from(body)).await.map(drop)
}

async fn request_to(
    url: &Url,
    tls: &Arc<ClientConfig>,
    request: request::Builder,
    body: Body,
) -> Result<Bytes, FetchError> {
    let request = request
        .header(HOST, &url.authority)
        .header(USER_AGENT, "peeklock")
        .body(body)
        .expect("the parts were taken from an address");
    let all = async {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        if url.is_secure {
            let name = ServerName::try_from(url.host.clone())?;
            let connector = TlsConnector::from(Arc::clone(tls));
            ask(request, connector.connect(name, stream).await?).await
        } else {
            ask(request, stream).await
        }
    };
    tokio::time::timeout(ANSWER_WITHIN, all).await.unwrap_or(Err(FetchError::Late))
}

async fn ask<S>(request: Request<Body>, stream: S) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // How it ends is heard by whoever waits for the answer.
    let _driven = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(FetchError::Redirect(status));
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
}

/// How issuers are asked by TLS. The file is read each time, as authorities are replaced too.
pub(crate) fn tls(ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("cannot read the authorities in {}", path.display()))?;
            ensure!(!certificates.is_empty(), "no certificate in {}", path.display());
            for certificate in certificates {
                roots
                    .add(certificate)
                    .with_context(|| format!("no authority in {}", path.display()))?;
            }
        }
        None => {
            // What the operating system has may be odd in parts. Without any, no issuer is trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .context("TLS 1.2 and 1.3 are not there")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
