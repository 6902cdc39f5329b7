//! §2.7.2 begin.

use crate::codec::composite;
use crate::serial::SerialNumber;
use crate::value::{Map, Symbol};

composite! {
    /// Begins an AMQP session on a channel.
    #[derive(Default)]
    pub struct Begin = "amqp:begin:list" 0x11 {
        /// In an answer: the channel the session was begun on.
        pub remote_channel: Option<u16> = "remote-channel",
        /// The transfer-id of the sender's first transfer.
        pub next_outgoing_id: SerialNumber = "next-outgoing-id",
        /// How many transfer frames the sender takes.
        pub incoming_window: u32 = "incoming-window",
        /// How many transfer frames the sender may send.
        pub outgoing_window: u32 = "outgoing-window",
        /// The highest link handle the sender takes.
        pub handle_max: Option<u32> = "handle-max" means u32::MAX,
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

    use super::*;
    use crate::codec::DecodeError;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn integers_come_in_every_width() {
        let begin = Begin { incoming_window: 1, outgoing_window: 0, ..Begin::default() };
        check(&hex!("00 53 11 c0 06 04 40 43 52 01 43"), Ok(begin.clone().into()));
        check(
            &hex!(
                "00 80 00 00 00 00 00 00 00 11 d0 00 00 00 12 00 00 00 04
                   40 52 00 70 00 00 00 01 70 00 00 00 00 40"
            ),
            Err(DecodeError::TrailingBytes),
        );
        check(
            &hex!(
                "00 80 00 00 00 00 00 00 00 11 d0 00 00 00 12 00 00 00 04
                   40 52 00 70 00 00 00 01 70 00 00 00 00"
            ),
            Err(DecodeError::UnexpectedEnd),
        );
        check(
            &hex!(
                "00 80 00 00 00 00 00 00 00 11 d0 00 00 00 11 00 00 00 04
                   40 52 00 70 00 00 00 01 70 00 00 00 00"
            ),
            Ok(begin.clone().into()),
        );
        check_encoded(&begin.into(), &hex!("00 53 11 c0 0a 08 40 43 52 01 43 40 40 40 40"));
    }

    #[test]
    fn windows_are_mandatory() {
        check(
            &hex!("00 53 11 c0 04 03 40 43 43"),
            Err(DecodeError::MissingField { field: "outgoing-window" }),
        );
    }
}
