//! The hand that steers the clock of a broker with virtual time (docs/VIRTUAL-TIME.md).

use std::time::Duration;

use peeklock_protocol::value::{Map, Value};

use crate::broker::TestBroker;
use crate::peer::Peer;
use crate::requests::{Answer, Requests};

/// Where the operations of the namespace are.
pub const NAMESPACE_NODE: &str = "$management";

/// What the clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Whether it stands still.
    pub frozen: bool,
}

impl Reading {
    /// Reads an answer, which has to be a success.
    #[track_caller]
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let Value::Timestamp(time) = answer.entry("time") else { panic!("{answer:?}") };
        let frozen = match answer.entry("state").as_str() {
            Some("frozen") => true,
            Some("running") => false,
            other => panic!("state {other:?}"),
        };
        Self { time: *time, frozen }
    }
}

/// A connection of its own, with rights that do not end.
#[derive(Debug)]
pub struct ClockHand {
    peer: Peer,
    node: Requests,
}

impl TestBroker {
    /// Opens the way to the clock of a broker that was started with virtual time.
    #[track_caller]
    pub fn clock(&self) -> ClockHand {
        let mut peer = self.peer();
        let node = peer.open_requests(NAMESPACE_NODE);
        ClockHand { peer, node }
    }
}

impl ClockHand {
    /// Asks for an operation, named without its prefix.
    #[track_caller]
    pub fn ask(&mut self, operation: &str, body: Map) -> Answer {
        self.peer.manage(&mut self.node, &format!("io.peeklock:{operation}"), body)
    }

    /// What it shows.
    #[track_caller]
    pub fn read(&mut self) -> Reading {
        Reading::of(&self.ask("read-clock", Map::new()))
    }

    /// Stops it where it stands.
    #[track_caller]
    pub fn freeze(&mut self) -> Reading {
        Reading::of(&self.ask("freeze-clock", Map::new()))
    }

    /// Moves it forward.
    #[track_caller]
    pub fn advance(&mut self, by: Duration) -> Reading {
        let millis = u64::try_from(by.as_millis()).expect("a span that a test can mean");
        Reading::of(&self.ask("advance-clock", Map::new().with("milliseconds", millis)))
    }

    /// Lets it run on.
    #[track_caller]
    pub fn resume(&mut self) -> Reading {
        Reading::of(&self.ask("resume-clock", Map::new()))
    }
}
