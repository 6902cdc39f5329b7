//! TLS: the certificate of the broker, the authority of its clients, and taking new files while
//! connections go on.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use peeklock_core::Timestamp;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{
    NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier,
};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::auth;
use crate::config::TlsSettings;

/// How often the files are looked at. Whatever renews certificates does so days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is spoken inside, for clients that ask. HTTP/2 is not: a WebSocket needs HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"http/1.1", b"amqp"];

/// What new connections are greeted with.
pub(crate) struct Tls {
    settings: TlsSettings,
    current: RwLock<Current>,
}

struct Current {
    files: Files,
    config: Arc<ServerConfig>,
}

/// What the files hold, compared to see that they have changed.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(settings: TlsSettings) -> anyhow::Result<Self> {
        let files = Files::read(&settings)?;
        let config = files.config(&settings)?;
        Ok(Self { settings, current: RwLock::new(Current { files, config }) })
    }

    /// When the certificate ends; nothing if that cannot be read.
    pub(crate) fn valid_until(&self) -> Option<Timestamp> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let own = CertificateDer::pem_slice_iter(&current.files.certificate).next()?.ok()?;
        auth::valid_until(&own)
    }

    /// Greets a client. Fails also when it does not like our certificate.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&current.config)
        };
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Takes the files again if they have changed. What cannot be used leaves everything as it is;
    /// it is complained of once.
    fn reload(&self, bad: &mut Option<Files>) {
        let files = match Files::read(&self.settings) {
            Ok(files) => files,
            Err(error) => {
                // Also while files are being replaced, so it is no news the next time.
                if bad.is_none() {
                    warn!("the certificate stays as it is: {error:#}");
                    *bad = Some(Files::none());
                }
                return;
            }
        };
        let is_known = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current.files == files
        };
        if is_known {
            *bad = None;
        } else if bad.as_ref() != Some(&files) {
            match files.config(&self.settings) {
                Ok(config) => {
                    let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Current { files, config };
                    *bad = None;
                    info!("the certificate was replaced, for connections from now on");
                }
                Err(error) => {
                    warn!("the certificate stays as it is: {error:#}");
                    *bad = Some(files);
                }
            }
        }
    }
}

/// Takes new files when there are any, and at once on SIGHUP.
pub(crate) async fn watch(tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    let mut hangup: Option<Signal> = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            warn!(%error, "SIGHUP cannot be waited for, new certificates are found all the same");
            None
        }
    };
    let mut bad = None;
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = asked => info!("SIGHUP: the certificate is read again"),
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let tls = Arc::clone(&tls);
        let looked = tokio::task::spawn_blocking(move || {
            tls.reload(&mut bad);
            bad
        });
        bad = match looked.await {
            Ok(bad) => bad,
            Err(error) => {
                warn!(%error, "the certificate cannot be looked at any more");
                return;
            }
        };
    }
}

impl Files {
    fn none() -> Self {
        Self { certificate: Vec::new(), key: Vec::new(), client_ca: None }
    }

    fn read(settings: &TlsSettings) -> anyhow::Result<Self> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn config(&self, settings: &TlsSettings) -> anyhow::Result<Arc<ServerConfig>> {
        let chain = certificates(&self.certificate, &settings.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("no private key in {}", settings.key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match (&self.client_ca, &settings.client_ca) {
            (Some(pem), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(pem, path)? {
                    roots
                        .add(root)
                        .with_context(|| format!("no authority in {}", path.display()))?;
                }
                // Most clients have a token and no certificate.
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()
                    .context("the authority of clients cannot be used")?
            }
            _ => Arc::new(NoClientAuth),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .context("TLS 1.2 and 1.3 are not there")?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .with_context(|| {
                let (certificate, key) = (settings.certificate.display(), settings.key.display());
                format!("{certificate} and {key} do not make a certificate")
            })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8], path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{} is not PEM", path.display()))?;
    ensure!(!all.is_empty(), "no certificate in {}", path.display());
    Ok(all)
}
