//! Access rules of entities on disk.

use peeklock_protocol::condition;
use peeklock_tests::TestBroker;
use peeklock_tests::administration::{create_queue, update_queue};
use peeklock_tests::link::sender;

/// 32 octets each.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

#[test]
fn rules_of_entities_survive_a_kill() {
    let mut broker = TestBroker::with().queue("declared", "").durable().start();
    assert_eq!(create_queue(&broker, "orders", &[("own", FIRST, "Send Listen")]), 201);
    assert_eq!(update_queue(&broker, "declared", &[("own", SECOND, "Send")]), 200);
    broker.restart();
    let mut peer = broker.connect().plain("own", FIRST).open().begin();
    peer.send_texts("orders", &["kept"]);
    assert_eq!(peer.drain_texts("orders"), ["kept"]);
    // The configuration declares the queue once more, and leaves its rules alone.
    let mut peer = broker.connect().plain("own", SECOND).open().begin();
    peer.send_texts("declared", &["1"]);
    peer.expect_refusal(sender("orders"), condition::UNAUTHORIZED_ACCESS);
}
