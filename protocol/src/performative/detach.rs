//! §2.7.7 detach.

use crate::codec::composite;
use crate::condition::ErrorInfo;

composite! {
    /// Detaches a link.
    #[derive(Default)]
    pub struct Detach = "amqp:detach:list" 0x16 {
        /// The link.
        pub handle: u32 = "handle",
        /// Whether the link ends for good.
        pub closed: bool = "closed" or false,
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
        check(
            &hex!("00 53 16 c0 03 01 52 02"),
            Ok(Detach { handle: 2, ..Detach::default() }.into()),
        );
        let error =
            ErrorInfo { condition: "x:y".into(), description: Some("d".into()), info: None };
        let detach = Detach { handle: 0, closed: true, error: Some(error) };
        let body = hex!("00 53 16 c0 12 03 43 41 00 53 1d c0 0a 03 a3 03 78 3a 79 a1 01 64 40");
        check_encoded(&detach.clone().into(), &body);
        check(&body, Ok(detach.into()));
    }
}
