//! A port beside the broker that speaks plain TCP on one side and TLS or a WebSocket on the other, so
//! that a [`Peer`] can come in by any door.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use futures_util::{SinkExt, StreamExt};
use peeklock_tests::Peer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    /// The host that it asks for.
    host: &'static str,
}

impl Tls {
    /// Trusts the authority of a folder.
    pub(crate) fn trusting(dir: &Path) -> Self {
        Self::of(dir, &[&version::TLS13, &version::TLS12], None)
    }

    /// With one version only.
    pub(crate) fn only(dir: &Path, version: &'static SupportedProtocolVersion) -> Self {
        Self::of(dir, &[version], None)
    }

    /// With a certificate of its own, from another folder perhaps.
    pub(crate) fn with_certificate(dir: &Path, own: &Path, name: &str) -> Self {
        Self::of(dir, &[&version::TLS13, &version::TLS12], Some((own, name)))
    }

    fn of(
        dir: &Path,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<(&Path, &str)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for root in certificates(&dir.join("ca.pem")) {
            roots.add(root).expect("an authority");
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions of TLS")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((own, name)) => {
                let key = own.join(format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                let chain = certificates(&own.join(format!("{name}.pem")));
                builder.with_client_auth_cert(chain, key).expect("a certificate and its key")
            }
        };
        Self { config, host: "localhost" }
    }

    /// Offers protocols to speak inside.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Asks for another host than localhost.
    pub(crate) fn at_host(self, host: &'static str) -> Self {
        Self { host, ..self }
    }

    pub(crate) async fn connect(
        self,
        address: SocketAddr,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(self.host).expect("a name");
        TlsConnector::from(Arc::new(self.config)).connect(name, stream).await
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_file_iter(path).expect("a file of PEM");
    all.collect::<Result<_, _>>().expect("certificates")
}

/// A peer whose bytes go through TLS.
#[track_caller]
pub(crate) fn over_tls(address: SocketAddr, tls: Tls) -> Peer {
    through(move |plain| async move {
        // A peer that is not let in sees its connection end.
        let Ok(mut secure) = tls.connect(address).await else { return };
        let mut plain = plain;
        let _ = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
    })
}

/// A peer whose bytes go through a WebSocket, inside TLS if it is given.
#[track_caller]
pub(crate) fn over_websocket(address: SocketAddr, tls: Option<Tls>) -> Peer {
    over_websocket_to("localhost", address, tls)
}

/// The same, asking for a host.
#[track_caller]
pub(crate) fn over_websocket_to(host: &'static str, address: SocketAddr, tls: Option<Tls>) -> Peer {
    through(move |plain| async move {
        match tls {
            Some(tls) => websocket(host, plain, tls.connect(address).await.expect("TLS")).await,
            None => websocket(host, plain, TcpStream::connect(address).await.expect("TCP")).await,
        }
    })
}

async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(host: &str, plain: TcpStream, mut outer: S) {
    let request = format!(
        "GET /$servicebus/websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: amqp\r\n\r\n"
    );
    outer.write_all(request.as_bytes()).await.expect("the broker reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(outer.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    let socket = WebSocketStream::from_raw_socket(outer, Role::Client, None).await;
    let (mut reader, mut writer) = plain.into_split();
    let (mut to_broker, mut from_broker) = socket.split();
    let out = async {
        let mut buffer = vec![0; 20_000];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            let bytes = buffer.get(..count).expect("what was read").to_vec();
            if to_broker.send(Message::binary(bytes)).await.is_err() {
                return;
            }
        }
        let _ = to_broker.close().await;
    };
    let back = async {
        while let Some(Ok(message)) = from_broker.next().await {
            if message.is_binary() && writer.write_all(&message.into_data()).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    tokio::join!(out, back);
}

/// A port for one connection, which is handed on.
#[track_caller]
fn through<F>(hand_on: impl FnOnce(TcpStream) -> F + Send + 'static) -> Peer
where
    F: Future<Output = ()>,
{
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a listener for tokio");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let (plain, _) = listener.accept().await.expect("the peer connects");
            plain.set_nodelay(true).expect("a socket");
            hand_on(plain).await;
        });
    });
    Peer::connect(address)
}
