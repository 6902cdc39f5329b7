//! The door for AMQP over WebSockets (RFC 6455): looks at the handshake, answers it, and leaves the
//! connection to the task that serves AMQP.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::info;

use super::{HttpContext, HttpPeer};
use crate::auth::Authority;
use crate::config::AllowedOrigins;

/// JavaScript and Python say the first, .NET and Rust the second, and only the same word as an answer
/// will do for them.
const PROTOCOLS: [&str; 2] = ["AMQPWSB10", "amqp"];

/// The only version there is.
const VERSION: &str = "13";

/// Where it is. .NET and Rust end the path with a slash. Not all clients leave the dollar sign as it is.
const PATHS: [&str; 4] = [
    "/$servicebus/websocket",
    "/$servicebus/websocket/",
    "/%24servicebus/websocket",
    "/%24servicebus/websocket/",
];

/// Whether a path is one of these.
pub(super) fn is_asked(path: &str) -> bool {
    PATHS.contains(&path)
}

pub(super) fn router() -> Router<HttpContext> {
    PATHS.into_iter().fold(Router::new(), |routes, path| routes.route(path, get(upgrade)))
}

/// Why there will be no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(
        "This is the address of AMQP over WebSockets, and the request is no WebSocket handshake."
    )]
    NoHandshake,
    #[error("The version of a WebSocket is 13.")]
    Version,
    #[error("The key of the WebSocket is not 16 bytes in base64.")]
    Key,
    #[error("The subprotocol is AMQPWSB10 or amqp.")]
    Protocol,
    #[error("Scripts of this origin may not connect.")]
    Origin,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoHandshake | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Protocol => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        };
        let headers =
            [(UPGRADE, "websocket"), (CONNECTION, "upgrade"), (SEC_WEBSOCKET_VERSION, VERSION)];
        (status, headers, format!("{self}\n")).into_response()
    }
}

async fn upgrade(
    State(context): State<HttpContext>,
    Extension(peer): Extension<HttpPeer>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let agreed = agree(request.headers(), &context.origins, &context.settings.authority)
        .inspect_err(|refusal| info!(reason = %refusal, "a WebSocket is refused"))?;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.to_owned();
    peer.become_of(hyper::upgrade::on(&mut request), host);
    let mut answer = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, agreed.accept);
    if let Some(protocol) = agreed.protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(answer)
}

/// What the handshake comes to. Extensions are never agreed on, so none of them is looked at: a
/// compressed message could be a thousand times as large as what came over the wire.
struct Agreed {
    accept: HeaderValue,
    protocol: Option<&'static str>,
}

fn agree(
    headers: &HeaderMap,
    origins: &AllowedOrigins,
    authority: &Authority,
) -> Result<Agreed, Refusal> {
    let says = |name, word: &str| words(headers, name).any(|said| said.eq_ignore_ascii_case(word));
    if !says(&CONNECTION, "upgrade") || !says(&UPGRADE, "websocket") {
        return Err(Refusal::NoHandshake);
    }
    if !says(&SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(Refusal::Version);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?.as_bytes();
    if STANDARD.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(Refusal::Key);
    }
    if !may_come_from(headers, origins, authority) {
        return Err(Refusal::Origin);
    }
    let known = |offer: &str| PROTOCOLS.into_iter().find(|known| offer.eq_ignore_ascii_case(known));
    let mut offers = words(headers, &SEC_WEBSOCKET_PROTOCOL).peekable();
    let protocol = match offers.peek() {
        None => None,
        Some(_) => Some(offers.find_map(known).ok_or(Refusal::Protocol)?),
    };
    let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| Refusal::Key)?;
    Ok(Agreed { accept, protocol })
}

