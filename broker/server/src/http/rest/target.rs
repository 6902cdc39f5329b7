//! Which requests are for messages, and for which.

use axum::http::Method;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::id::LockToken;

use super::super::atom::paths::decode;
use crate::auth::Operation;

/// What a request wants of the messages of an entity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::http) struct Target {
    /// The entity, or the decoded path that cannot be one.
    pub(super) entity: Result<EntityPath, String>,
    /// What stands behind it in the request, decoded.
    pub(super) rest: String,
    pub(super) wish: Wish,
}

/// See [`Target`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Send,
    /// The next message, under a lock.
    PeekLock,
    /// The next message, for good.
    Take,
    Complete(LockToken),
    Unlock(LockToken),
    Renew(LockToken),
}

impl Wish {
    /// What it is to those who allow it.
    pub(super) const fn operation(self) -> Operation {
        match self {
            Wish::Send => Operation::SendMessages,
            Wish::PeekLock => Operation::PeekLock,
            Wish::Take => Operation::ReceiveAndDelete,
            Wish::Complete(_) => Operation::Complete,
            Wish::Unlock(_) => Operation::Unlock,
            Wish::Renew(_) => Operation::Renew,
        }
    }
}

impl Target {
    /// Takes the path of a request apart, from its end. None if it is not about messages: names of
    /// entities may have slashes, so what only looks similar may be one.
    pub(in crate::http) fn of(method: &Method, path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        if let Some(entity) = before(path, "/messages")
            && *method == Method::POST
        {
            return Some(Self::new(entity, path, Wish::Send));
        }
        if let Some(entity) = before(path, "/messages/head") {
            let wish = match *method {
                Method::POST => Wish::PeekLock,
                Method::DELETE => Wish::Take,
                _ => return None,
            };
            return Some(Self::new(entity, path, wish));
        }
        let (message, token) = path.rsplit_once('/')?;
        let token = parse_token(token)?;
        // Sequence numbers have no slashes, message ids may have some.
        let (entity, id) = message.rsplit_once('/')?;
        let entity = before(entity, "/messages").or_else(|| before_segment(message, "/messages/"));
        let entity = entity.filter(|_| !id.is_empty())?;
        let wish = match *method {
            Method::DELETE => Wish::Complete(token),
            Method::PUT => Wish::Unlock(token),
            Method::POST => Wish::Renew(token),
            _ => return None,
        };
        Some(Self::new(entity, path, wish))
    }

    fn new(entity: &str, path: &str, wish: Wish) -> Self {
        let decoded = |path: &str| decode(path).unwrap_or_default();
        let rest = path.get(entity.len()..).map(decoded).unwrap_or_default();
        let parsed = EntityPath::parse(entity).ok().filter(|address| !address.management);
        let entity = parsed.map(|address| address.path).ok_or_else(|| decoded(entity));
        Self { entity, rest, wish }
    }

    /// What rights are asked for: the path as the broker understands it, so that it cannot be one thing
    /// to whoever allows the request and another to whoever carries it out.
    pub(super) fn resource(&self) -> String {
        match &self.entity {
            Ok(entity) => format!("{entity}/{}", self.rest),
            Err(path) => path.clone(),
        }
    }
}

/// What stands before the end of a path, if that is this, in any case.
fn before<'a>(path: &'a str, end: &str) -> Option<&'a str> {
    let at = path.len().checked_sub(end.len())?;
    let (before, last) = path.split_at_checked(at)?;
    last.eq_ignore_ascii_case(end).then_some(before)
}

/// What stands before the last occurrence of something, in any case.
fn before_segment<'a>(path: &'a str, segment: &str) -> Option<&'a str> {
    let at = path.to_ascii_lowercase().rfind(segment)?;
    path.get(..at)
}

