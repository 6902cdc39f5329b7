//! §2.7.9 close.

use crate::codec::composite;
use crate::condition::ErrorInfo;

composite! {
    /// Ends a connection.
    #[derive(Default)]
    pub struct Close = "amqp:close:list" 0x18 {
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
    fn with_an_error_and_without() {
        check(&hex!("00 53 18 c0 01 00"), Ok(Close::default().into()));
        let close = Close {
            error: Some(ErrorInfo { condition: "a".into(), description: None, info: None }),
        };
        let body = hex!("00 53 18 c0 0c 01 00 53 1d c0 06 03 a3 01 61 40 40");
        check(&body, Ok(close.clone().into()));
        check_encoded(&close.into(), &body);
    }
}
