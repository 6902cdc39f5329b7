//! Messages that others made badly: the broker keeps them as they are, and so does the command line.

use bytes::Bytes;
use peeklock_tests::TestBroker;
use peeklock_tests::message::Message;
use serde_json::json;

use crate::{CommandLine, exit};

/// Application properties `a: "\xff", b: 1`.
const TEXT: &[u8] =
    b"\x00\x53\x74\xc1\x0c\x04\xa1\x01a\xa1\x01\xff\xa1\x01b\x54\x01\x00\x53\x75\xa0\x04good";
const VALUE: &[u8] = b"\x00\x53\x77\xa1\x01\xfe";
/// The place of content-type in the properties: a symbol, where others write a string.
const CONTENT_TYPE: usize = 6;

fn damaged() -> [Bytes; 3] {
    let string = Message::data("x").with_field(CONTENT_TYPE, "text/plain".into());
    [Bytes::from_static(TEXT), Bytes::from_static(VALUE), string.encode()]
}

fn send(broker: &TestBroker, queue: &str) {
    let mut peer = broker.peer();
    let mut link = peer.attach_sender(queue);
    for message in damaged() {
        peer.send_accepted(&mut link, &message);
    }
    peer.close();
    broker.ok(&["send", queue, "whole"]);
}

#[test]
fn they_are_shown_kept_and_come_back_as_they_were() {
    let broker = TestBroker::with().queue("q", "").queue("copy", "").start();
    send(&broker, "q");
    let peeked = broker.lines(&["peek", "q"]);
    let is_damaged: Vec<bool> = peeked.iter().map(|one| one["amqp"].is_string()).collect();
    assert_eq!(is_damaged, [true, true, true, false], "{peeked:?}");
    assert_eq!(peeked[0]["application_properties"], json!({ "b": { "int": 1 } }));
    assert_eq!(peeked[0]["body"], json!({ "text": "good" }));
    let text = broker.command(&["peek", "q"]).output().expect("the binary runs").stdout;
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text.matches("readable=in part").count(), 3, "{text}");
    let dry = broker.json(&["purge", "q", "--filter", "c = 1", "--dry-run"]);
    assert_eq!(dry, json!({ "would_remove": 0 }));

    let exported = broker.ok(&["messages", "export", "q"]);
    let imported = broker.call_with(&["messages", "import", "copy", "--json"], &exported);
    assert_eq!(imported.out, "{\"imported\":4}\n", "{imported:?}");
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("copy");
    for message in damaged() {
        let received = peer.receive_one(&mut link);
        assert!(received.payload.ends_with(&message), "{received:?}");
        peer.complete(&received);
    }
    peer.close();
    assert_eq!(broker.lines(&["receive", "q", "--count", "2"]).len(), 2);
    assert_eq!(broker.lines(&["receive", "q", "--delete", "--count", "2"]).len(), 2);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

#[test]
fn they_keep_no_other_dead_letter_from_being_replayed() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 1").queue("other", "").start();
    send(&broker, "q");
    let left = broker.lines(&["receive", "q", "--all", "--leave", "--wait", "500ms"]);
    assert_eq!(left.len(), 4);
    assert_eq!(broker.ok(&["dlq", "list", "q"]).lines().count(), 5);
    let replay = ["dlq", "replay", "q", "--target", "other"];
    broker.fails(&replay, exit::FAILED, "sent 1 of 4 to other");
    assert_eq!(broker.ok(&["receive", "other", "--body"]), "whole");
    broker.fails(&replay, exit::FAILED, "cannot be read as a whole: 3");
    assert_eq!(broker.lines(&["receive", "q", "--dlq", "--count", "3"]).len(), 3);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}
