//! §5.3: the frames of the SASL layer, and what the PLAIN mechanism puts into one. Who sends which
//! when is the engine's business.

use std::str;

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Composite, DecodeError, Reader, Wire, composite, put_ubyte, read_descriptor, read_ubyte,
};
use crate::value::{Str, Symbol};

/// The body of a SASL frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslFrame {
    /// §5.3.3.1: what the server offers.
    Mechanisms(Vec<Symbol>),
    /// §5.3.3.2: what the client chose.
    Init {
        /// The mechanism.
        mechanism: Symbol,
        /// Its first message; empty and missing are different things.
        initial_response: Option<Bytes>,
        /// The host the client wants to reach.
        hostname: Option<Str>,
    },
    /// §5.3.3.3.
    Challenge(Bytes),
    /// §5.3.3.4.
    Response(Bytes),
    /// §5.3.3.5: how it ended.
    Outcome {
        /// Whether it succeeded.
        code: SaslCode,
        /// What the mechanism adds to success.
        additional_data: Option<Bytes>,
    },
}

/// §5.3.3.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslCode {
    /// The client is who it says.
    Ok,
    /// It is not, or the credentials are wrong.
    Auth,
    /// A system error.
    Sys,
    /// A system error that needs intervention.
    SysPerm,
    /// A system error that may pass.
    SysTemp,
}

impl Wire for SaslCode {
    const TYPE: &'static str = "ubyte";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match read_ubyte(r)? {
            0 => Ok(Self::Ok),
            1 => Ok(Self::Auth),
            2 => Ok(Self::Sys),
            3 => Ok(Self::SysPerm),
            4 => Ok(Self::SysTemp),
            _ => Err(DecodeError::InvalidField { field: "sasl-code" }),
        }
    }
    fn write(&self, out: &mut BytesMut) {
        let number = match self {
            Self::Ok => 0,
            Self::Auth => 1,
            Self::Sys => 2,
            Self::SysPerm => 3,
            Self::SysTemp => 4,
        };
        put_ubyte(out, number);
    }
}

composite! {
    struct Mechanisms = "amqp:sasl-mechanisms:list" 0x40 {
        mechanisms: Vec<Symbol> = "sasl-server-mechanisms",
    }
}
composite! {
    struct Init = "amqp:sasl-init:list" 0x41 {
        mechanism: Symbol = "mechanism",
        initial_response: Option<Bytes> = "initial-response",
        hostname: Option<Str> = "hostname",
    }
}
composite! {
    struct Challenge = "amqp:sasl-challenge:list" 0x42 {
        challenge: Bytes = "challenge",
    }
}
composite! {
    struct Response = "amqp:sasl-response:list" 0x43 {
        response: Bytes = "response",
    }
}
composite! {
    struct Outcome = "amqp:sasl-outcome:list" 0x44 {
        code: SaslCode = "code",
        additional_data: Option<Bytes> = "additional-data",
    }
}

/// What the codec takes each SASL frame to look like.
pub(crate) const SPECS: &[crate::codec::CompositeSpec] =
    &[Mechanisms::SPEC, Init::SPEC, Challenge::SPEC, Response::SPEC, Outcome::SPEC];

impl SaslFrame {
    /// Reads the body of a SASL frame, which holds this and nothing else.
    pub fn decode(body: &Bytes) -> Result<Self, DecodeError> {
        let wanted = "sasl-frame";
        let mut r = Reader::new(body);
        let frame = match read_descriptor(&mut r, wanted)? {
            Some(0x40) => Self::Mechanisms(Mechanisms::read_list(&mut r)?.mechanisms),
            Some(0x41) => {
                let Init { mechanism, initial_response, hostname } = Init::read_list(&mut r)?;
                Self::Init { mechanism, initial_response, hostname }
            }
            Some(0x42) => Self::Challenge(Challenge::read_list(&mut r)?.challenge),
            Some(0x43) => Self::Response(Response::read_list(&mut r)?.response),
            Some(0x44) => {
                let Outcome { code, additional_data } = Outcome::read_list(&mut r)?;
                Self::Outcome { code, additional_data }
            }
            Some(code) => return Err(DecodeError::UnexpectedDescriptor { wanted, code }),
            None => return Err(DecodeError::UnknownDescriptor { wanted }),
        };
        r.expect_end()?;
        Ok(frame)
    }

