//! `peeklock healthcheck`: a client that connects, is let in, exchanges `open` and leaves. That the
//! port accepts would not be enough: the kernel does that for a broker that hangs.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::frame::{FrameError, FrameHeader, FrameKind, ProtocolHeader, write_frame};
use peeklock_protocol::performative::{Close, Open, Performative};
use peeklock_protocol::sasl::{SaslCode, SaslFrame};
use peeklock_protocol::value::{Str, Symbol};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::server::trusting;

/// The largest frame we take: an `open` or a `close` with a long text is far below.
const FRAME_SIZE_MAX: u32 = 64 * 1024;

/// Why the broker is taken to be unwell.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// The address is none.
    #[error("{0} is not an address that can be reached")]
    Address(String),
    /// The authorities to trust cannot be read.
    #[error("{0}")]
    Authority(String),
    /// Nobody there, or no answer in time; with TLS also a certificate that does not hold.
    #[error("no answer: {0}")]
    Io(#[from] io::Error),
    /// Whoever answered does not speak AMQP.
    #[error("the answer is no AMQP frame: {0}")]
    Frame(#[from] FrameError),
    /// The same.
    #[error("the answer cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// It speaks, but something else was its turn.
    #[error("the answer is not the {0} that was expected")]
    Unexpected(&'static str),
    /// It closes the door.
    #[error("the broker refuses: {0}")]
    Refused(String),
}

/// With which authorities TLS is spoken: those of a file, or of this machine.
pub fn authorities(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Unhealthy> {
    trusting(ca).map_err(|error| Unhealthy::Authority(error.to_string()))
}

/// Checks the broker at `HOST:PORT`, with TLS or without, within a time for everything.
pub fn check(
    address: &str,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<(), Unhealthy> {
    let deadline = Instant::now() + timeout;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let socket = Timed { socket: connect(address, deadline)?, deadline };
    let Some(tls) = tls else { return visit(&mut Client { socket }, host) };
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|_| Unhealthy::Address(address.to_owned()))?;
    let session = ClientConnection::new(tls, name).map_err(io::Error::other)?;
    visit(&mut Client { socket: StreamOwned::new(session, socket) }, host)
}

/// Comes in, and leaves.
fn visit<S: Read + Write>(client: &mut Client<S>, host: &str) -> Result<(), Unhealthy> {
    client.start(ProtocolHeader::Sasl)?;
    match SaslFrame::decode(&client.frame(FrameKind::Sasl)?)? {
        SaslFrame::Mechanisms(_) => {}
        _ => return Err(Unhealthy::Unexpected("list of mechanisms")),
    }
    client.send(FrameKind::Sasl, |out| {
        let init = SaslFrame::Init {
            mechanism: Symbol::from_static("ANONYMOUS"),
            initial_response: Some(Bytes::new()),
            hostname: Some(Str::from(host)),
        };
        init.encode(out);
    })?;
    match SaslFrame::decode(&client.frame(FrameKind::Sasl)?)? {
        SaslFrame::Outcome { code: SaslCode::Ok, .. } => {}
        SaslFrame::Outcome { code, .. } => {
            return Err(Unhealthy::Refused(format!("the SASL outcome is {code:?}")));
        }
        _ => return Err(Unhealthy::Unexpected("SASL outcome")),
    }
    client.start(ProtocolHeader::Amqp)?;
    client.send(FrameKind::Amqp, |out| {
        let open = Open {
            container_id: Str::from_static("peeklock-healthcheck"),
            hostname: Some(Str::from(host)),
            max_frame_size: Some(FRAME_SIZE_MAX),
            ..Open::default()
        };
        Performative::Open(Box::new(open)).encode(out);
    })?;
    match client.performative()? {
        Performative::Open(_) => {}
        _ => return Err(Unhealthy::Unexpected("open")),
    }
    client.send(FrameKind::Amqp, |out| Performative::Close(Close { error: None }).encode(out))?;
    match client.performative()? {
        Performative::Close(Close { error: None }) => Ok(()),
        Performative::Close(Close { error: Some(error) }) => {
            let text = error.description.as_deref().unwrap_or_default();
            Err(Unhealthy::Refused(format!("{} {text}", error.condition)))
        }
        _ => Err(Unhealthy::Unexpected("close")),
    }
}

/// Tries each address that the name stands for.
fn connect(address: &str, deadline: Instant) -> Result<TcpStream, Unhealthy> {
    let unknown = || Unhealthy::Address(address.to_owned());
    let mut last = unknown();
    for address in address.to_socket_addrs().map_err(|_| unknown())? {
        match TcpStream::connect_timeout(&address, remaining(deadline)?) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    Ok(remaining)
}

/// A socket that fails at the deadline: each piece may take what is left of the time.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(remaining(self.deadline)?))?;
        self.socket.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(remaining(self.deadline)?))?;
        self.socket.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

struct Client<S> {
    socket: S,
}

impl<S: Read + Write> Client<S> {
    /// Says which protocol comes next, and wants to hear the same.
    fn start(&mut self, header: ProtocolHeader) -> Result<(), Unhealthy> {
        let ours = header.to_octets();
        self.write(&ours)?;
        let mut theirs = [0; ProtocolHeader::LEN];
        self.read(&mut theirs)?;
        if theirs == ours { Ok(()) } else { Err(Unhealthy::Unexpected("protocol header")) }
    }

    fn send(
        &mut self,
        kind: FrameKind,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Unhealthy> {
        let mut frame = BytesMut::new();
        write_frame(&mut frame, kind, 0, write);
        Ok(self.write(&frame)?)
    }

    fn performative(&mut self) -> Result<Performative, Unhealthy> {
        let body = self.frame(FrameKind::Amqp)?;
        Ok(Performative::decode(&body)?.0)
    }

    /// The body of the next frame that has one.
    fn frame(&mut self, kind: FrameKind) -> Result<Bytes, Unhealthy> {
        loop {
            let mut octets = [0; FrameHeader::LEN];
            self.read(&mut octets)?;
            let header = FrameHeader::parse(&octets, FRAME_SIZE_MAX)?;
            if header.kind != kind {
                return Err(Unhealthy::Unexpected("kind of frame"));
            }
            let rest = usize::try_from(header.size).unwrap_or(0).saturating_sub(FrameHeader::LEN);
            let mut body = vec![0; rest];
            self.read(&mut body)?;
            let body = Bytes::from(body);
            let start = header.body_offset().saturating_sub(FrameHeader::LEN);
            if start < body.len() {
                return Ok(body.slice(start..));
            }
        }
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.socket.write_all(octets)?;
        // TLS may keep some of it.
        self.socket.flush()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.socket.read_exact(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use peeklock_protocol::condition::ErrorInfo;
    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::crypto::ring;

    use super::*;

    fn frame(kind: FrameKind, write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write_frame(&mut out, kind, 0, write);
        out
    }

    fn sasl(frame_body: &SaslFrame) -> BytesMut {
        frame(FrameKind::Sasl, |out| frame_body.encode(out))
    }

    fn amqp(performative: &Performative) -> BytesMut {
        frame(FrameKind::Amqp, |out| performative.encode(out))
    }

    fn welcome() -> Vec<BytesMut> {
        let mechanisms = SaslFrame::Mechanisms(vec![Symbol::from_static("ANONYMOUS")]);
        let outcome = SaslFrame::Outcome { code: SaslCode::Ok, additional_data: None };
        vec![
            BytesMut::from(&ProtocolHeader::Sasl.to_octets()[..]),
            sasl(&mechanisms),
            sasl(&outcome),
            BytesMut::from(&ProtocolHeader::Amqp.to_octets()[..]),
            // A heartbeat may come at any time.
            frame(FrameKind::Amqp, |_| {}),
            amqp(&Performative::Open(Box::default())),
        ]
    }

    /// Talks to a server that says `script`, whatever it hears, and waits for the end.
    fn check_against(script: &[BytesMut]) -> Result<(), Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = script.concat();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&script).unwrap();
            // The client may have heard enough and be gone with a reset: then there is no end to send.
            let _ = socket.shutdown(std::net::Shutdown::Write);
            // Reads to the end, so that the client is never cut off by a reset.
            let _ = io::copy(&mut socket, &mut io::sink());
        });
        let result = check(&address, None, Duration::from_secs(30));
        server.join().unwrap();
        result
    }

    #[test]
    fn a_broker_that_opens_and_closes_is_well() {
        let mut script = welcome();
        script.push(amqp(&Performative::Close(Close { error: None })));
        assert!(check_against(&script).is_ok());
    }

    #[test]
    fn a_broker_that_closes_with_an_error_is_not() {
        let mut script = welcome();
        let error = ErrorInfo::new("amqp:connection:forced", "going down");
        script.push(amqp(&Performative::Close(Close { error: Some(error) })));
        let unhealthy = check_against(&script).unwrap_err();
        assert_eq!(unhealthy.to_string(), "the broker refuses: amqp:connection:forced going down");
    }

    #[test]
    fn a_broker_that_lets_nobody_in_is_not() {
        let mut script = welcome();
        let outcome = SaslFrame::Outcome { code: SaslCode::SysTemp, additional_data: None };
        script[2] = sasl(&outcome);
        assert!(matches!(check_against(&script), Err(Unhealthy::Refused(_))));
    }

    #[test]
    fn a_broker_that_stops_talking_is_not() {
        let script = welcome();
        for length in 0..script.len() {
            let unhealthy = check_against(&script[..length]).unwrap_err();
            assert!(matches!(unhealthy, Unhealthy::Io(_)), "{length}: {unhealthy}");
        }
    }

    #[test]
    fn other_servers_are_not() {
        let http = BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]);
        assert!(matches!(check_against(&[http]), Err(Unhealthy::Unexpected(_))));
        let mut script = welcome();
        script[1] = BytesMut::from(&b"\xff\xff\xff\xff\x02\x01\x00\x00"[..]);
        assert!(matches!(check_against(&script), Err(Unhealthy::Frame(_))));
    }

    /// Whoever speaks no TLS is not the broker that was asked for.
    #[test]
    fn a_broker_without_tls_is_not_one_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&welcome().concat()).unwrap();
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = io::copy(&mut socket, &mut io::sink());
        });
        let roots = RootCertStore::empty();
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let checked = check(&address, Some(Arc::new(tls)), Duration::from_secs(30));
        assert!(matches!(checked, Err(Unhealthy::Io(_))), "{checked:?}");
        server.join().unwrap();
        let nothing = authorities(Some(Path::new("no such file"))).unwrap_err();
        assert!(nothing.to_string().contains("no such file"), "{nothing}");
    }

    #[test]
    fn nobody_there() {
        // Bound and closed again: nothing listens at this port now.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = check(&address.to_string(), None, Duration::from_secs(30));
        assert!(matches!(refused, Err(Unhealthy::Io(_))));
        let nowhere = check("no port", None, Duration::from_secs(30));
        assert!(matches!(nowhere, Err(Unhealthy::Address(_))));
    }
}
