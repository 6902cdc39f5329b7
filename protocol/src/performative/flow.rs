//! §2.7.4 flow.

use crate::codec::composite;
use crate::serial::SerialNumber;
use crate::value::Map;

composite! {
    /// Updates the flow state of an AMQP session, and of a link when it has a handle.
    #[derive(Default)]
    pub struct Flow = "amqp:flow:list" 0x13 {
        /// The transfer-id the sender expects next; missing before it has seen a begin.
        pub next_incoming_id: Option<SerialNumber> = "next-incoming-id",
        /// How many transfer frames the sender takes.
        pub incoming_window: u32 = "incoming-window",
        /// The transfer-id of the sender's next transfer.
        pub next_outgoing_id: SerialNumber = "next-outgoing-id",
        /// How many transfer frames the sender may send.
        pub outgoing_window: u32 = "outgoing-window",
        /// The link; without one the flow is about the session alone.
        pub handle: Option<u32> = "handle",
        /// The link sender's delivery-count, as the sender of this frame has it.
        pub delivery_count: Option<SerialNumber> = "delivery-count",
        /// How many deliveries the link's receiver takes from that count on.
        pub link_credit: Option<u32> = "link-credit",
        /// How many messages the link's sender has waiting.
        pub available: Option<u32> = "available",
        /// Whether credit is to be used up at once.
        pub drain: bool = "drain" or false,
        /// Whether the other end is asked for its own flow state.
        pub echo: bool = "echo" or false,
        /// Anything else.
        pub properties: Option<Map> = "properties",
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn a_session_flow_and_a_link_flow() {
        let session = Flow { incoming_window: 5, outgoing_window: 6, ..Flow::default() };
        check(&hex!("00 53 13 c0 07 04 40 52 05 43 52 06"), Ok(session.clone().into()));
        let link = Flow {
            next_incoming_id: Some(SerialNumber(u32::MAX)),
            handle: Some(1),
            delivery_count: Some(SerialNumber(0)),
            link_credit: Some(300),
            drain: true,
            ..session
        };
        let body = hex!(
            "00 53 13 c0 17 0b 70 ff ff ff ff 52 05 43 52 06
                         52 01 43 70 00 00 01 2c 40 41 42 40"
        );
        check(&body, Ok(link.clone().into()));
        check_encoded(&link.into(), &body);
    }
}
