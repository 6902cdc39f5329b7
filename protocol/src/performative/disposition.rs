//! §2.7.6 disposition.

use super::Role;
use crate::codec::composite;
use crate::delivery_state::DeliveryState;
use crate::serial::SerialNumber;

composite! {
    /// Tells the state of a range of deliveries.
    pub struct Disposition = "amqp:disposition:list" 0x15 {
        /// Whether the sender of this frame sent the deliveries or received them.
        pub role: Role = "role",
        /// The first delivery-id.
        pub first: SerialNumber = "first",
        /// The last delivery-id; the first one when missing.
        pub last: Option<SerialNumber> = "last",
        /// Whether the sender of this frame has settled them.
        pub settled: bool = "settled" or false,
        /// Their state.
        pub state: Option<DeliveryState> = "state",
        /// A hint that the answer need not come at once.
        pub batchable: bool = "batchable" or false,
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn accepted_and_settled() {
        let disposition = Disposition {
            role: Role::Receiver,
            first: SerialNumber(5),
            last: None,
            settled: true,
            state: Some(DeliveryState::Accepted),
            batchable: false,
        };
        let full = hex!("00 53 15 c0 0b 06 41 52 05 40 41 00 53 24 45 42");
        check(&full, Ok(disposition.clone().into()));
        check_encoded(&disposition.clone().into(), &full);
        // The same from a peer that writes long forms and ends early.
        check(
            &hex!(
                "00 a3 15 61 6d 71 70 3a 64 69 73 70 6f 73 69 74 69 6f 6e 3a 6c 69 73 74
                   d0 00 00 00 26 00 00 00 05 56 01 70 00 00 00 05 40 56 01
                   00 a3 12 61 6d 71 70 3a 61 63 63 65 70 74 65 64 3a 6c 69 73 74 c0 01 00"
            ),
            Ok(disposition.into()),
        );
    }
}
