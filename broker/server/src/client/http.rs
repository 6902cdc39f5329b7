//! Requests to the management API, one after the other over one connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::carrier::dial;
use super::failure::Failure;
use super::server::Server;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// Octets of an answer: a page of a hundred entities has some 300 KB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The version of the API that the newest SDKs ask for.
const API_VERSION: &str = "2021-05";

/// What stands in a path as it is.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'$');

/// A request.
#[derive(Debug, Default)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// As people write it.
    pub(super) path: &'a str,
    /// What the token is for, if not for the path.
    pub(super) audience: Option<&'a str>,
    /// What follows the version of the API.
    pub(super) query: &'a str,
    /// It changes what has to be there.
    pub(super) update: bool,
    pub(super) body: String,
    /// Where the entity is to forward to, each with the header for a token for that.
    pub(super) forwards_to: Vec<(&'static str, String)>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Response {
    /// What a refusal comes to, told in these words.
    pub(super) fn failure(&self, text: String) -> Failure {
        match self.status {
            StatusCode::NOT_FOUND => Failure::NotFound(text),
            status if status.is_client_error() => Failure::Refused(text),
            _ => Failure::Other(text),
        }
    }
}

/// See the module.
pub(super) struct HttpClient<'s> {
    server: &'s Server,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl<'s> HttpClient<'s> {
    pub(super) const fn new(server: &'s Server) -> Self {
        Self { server, connection: None }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, question: Question<'_>) -> Result<Response, Failure> {
        let asking = self.ask_now(question);
        let answered = tokio::time::timeout(ANSWER_WITHIN, asking).await;
        answered.map_err(|_elapsed| {
            let text = format!("{}: no answer within {ANSWER_WITHIN:?}", self.server.http);
            Failure::Unreachable(text)
        })?
    }

    async fn ask_now(&mut self, question: Question<'_>) -> Result<Response, Failure> {
        let Question { method, path, audience, query, update, body, forwards_to } = question;
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Unreachable(format!("{}: {error}", self.server.http))
        };
        let uri = format!("/{}?api-version={API_VERSION}{query}", utf8_percent_encode(path, PATH));
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, &self.server.http)
            .header(AUTHORIZATION, self.server.token("https", audience.unwrap_or(path)).1)
            .header(CONTENT_TYPE, "application/atom+xml");
        if update {
            request = request.header(IF_MATCH, "*");
        }
        // Whoever lets an entity forward has to be allowed to send where that goes.
        for (header, target) in forwards_to {
            request = request.header(header, self.server.token("https", &target).1);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| Failure::Argument(format!("{path:?} cannot be asked for")))?;
        // One that the broker has closed meanwhile is opened again.
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && connection.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(self.server).await?,
        };
        let response = connection.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        self.connection = Some(connection);
        Ok(Response { status, body })
    }
}

async fn connect(server: &Server) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = dial(server, &server.http).await?;
    let greeted = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) =
        greeted.map_err(|error| Failure::Unreachable(format!("{}: {error}", server.http)))?;
    // What goes wrong with it is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}
