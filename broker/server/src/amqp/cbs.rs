//! `$cbs`: put-token requests and their answers. Every request gets one, however malformed.

use std::borrow::Cow;

use peeklock_core::time::Timestamp;
use peeklock_protocol::condition;
use peeklock_protocol::message::{Body, Message, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use tracing::{debug, info};

use crate::auth::{self, Authority, Claims, Grant, ResourcePath, TokenError};
use crate::metrics::{AuthenticationFailure, Metrics};

/// The answer to a request, and why it is no good one, if whoever asked is to blame.
#[derive(Debug)]
pub(crate) struct Answered {
    /// For the peer.
    pub(crate) message: Message,
    /// For the audit log.
    pub(crate) denied: Option<String>,
}

/// Answers a request, and adds to the claims what its token grants. The caller looks at the open links
/// afterwards: a token can grant less than the one it replaces.
pub(crate) fn answer(
    request: &Message,
    authority: &Authority,
    now: Timestamp,
    claims: &mut Claims,
    metrics: &Metrics,
) -> Answered {
    let outcome = put_token(request, authority, now, claims);
    match &outcome {
        Ok(audience) => debug!(%audience, "token accepted"),
        Err(Failure { status, text, why, .. }) => {
            if let Some(why) = *why {
                metrics.authentication_failed(why);
            }
            info!(status, reason = %text, "token refused");
        }
    }
    let is_blamed = |failure: &&Failure| failure.condition != condition::SERVER_BUSY;
    let denied = outcome.as_ref().err().filter(is_blamed).map(|failure| failure.text.clone());
    Answered { message: response(request, outcome), denied }
}

struct Failure {
    status: i32,
    condition: &'static str,
    text: String,
    /// What is wrong with the token, if that is it.
    why: Option<AuthenticationFailure>,
}

impl Failure {
    fn malformed(text: &str) -> Self {
        let why = Some(AuthenticationFailure::TokenMalformed);
        Self { status: 400, condition: condition::ARGUMENT_ERROR, text: text.to_owned(), why }
    }

    fn unauthorized(text: String, why: AuthenticationFailure) -> Self {
        Self { status: 401, condition: condition::UNAUTHORIZED_ACCESS, text, why: Some(why) }
    }
}

fn put_token(
    request: &Message,
    authority: &Authority,
    now: Timestamp,
    claims: &mut Claims,
) -> Result<String, Failure> {
    let text = |key| request.application_property(key).and_then(Value::as_str);
    match text("operation") {
        Some(operation) if operation.eq_ignore_ascii_case("put-token") => {}
        _ => return Err(Failure::malformed("The operation must be 'put-token'.")),
    }
    let audience = text("name").ok_or_else(|| Failure::malformed("The audience is missing."))?;
    let token = token(&request.body).ok_or_else(|| {
        Failure::malformed("MalformedToken: The body is not the text of a token.")
    })?;
    // Its text says what a token is, and nothing else does: the Python SDK calls the SAS tokens that
    // it makes from a connection string "jwt", and others leave the type out.
    let (audience, grants) = verify(&token, audience, authority, now)?;
    let (covered, is_worthless) = (audience.to_string(), grants.is_empty());
    claims.grant_all(audience, grants, now).map_err(|error| Failure {
        status: 403,
        condition: condition::RESOURCE_LIMIT_EXCEEDED,
        text: error.to_string(),
        why: None,
    })?;
    if is_worthless {
        // It has taken away what an older one granted all the same.
        let text = "InvalidToken: No role in the token is of any use here.";
        let why = AuthenticationFailure::TokenWithoutRole;
        return Err(Failure::unauthorized(text.to_owned(), why));
    }
    Ok(covered)
}

/// The token that a request shows, and what for.
pub(super) fn shown(request: &Message) -> Option<(Cow<'_, str>, &str)> {
    let audience = request.application_property("name").and_then(Value::as_str)?;
    Some((token(&request.body)?, audience))
}

/// What a token grants, and for which audience it was shown.
fn verify(
    token: &str,
    audience: &str,
    authority: &Authority,
    now: Timestamp,
) -> Result<(ResourcePath, Vec<Grant>), Failure> {
    let verified = if auth::is_jwt(token) {
        authority.verify_jwt(token, audience, now)
    } else {
        let granted = authority.verify(token, audience, now);
        granted.map(|grant| (grant.audience.clone(), vec![grant]))
    };
    verified.map_err(|error| match error {
        TokenError::Malformed(_) => Failure::malformed(&error.to_string()),
        // Clients try again when they are told this.
        TokenError::KeysMissing => Failure {
            status: 503,
            condition: condition::SERVER_BUSY,
            text: error.to_string(),
            why: Some(error.into()),
        },
        TokenError::Signature
        | TokenError::Audience
        | TokenError::NoIssuers
        | TokenError::Issuer
        | TokenError::NotYetValid
        | TokenError::Expired => Failure::unauthorized(error.to_string(), error.into()),
    })
}

/// The token's text: a string value from every SDK, octets from hand-written clients.
fn token(body: &Body) -> Option<Cow<'_, str>> {
    match body {
        Body::Value(value) => value.as_str().map(Cow::Borrowed),
        Body::Data(parts) => match parts.as_slice() {
            [part] => std::str::from_utf8(part).ok().map(Cow::Borrowed),
            parts => String::from_utf8(parts.concat()).ok().map(Cow::Owned),
        },
        Body::Empty | Body::Sequence(_) => None,
    }
}

