//! A request by HTTP and its answer, nothing more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::{TestBroker, sas};

/// Far longer than any answer takes, so that a broker that hangs fails a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request, to be changed by the test that needs another one.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    host: String,
    token: Option<String>,
    body: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Ask {
    /// With a token of the well-known key for all there is.
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        let ask = Self {
            method,
            path: path.to_owned(),
            host: "localhost".to_owned(),
            token: None,
            body: String::new(),
        };
        ask.signed(DEV_RULE, DEV_KEY)
    }

    /// With a token of this rule.
    pub(crate) fn signed(self, rule: &str, key: &str) -> Self {
        let token = sas::token(&format!("http://{}/", self.host), rule, key, sas::now() + 3600);
        Self { token: Some(token), ..self }
    }

    /// Without a token.
    pub(crate) fn unsigned(self) -> Self {
        Self { token: None, ..self }
    }

    /// For a host. Comes before the signature, which is for it.
    pub(crate) fn at_host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    pub(crate) fn with_body(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }

    #[track_caller]
    pub(crate) fn send(&self, broker: &TestBroker) -> Answered {
        let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
        let Self { method, path, host, token, body } = self;
        let token = token.as_ref().map(|token| format!("Authorization: {token}\r\n"));
        let token = token.unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("the broker reads");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("an answer of text");
        let (head, body) = heard.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answered { status: status.expect("a status"), body: body.to_owned() }
    }
}