/// The words of a header that holds a list, over all its lines.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// Browsers say which page a script belongs to. Of a page elsewhere it may connect only if that is
/// configured; programs that are no browsers say nothing, or the address that they connect to
/// (websocket-client of Python).
fn may_come_from(headers: &HeaderMap, origins: &AllowedOrigins, authority: &Authority) -> bool {
    let mut said = headers.get_all(ORIGIN).into_iter();
    let (Some(origin), None) = (said.next(), said.next()) else {
        return !headers.contains_key(ORIGIN);
    };
    let Ok(origin) = origin.to_str() else { return false };
    if origins.allow(origin) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (Ok(page), Ok(here)) = (origin.parse::<Uri>(), host.parse::<Uri>()) else { return false };
    let default_port = match page.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return false,
    };
    let (Some(page), Some(here)) = (page.authority(), here.authority()) else { return false };
    let port = page.port_u16().unwrap_or(default_port);
    page.host().eq_ignore_ascii_case(here.host())
        && here.port_u16().map_or(matches!(port, 80 | 443), |here| here == port)
        && authority.is_home(&here.host().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const GOOD: [(&str, &str); 5] = [
        ("host", "broker.example:5671"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        KEY,
    ];

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        all.iter().map(pair).collect()
    }

    fn judge(all: &[(&'static str, &'static str)]) -> Result<Option<&'static str>, Refusal> {
        let authority = Authority::new(Vec::new(), Some(vec!["broker.example".to_owned()]), false);
        let origins = AllowedOrigins::new(["https://tool.example".to_owned()]);
        agree(&headers(all), &origins, &authority).map(|agreed| {
            assert_eq!(agreed.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of §1.3");
            agreed.protocol
        })
    }

    #[track_caller]
    fn check(
        more: &[(&'static str, &'static str)],
        expected: Result<Option<&'static str>, Refusal>,
    ) {
        assert_eq!(judge(&[&GOOD[..], more].concat()), expected, "{more:?}");
    }

    #[test]
    fn the_first_subprotocol_that_is_known_is_agreed_on() {
        check(&[], Ok(None));
        check(&[("sec-websocket-protocol", "AMQPWSB10")], Ok(Some("AMQPWSB10")));
        check(&[("sec-websocket-protocol", "amqp")], Ok(Some("amqp")));
        check(&[("sec-websocket-protocol", "mqtt, amqp, AMQPWSB10")], Ok(Some("amqp")));
        check(&[("sec-websocket-protocol", "mqtt")], Err(Refusal::Protocol));
    }

    #[test]
    fn a_handshake_must_be_one() {
        let without = |name: &str| {
            let rest: Vec<_> = GOOD.into_iter().filter(|(other, _)| *other != name).collect();
            judge(&rest)
        };
        assert_eq!(without("connection"), Err(Refusal::NoHandshake));
        assert_eq!(without("upgrade"), Err(Refusal::NoHandshake));
        assert_eq!(without("sec-websocket-version"), Err(Refusal::Version));
        assert_eq!(without("sec-websocket-key"), Err(Refusal::Key));
        let short = [&GOOD[..4], &[("sec-websocket-key", "c2hvcnQ=")]].concat();
        assert_eq!(judge(&short), Err(Refusal::Key));
    }

    #[test]
    fn scripts_of_other_pages_are_refused() {
        check(&[("origin", "https://broker.example:5671")], Ok(None));
        check(&[("origin", "http://Broker.Example:5671")], Ok(None));
        check(&[("origin", "https://tool.example")], Ok(None));
        for origin in [
            "https://evil.example",
            "https://broker.example:8080",
            "https://broker.example",
            "https://broker.example.evil.example",
            "https://tool.example.evil.example",
            "http://tool.example",
            "null",
            "",
        ] {
            check(&[("origin", origin)], Err(Refusal::Origin));
        }
        let twice = [("origin", "https://tool.example"), ("origin", "https://evil.example")];
        check(&twice, Err(Refusal::Origin));
    }

    /// A name that somebody else has pointed to this machine is not ours.
    #[test]
    fn a_page_of_a_foreign_name_for_this_machine_is_refused() {
        let foreign = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(judge(&[&GOOD[1..], &foreign].concat()), Err(Refusal::Origin));
    }
}