/// 202 and no other number is success: Rust clients compare. No error-condition then: Python takes
/// its presence for a failure.
fn response(request: &Message, outcome: Result<String, Failure>) -> Message {
    let status = |code: i32, text: &str| {
        Map::new().with("status-code", code).with("status-description", text)
    };
    let properties = match outcome {
        Ok(_) => status(202, "Accepted"),
        Err(failure) => status(failure.status, &failure.text)
            .with("error-condition", Symbol::from_static(failure.condition)),
    };
    Message::value(Value::Null)
        .with_properties(reply_properties(request))
        .with_application_properties(properties)
}

/// What ties a response to its request: the message-id as it was, type and all.
pub(super) fn reply_properties(request: &Message) -> Properties {
    let asked = request.properties.as_ref();
    Properties {
        to: asked.and_then(|asked| asked.reply_to.clone()),
        correlation_id: asked.and_then(|asked| asked.message_id.clone()),
        ..Properties::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peeklock_core::entity::path::EntityPath;
    use peeklock_protocol::message::MessageId;

    use super::*;
    use crate::auth::{Action, authorize};
    use crate::config::MetricsSettings;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    /// Computed with Python's `hmac`; ends in 2030.
    const TOKEN: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&\
        sig=AcsLFPvYmMHJ1V8fv8kh19uR7GtcEi7a8p1%2FDwjsbrk%3D&se=1893456000&\
        skn=RootManageSharedAccessKey";
    const AUDIENCE: &str = "amqps://localhost:5671/orders";

    fn request(entries: &[(&str, Value)], body: Body) -> Message {
        let map = entries.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
        Message { body, ..Message::default() }.with_application_properties(map).with_properties(
            Properties {
                message_id: Some(MessageId::Ulong(7)),
                reply_to: Some("here".into()),
                ..Properties::default()
            },
        )
    }

    fn put_token_request(kind: &'static str) -> Message {
        let entries = [
            ("operation", "put-token".into()),
            ("type", kind.into()),
            ("name", AUDIENCE.into()),
            ("expiration", Value::Null),
        ];
        request(&entries, Body::Value(TOKEN.into()))
    }

    fn dev() -> Authority {
        Authority::new(Vec::new(), None, true)
    }

    /// The response, as it comes back from the wire, and whether the claims now allow sending.
    fn exchange(request: &Message, authority: &Authority) -> (Message, bool) {
        let mut claims = Claims::default();
        let metrics = Metrics::new(MetricsSettings::default());
        let Answered { message: response, denied } =
            answer(request, authority, NOW, &mut claims, &metrics);
        let status = response.application_property("status-code").and_then(Value::as_i64);
        assert_eq!(denied.is_some(), status != Some(202), "{denied:?}");
        let orders = EntityPath::parse("orders").unwrap().path;
        let allowed = authorize(&claims, Action::Send, &orders, NOW).is_ok();
        (Message::decode(&response.to_bytes()).unwrap(), allowed)
    }

    #[track_caller]
    fn check(request: &Message, status: i32, text: &str) {
        let (response, allowed) = exchange(request, &dev());
        assert_eq!(response.application_property("status-code"), Some(&Value::Int(status)));
        let description = response.application_property("status-description").unwrap();
        assert!(description.as_str().unwrap().starts_with(text), "{description:?}");
        assert_eq!(allowed, status == 202);
        let condition = response.application_property("error-condition");
        assert_eq!(condition.is_some(), status != 202, "{condition:?}");
        assert_eq!(response.body, Body::Value(Value::Null));
    }

    #[test]
    fn a_good_token_is_answered_with_202_and_no_condition() {
        check(&put_token_request("servicebus.windows.net:sastoken"), 202, "Accepted");
        check(&put_token_request("amqp:swt"), 202, "Accepted");
        // What the Python SDK says of its SAS tokens.
        check(&put_token_request("jwt"), 202, "Accepted");
    }

    #[test]
    fn text_may_be_a_symbol_or_octets() {
        let entries = [
            ("operation", Symbol::from_static("put-token").into()),
            ("name", Bytes::from_static(AUDIENCE.as_bytes()).into()),
        ];
        let octets = Bytes::from_static(TOKEN.as_bytes());
        check(&request(&entries, Body::Value(octets.clone().into())), 202, "Accepted");
        check(&request(&entries, Body::Data(vec![octets.clone()])), 202, "Accepted");
        let halves = vec![octets.slice(..40), octets.slice(40..)];
        check(&request(&entries, Body::Data(halves)), 202, "Accepted");
    }

    #[test]
    fn the_message_id_comes_back_as_it_was() {
        for id in [
            MessageId::Ulong(u64::MAX),
            MessageId::Uuid([7; 16]),
            MessageId::String("x".into()),
            MessageId::Binary(Bytes::from_static(b"x")),
        ] {
            let mut request = put_token_request("amqp:swt");
            let properties = Properties { message_id: Some(id.clone()), ..Properties::default() };
            request.properties = Some(properties);
            let (response, _) = exchange(&request, &dev());
            let properties = response.properties.unwrap();
            assert_eq!(properties.correlation_id, Some(id));
            assert_eq!(properties.to, None);
        }
        let (response, _) = exchange(&put_token_request("amqp:swt"), &dev());
        assert_eq!(response.properties.unwrap().to, Some("here".into()));
    }

    #[test]
    fn bad_tokens_say_what_is_wrong() {
        let mut jwt = put_token_request("servicebus.windows.net:sastoken");
        jwt.body = Body::Value("eyJhbGciOiJub25lIn0.e30.c2ln".into());
        check(&jwt, 401, "InvalidToken");
        let mut other = put_token_request("amqp:swt");
        other.application_properties.as_mut().unwrap().insert("name", "sb://localhost/other");
        check(&other, 401, "InvalidAudience");
        let mut forged = put_token_request("amqp:swt");
        forged.body = Body::Value(TOKEN.replace("AcsL", "BcsL").into());
        check(&forged, 401, "InvalidSignature");
        let mut broken = put_token_request("amqp:swt");
        broken.body = Body::Value("nonsense".into());
        check(&broken, 400, "MalformedToken");
        let (_, allowed) =
            exchange(&put_token_request("amqp:swt"), &Authority::new(Vec::new(), None, false));
        assert!(!allowed, "no default credential");
    }

    #[test]
    fn malformed_requests_are_answered() {
        check(&Message::default(), 400, "The operation");
        check(&request(&[("operation", "delete-token".into())], Body::Empty), 400, "The operation");
        check(&request(&[("operation", 5_i32.into())], Body::Empty), 400, "The operation");
        let operation = ("operation", Value::from("put-token"));
        check(
            &request(std::slice::from_ref(&operation), Body::Value(TOKEN.into())),
            400,
            "The audience",
        );
        let entries = [operation, ("name", AUDIENCE.into())];
        for body in [
            Body::Empty,
            Body::Value(Value::Null),
            Body::Value(5_i32.into()),
            Body::Data(vec![Bytes::from_static(b"\xff")]),
            Body::Sequence(Vec::new()),
        ] {
            check(&request(&entries, body), 400, "MalformedToken");
        }
    }
}
