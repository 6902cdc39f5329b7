//! §2.7.8 end.

use crate::codec::composite;
use crate::condition::ErrorInfo;

composite! {
    /// Ends an AMQP session.
    #[derive(Default)]
    pub struct End = "amqp:end:list" 0x17 {
        /// Why.
        pub error: Option<ErrorInfo> = "error",
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn an_end_is_never_written_as_an_empty_list() {
        check(&hex!("00 53 17 45"), Ok(End::default().into()));
        check_encoded(&End::default().into(), &hex!("00 53 17 c0 02 01 40"));
    }
}