/// A lock token, as a uuid is written.
fn parse_token(text: &str) -> Option<LockToken> {
    let mut token = [0; 16];
    let groups = text.split('-').map(str::len);
    if !groups.eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let mut digits = text.chars().filter(|c| *c != '-').map(|c| c.to_digit(16));
    for octet in &mut token {
        let (high, low) = (digits.next()??, digits.next()??);
        *octet = u8::try_from(high << 4 | low).ok()?;
    }
    Some(LockToken(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547";

    fn token() -> LockToken {
        LockToken(0x7da9_cfd5_40d5_4bb1_8d64_ec5a_52e1_c547_u128.to_be_bytes())
    }

    #[track_caller]
    fn check(method: &Method, path: &str, entity: &str, wish: Wish) {
        let target = Target::of(method, path).unwrap();
        assert_eq!((target.entity.unwrap().to_string().as_str(), target.wish), (entity, wish));
    }

    #[test]
    fn paths_as_clients_write_them() {
        let (post, put, delete) = (&Method::POST, &Method::PUT, &Method::DELETE);
        check(post, "/q/messages", "q", Wish::Send);
        check(post, "/Q/Messages/", "Q", Wish::Send);
        check(post, "/a/b/messages", "a/b", Wish::Send);
        check(post, "/a%2Fb/messages", "a/b", Wish::Send);
        check(post, "/q/messages/head", "q", Wish::PeekLock);
        check(delete, "/q/Messages/Head", "q", Wish::Take);
        let dead = "q/$DeadLetterQueue";
        check(delete, "/q/$deadletterqueue/messages/head", dead, Wish::Take);
        check(delete, "/q/%24DeadLetterQueue/messages/head", dead, Wish::Take);
        let subscription = "t/subscriptions/s";
        check(post, "/t/subscriptions/s/messages/head", subscription, Wish::PeekLock);
        let lock = format!("/t/subscriptions/s/messages/7/{TOKEN}");
        check(delete, &lock, subscription, Wish::Complete(token()));
        check(put, &lock, subscription, Wish::Unlock(token()));
        check(post, &lock.to_uppercase(), "T/SUBSCRIPTIONS/S", Wish::Renew(token()));
        let id_with_slash = format!("/q/messages/a/b/{TOKEN}");
        check(delete, &id_with_slash, "q", Wish::Complete(token()));
        check(delete, &format!("/q/messages/a%2Fb/{TOKEN}"), "q", Wish::Complete(token()));
        check(post, "/messages/messages", "messages", Wish::Send);
    }

    #[test]
    fn other_paths_are_those_of_entities() {
        let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
        for (method, path) in [
            (&get, "/q/messages"),
            (&put, "/q/messages"),
            (&delete, "/q/messages"),
            (&get, "/q/messages/head"),
            (&put, "/q/messages/head"),
            (&post, "/messages"),
            (&post, "/q"),
            (&post, "/q/allmessages"),
            (&delete, "/q/messages/7"),
            (&delete, "/q/messages/7/8"),
            (&delete, "/q/messages/7/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c54"),
            (&delete, "/q/messages/7/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c54x"),
            (&delete, "/q/messages/7/7da9cfd540d5-4bb1-8d64-ec5a52e1-c547"),
            (&delete, "/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547"),
            (&post, "/"),
            (&post, ""),
        ] {
            // The path of nothing but messages is that of an entity without a name.
            let target = Target::of(method, path).filter(|target| target.entity.is_ok());
            assert_eq!(target, None, "{method} {path}");
        }
    }

    #[test]
    fn a_right_is_asked_for_by_what_is_done() {
        let resource = |path: &str| Target::of(&Method::POST, path).unwrap().resource();
        assert_eq!(resource("/q/messages"), "q/messages");
        assert_eq!(resource("//q//messages/head"), "q/messages/head");
        assert_eq!(resource("/a%2Fb/Messages"), "a/b/Messages");
        assert_eq!(resource("/x://mine/other/messages"), "x://mine/other/messages");
        assert_eq!(resource("/q/$management/messages"), "q/$management");
        assert_eq!(resource("/q%ff/messages"), "");
    }
}