    /// Appends descriptor and list.
    pub fn encode(&self, out: &mut BytesMut) {
        match self.clone() {
            Self::Mechanisms(mechanisms) => Mechanisms { mechanisms }.write_described(out),
            Self::Init { mechanism, initial_response, hostname } => {
                Init { mechanism, initial_response, hostname }.write_described(out);
            }
            Self::Challenge(challenge) => Challenge { challenge }.write_described(out),
            Self::Response(response) => Response { response }.write_described(out),
            Self::Outcome { code, additional_data } => {
                Outcome { code, additional_data }.write_described(out);
            }
        }
    }
}

/// What a PLAIN client sends (RFC 4616).
#[derive(Clone, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Whom to act for; mostly empty.
    pub authzid: &'a str,
    /// Who it is.
    pub user: &'a str,
    /// The proof.
    pub password: &'a str,
}

/// The password stays out of logs.
impl std::fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain")
            .field("authzid", &self.authzid)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The response is not `authzid NUL user NUL password` in UTF-8 with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PLAIN response")]
pub struct PlainError;

/// Takes a PLAIN response apart.
pub fn parse_plain(response: &[u8]) -> Result<Plain<'_>, PlainError> {
    let mut parts = str::from_utf8(response).map_err(|_| PlainError)?.split('\0');
    let (Some(authzid), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(PlainError);
    };
    if user.is_empty() {
        return Err(PlainError);
    }
    Ok(Plain { authzid, user, password })
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
    fn check(body: &[u8], expected: Result<SaslFrame, DecodeError>) {
        assert_eq!(SaslFrame::decode(&Bytes::copy_from_slice(body)), expected);
    }

    #[track_caller]
    fn check_both(frame: SaslFrame, body: &[u8]) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(out[..], *body, "wrote {out:02x?}");
        check(body, Ok(frame));
    }

    #[test]
    fn every_frame_both_ways() {
        check_both(
            SaslFrame::Mechanisms(vec!["A".into(), "BC".into()]),
            &hex!("00 53 40 c0 10 01 e0 0d 02 b3 00000001 41 00000002 42 43"),
        );
        check_both(
            SaslFrame::Init {
                mechanism: "PLAIN".into(),
                initial_response: Some(Bytes::from_static(b"\0u\0p")),
                hostname: None,
            },
            &hex!("00 53 41 c0 0f 03 a3 05 50 4c 41 49 4e a0 04 00 75 00 70 40"),
        );
        check_both(
            SaslFrame::Challenge(Bytes::from_static(b"x")),
            &hex!("00 53 42 c0 04 01 a0 01 78"),
        );
        check_both(SaslFrame::Response(Bytes::new()), &hex!("00 53 43 c0 03 01 a0 00"));
        check_both(
            SaslFrame::Outcome { code: SaslCode::Auth, additional_data: None },
            &hex!("00 53 44 c0 04 02 50 01 40"),
        );
    }

    #[test]
    fn one_mechanism_may_come_without_an_array() {
        check(&hex!("00 53 40 c0 04 01 a3 01 41"), Ok(SaslFrame::Mechanisms(vec!["A".into()])));
        check(
            &hex!("00 53 40 c0 02 01 40"),
            Err(DecodeError::MissingField { field: "sasl-server-mechanisms" }),
        );
    }

    #[test]
    fn performatives_and_trailing_octets_are_no_sasl_frames() {
        check(
            &hex!("00 53 10 c0 04 01 a1 01 63"),
            Err(DecodeError::UnexpectedDescriptor { wanted: "sasl-frame", code: 0x10 }),
        );
        check(&hex!("00 53 43 c0 03 01 a0 00 40"), Err(DecodeError::TrailingBytes));
        check(
            &hex!("00 53 44 c0 03 01 50 05"),
            Err(DecodeError::InvalidField { field: "sasl-code" }),
        );
    }

    #[test]
    fn plain_responses() {
        let plain = |authzid, user, password| Ok(Plain { authzid, user, password });
        assert_eq!(parse_plain(b"\0user\0pass"), plain("", "user", "pass"));
        assert_eq!(parse_plain(b"z\0user\0"), plain("z", "user", ""));
        for bad in [&b""[..], b"\0", b"user\0pass", b"\0\0pass", b"\0u\0p\0", b"\0\xff\0p"] {
            assert_eq!(parse_plain(bad), Err(PlainError), "{bad:?}");
        }
        assert!(!format!("{:?}", parse_plain(b"\0user\0secret")).contains("secret"));
    }
}
