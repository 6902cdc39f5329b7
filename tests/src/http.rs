//! A client of HTTP/1.1 that says what a test makes it say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::TestBroker;
use crate::broker::{DEV_KEY, DEV_RULE};
use crate::peer::PATIENCE;
use crate::sas;

/// When tokens end, in seconds since 1970: far enough for clocks that tests move forward.
const TOKEN_END: u64 = 4_500_000_000;

/// Headers of a request.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// A connection.
#[derive(Debug)]
pub struct HttpClient {
    stream: BufReader<TcpStream>,
    host: String,
    token: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl TestBroker {
    /// A connection whose requests have all rights.
    #[track_caller]
    pub fn http(&self) -> HttpClient {
        HttpClient::connect(self.address()).rule(DEV_RULE, DEV_KEY, "")
    }
}

impl HttpClient {
    /// Connects. Its requests have no token.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream: BufReader::new(stream), host: address.to_string(), token: None }
    }

    /// Signs a token with the key of a rule, for a path below the host.
    #[must_use]
    pub fn rule(self, rule: &str, key: &str, path: &str) -> Self {
        let resource = format!("https://{}/{path}", self.host);
        let token = sas::token(&resource, rule, key, TOKEN_END);
        Self { token: Some(token), ..self }
    }

    /// Goes on with another token, or with none.
    #[must_use]
    pub fn token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The token of its requests.
    #[track_caller]
    pub fn authorization(&self) -> &str {
        self.token.as_deref().expect("a token")
    }

    /// Closes its side of the connection.
    pub fn say_no_more(&self) {
        // The broker may have closed it already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
        body: &[u8],
    ) -> HttpAnswer {
        self.start(method, path, headers, body);
        self.answer()
    }

    /// Sends a request.
    #[track_caller]
    pub fn start(&mut self, method: &str, path: &str, headers: Headers<'_>, body: &[u8]) {
        let length = ("Content-Length", body.len().to_string());
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        let token = self.token.as_deref().map(|token| ("Authorization", token));
        let length = (length.0, length.1.as_str());
        for (name, value) in headers.iter().copied().chain([length]).chain(token) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        self.write(head.as_bytes());
        self.write(body);
    }

    /// Writes octets.
    #[track_caller]
    pub fn write(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).expect("the broker reads");
    }

    /// Writes octets to a broker that may have had enough.
    pub fn write_anyway(&mut self, octets: &[u8]) -> bool {
        self.stream.get_mut().write_all(octets).is_ok()
    }

    /// Reads an answer.
    #[track_caller]
    pub fn answer(&mut self) -> HttpAnswer {
        self.answer_or_end().expect("an answer")
    }

    /// Reads an answer, or the end of the connection.
    #[track_caller]
    pub fn answer_or_end(&mut self) -> Option<HttpAnswer> {
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = code.unwrap_or_else(|| panic!("no status in {status:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').expect("a header has a colon");
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) {
            return self.answer_or_end();
        }
        let mut answer = HttpAnswer { status, headers, body: Vec::new() };
        let length =
            answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body).expect("the whole body");
        Some(answer)
    }

    /// A line, without its end; none at the end of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

impl HttpAnswer {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Has this status, or shows what came instead.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "the status may be all that matters")]
    pub fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text} {:?}", self.headers);
        self
    }

    /// The path of the lock that the answer brought.
    #[track_caller]
    pub fn lock(&self) -> String {
        let location = self.header("location").expect("a location");
        let (_, rest) = location.split_once("://").expect("an address");
        let (_, path) = rest.split_once('/').expect("a path");
        format!("/{path}")
    }

    /// A member of the `BrokerProperties`, as JSON.
    #[track_caller]
    pub fn property(&self, name: &str) -> Option<&str> {
        let all = self.header("brokerproperties").expect("BrokerProperties");
        let (_, rest) = all.split_once(&format!("\"{name}\":"))?;
        let end = if rest.starts_with('"') {
            rest.get(1..)?.find('"')? + 2
        } else {
            rest.find([',', '}'])?
        };
        rest.get(..end)
    }
}
