//! §2.7.1 open.

use crate::codec::composite;
use crate::value::{Map, Str, Symbol};

composite! {
    /// Negotiates connection parameters.
    #[derive(Default)]
    pub struct Open = "amqp:open:list" 0x10 {
        /// Names the sending container.
        pub container_id: Str = "container-id",
        /// The virtual host.
        pub hostname: Option<Str> = "hostname",
        /// The largest frame the sender takes.
        pub max_frame_size: Option<u32> = "max-frame-size" means u32::MAX,
        /// The highest channel the sender takes.
        pub channel_max: Option<u16> = "channel-max" means u16::MAX,
        /// After how many silent milliseconds the sender gives up.
        pub idle_time_out: Option<u32> = "idle-time-out",
        /// Languages the sender writes.
        pub outgoing_locales: Option<Vec<Symbol>> = "outgoing-locales",
        /// Languages the sender reads.
        pub incoming_locales: Option<Vec<Symbol>> = "incoming-locales",
        /// Extensions the sender has.
        pub offered_capabilities: Option<Vec<Symbol>> = "offered-capabilities",
        /// Extensions the sender wants.
        pub desired_capabilities: Option<Vec<Symbol>> = "desired-capabilities",
        /// Anything else.
        pub properties: Option<Map> = "properties",
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::Open;
    use crate::codec::DecodeError;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn only_the_container_id_is_mandatory() {
        let open = Open { container_id: "c".into(), ..Open::default() };
        check(&hex!("00 53 10 c0 04 01 a1 01 63"), Ok(open.clone().into()));
        check_encoded(&open.into(), &hex!("00 53 10 c0 0d 0a a1 01 63 40 40 40 40 40 40 40 40 40"));
        check(
            &hex!("00 53 10 c0 02 01 40"),
            Err(DecodeError::MissingField { field: "container-id" }),
        );
        check(&hex!("00 53 10 45"), Err(DecodeError::MissingField { field: "container-id" }));
    }

    #[test]
    fn a_multiple_field_may_be_one_value_or_an_array() {
        let open = Open {
            container_id: "c".into(),
            desired_capabilities: Some(vec!["x".into()]),
            ..Open::default()
        };
        let one = hex!("00 53 10 c0 0e 09 a1 01 63 40 40 40 40 40 40 40 a3 01 78");
        let array = hex!("00 53 10 c0 11 09 a1 01 63 40 40 40 40 40 40 40 e0 04 01 a3 01 78");
        check(&one, Ok(open.clone().into()));
        check(&array, Ok(open.into()));
        let strings = hex!("00 53 10 c0 11 09 a1 01 63 40 40 40 40 40 40 40 e0 04 01 a1 01 78");
        check(&strings, Err(DecodeError::InvalidField { field: "symbol" }));
    }
}
