//! `peeklock peek`, and looking through all messages for those who select.

use std::collections::VecDeque;

use clap::Args;
use peeklock_core::filter::{Arrival, MessageProperties, SqlFilter};
use peeklock_core::id::SequenceNumber;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::Sections;
use peeklock_protocol::value::{Map, Value};

use super::Common;
use super::failure::Failure;
use super::messaging::Messaging;
use super::node::NodeArguments;
use super::show::Received;

/// Messages asked for at once. The broker gives no more.
const BATCH: u32 = 250;

/// Shows messages and leaves them as they are.
#[derive(Args, Debug)]
pub struct PeekArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    count: u64,
    /// Begin with this sequence number
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: i64,
    /// Of this message session
    #[arg(long, short, value_name = "ID")]
    session: Option<String>,
    /// Only what this condition holds for, as in "color = 'red'"
    #[arg(long, value_name = "CONDITION", value_parser = selector)]
    filter: Option<Box<SqlFilter>>,
    #[command(flatten)]
    common: Common,
}

/// A condition in the language of selectors, which the broker understands alike.
pub(super) fn selector(text: &str) -> Result<Box<SqlFilter>, String> {
    SqlFilter::selector(text).map(Box::new).map_err(|error| error.to_string())
}

pub(super) async fn run(arguments: &PeekArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let address = arguments.node.address(&server)?;
    let mut messaging = Messaging::open(&server).await?;
    let mut browser = Browser::new(address, arguments.session.clone(), arguments.from);
    let mut left = arguments.count;
    // Of those that are looked through, few may be meant.
    let page = |left| if arguments.filter.is_some() { u64::MAX } else { left };
    while 0 < left
        && let Some(received) = browser.next(&mut messaging, page(left)).await?
    {
        if arguments.filter.as_ref().is_none_or(|filter| lets_through(filter, &received)) {
            received.print(arguments.common.json)?;
            left -= 1;
        }
    }
    messaging.close().await
}

/// All messages of a queue, one after the other.
pub(super) struct Browser {
    address: String,
    session: Option<String>,
    from: i64,
    page: VecDeque<Received>,
    ended: bool,
}

impl Browser {
    pub(super) const fn new(address: String, session: Option<String>, from: i64) -> Self {
        Self { address, session, from, page: VecDeque::new(), ended: false }
    }

    /// The next one; asks for no more than so many at once.
    pub(super) async fn next(
        &mut self,
        messaging: &mut Messaging<'_>,
        most: u64,
    ) -> Result<Option<Received>, Failure> {
        if self.page.is_empty() && !self.ended {
            self.turn(messaging, most).await?;
        }
        Ok(self.page.pop_front())
    }

    async fn turn(&mut self, messaging: &mut Messaging<'_>, most: u64) -> Result<(), Failure> {
        let count = i32::try_from(most.min(BATCH.into())).unwrap_or(i32::MAX);
        let mut body =
            Map::new().with("from-sequence-number", self.from).with("message-count", count);
        if let Some(session) = &self.session {
            body.insert("session-id", session.as_str());
        }
        let answer = messaging.manage(&self.address, "peek-message", body).await?;
        let messages = answer.body.get("messages").map(Value::items).unwrap_or_default();
        for message in messages {
            let bytes = message.get("message").and_then(Value::as_binary);
            let wrong = || Failure::Other("a peeked message cannot be read".to_owned());
            let received = Received::of(bytes.ok_or_else(wrong)?);
            self.from = received.sequence().ok_or_else(wrong)?.saturating_add(1);
            self.page.push_back(received);
        }
        self.ended = answer.empty || self.page.is_empty();
        Ok(())
    }
}

/// Whether a selector lets a message through, as the broker would say.
pub(super) fn lets_through(filter: &SqlFilter, received: &Received) -> bool {
    let Ok(sections) = Sections::index(&received.bytes) else { return false };
    let number = |key: &str| {
        let number = received.annotation(key).and_then(Value::as_i64);
        number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    };
    let enqueued = received.annotation("x-opt-enqueued-time").and_then(Value::as_timestamp);
    let enqueued = enqueued.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0);
    let arrival = Arrival {
        enqueued_at: Timestamp(enqueued),
        expires_at: None,
        sequence: SequenceNumber(number("x-opt-sequence-number")),
        enqueue_sequence: SequenceNumber(number("x-opt-enqueue-sequence-number")),
        attempts: received.attempts(),
    };
    let properties = MessageProperties::new(&received.bytes, &sections, arrival);
    // A selector cannot name the function that draws from this.
    filter.matches(&properties, &mut || [0; 16]).unwrap_or(false)
}
