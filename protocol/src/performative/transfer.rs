//! §2.7.5 transfer.

use bytes::Bytes;

use super::ReceiverSettleMode;
use crate::codec::composite;
use crate::delivery_state::DeliveryState;
use crate::serial::SerialNumber;

composite! {
    /// One frame of a delivery; its part of the message follows it in the frame.
    #[derive(Default)]
    pub struct Transfer = "amqp:transfer:list" 0x14 {
        /// The link.
        pub handle: u32 = "handle",
        /// Numbers the delivery; mandatory on its first frame.
        pub delivery_id: Option<SerialNumber> = "delivery-id",
        /// Names the delivery; mandatory on its first frame.
        pub delivery_tag: Option<Bytes> = "delivery-tag",
        /// What kind of message; mandatory on the first frame.
        pub message_format: Option<u32> = "message-format",
        /// Whether the sender has settled; null on a later frame means as before.
        pub settled: Option<bool> = "settled",
        /// Whether more frames of this delivery follow.
        pub more: bool = "more" or false,
        /// How the receiver is to settle this one, if other than agreed for the link.
        pub rcv_settle_mode: Option<ReceiverSettleMode> = "rcv-settle-mode",
        /// The state at the sender.
        pub state: Option<DeliveryState> = "state",
        /// Whether this continues a delivery from before the link was lost.
        pub resume: bool = "resume" or false,
        /// Whether what was sent of this delivery is to be forgotten.
        pub aborted: bool = "aborted" or false,
        /// A hint that the answer need not come at once.
        pub batchable: bool = "batchable" or false,
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::codec::DecodeError;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn a_first_frame_and_a_continuation() {
        let first = Transfer {
            handle: 1,
            delivery_id: Some(SerialNumber(0)),
            delivery_tag: Some(Bytes::from_static(&[9, 8])),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            ..Transfer::default()
        };
        let body = hex!("00 53 14 c0 10 0b 52 01 43 a0 02 09 08 43 42 41 40 40 42 42 42");
        check(&body, Ok(first.clone().into()));
        check_encoded(&first.into(), &body);
        check(
            &hex!("00 53 14 c0 03 01 52 01"),
            Ok(Transfer { handle: 1, ..Transfer::default() }.into()),
        );
    }

    #[test]
    fn the_handle_is_mandatory_and_null_stands_for_a_default() {
        check(&hex!("00 53 14 45"), Err(DecodeError::MissingField { field: "handle" }));
        check(
            &hex!("00 53 14 c0 0c 0b 43 40 40 40 40 40 40 40 40 40 40"),
            Ok(Transfer::default().into()),
        );
    }

    #[test]
    fn a_batch_has_its_own_message_format() {
        let body = hex!("00 53 14 c0 11 0b 43 43 a0 00 70 80 01 37 00 41 42 40 40 42 42 42");
        let transfer = Transfer {
            delivery_id: Some(SerialNumber(0)),
            delivery_tag: Some(Bytes::new()),
            message_format: Some(crate::message::envelope::MESSAGE_FORMAT),
            settled: Some(true),
            ..Transfer::default()
        };
        check(&body, Ok(transfer.into()));
    }
}
