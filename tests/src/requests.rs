//! Request and response over a pair of links: `$cbs` and `$management`.

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, Performative, ReceiverSettleMode, SenderSettleMode};
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Map, Value};

use crate::broker::{DEV_KEY, DEV_RULE};
use crate::link::{Link, receiver, sender};
use crate::message::Message;
use crate::peer::Peer;
use crate::sas;

/// The credit given for answers, and given again when half of it may be used up.
const ANSWERS: u32 = 1000;

/// A pair of links to a node that answers.
#[derive(Clone, Debug)]
pub struct Requests {
    /// Takes requests.
    pub requests: Link,
    /// Brings answers.
    pub answers: Link,
    /// The address answers are to be sent to.
    pub reply_to: String,
    asked: u64,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole message.
    pub message: Message,
    /// Its status code, which has to be an `int`.
    pub status: i32,
}

impl Requests {
    fn request(&mut self, operation: &str, body: Map) -> Message {
        self.asked += 1;
        let id = format!("request {}", self.asked);
        Message::value(body)
            .with_id(id.as_str())
            .with_reply_to(&self.reply_to)
            .with_property("operation", operation)
            .with_property("com.microsoft:server-timeout", 60_000_u32)
    }
}

impl Answer {
    #[track_caller]
    fn to(request: &Message, message: Message) -> Self {
        assert_eq!(message.correlation_id(), request.id());
        let status = match message.property("statusCode") {
            Some(Value::Int(status)) => *status,
            other => panic!("statusCode has to be an int, found {other:?}"),
        };
        let description = message.property("statusDescription");
        assert!(matches!(description, Some(Value::String(_))), "Java needs it: {description:?}");
        Self { message, status }
    }

    /// The condition of a failure, which has to be a symbol (.NET casts it).
    #[track_caller]
    pub fn condition(&self) -> &str {
        match self.message.property("errorCondition") {
            Some(Value::Symbol(condition)) => condition,
            other => panic!("no condition in {other:?}"),
        }
    }

    /// An entry of the map in the body.
    #[track_caller]
    pub fn entry(&self, key: &str) -> &Value {
        let body = self.message.body_value();
        body.get(key).unwrap_or_else(|| panic!("no {key} in {body:?}"))
    }
}

impl Peer {
    /// Opens `$cbs` the way JS does.
    #[track_caller]
    pub fn open_cbs(&mut self) -> Requests {
        self.open_requests("$cbs")
    }

    /// Opens the management node of an entity.
    #[track_caller]
    pub fn open_management(&mut self, entity: &str) -> Requests {
        self.open_requests(&format!("{entity}/$management"))
    }

    /// Opens a pair of links to a node that answers, and gives credit for the answers.
    #[track_caller]
    pub fn open_requests(&mut self, address: &str) -> Requests {
        let first = |attach: Attach| Attach {
            snd_settle_mode: Some(SenderSettleMode::Mixed),
            rcv_settle_mode: Some(ReceiverSettleMode::First),
            ..attach
        };
        let reply_to = format!("answers of {address}");
        let answers = self.attach_for_receiving(first(Attach {
            source: Some(Source::new(address).into()),
            target: Some(TargetNode::new(reply_to.as_str()).into()),
            ..receiver(address)
        }));
        let requests = self.attach_for_sending(first(sender(address)));
        self.credit(&answers, ANSWERS);
        Requests { requests, answers, reply_to, asked: 0 }
    }

    /// Sends a request unsettled and reads disposition and answer.
    #[track_caller]
    pub fn ask(&mut self, pair: &mut Requests, request: &Message) -> Message {
        let id = self.transfer(&mut pair.requests, &request.encode());
        let (mut answer, mut accepted) = (None, false);
        loop {
            // The disposition of the request may come before the answer or behind it.
            match (answer, accepted) {
                (Some(answer), true) => return answer,
                (found, _) => answer = found,
            }
            match self.performative() {
                Performative::Transfer(first) => {
                    self.put_back(first.into());
                    answer = Some(self.read_answer(pair));
                }
                Performative::Disposition(disposition) => {
                    assert_eq!((disposition.first, disposition.settled), (id, true));
                    assert_eq!(disposition.state, Some(DeliveryState::Accepted));
                    accepted = true;
                }
                Performative::Flow(_) => {}
                other => panic!("expected an answer, found {other:?}"),
            }
        }
    }

    /// Reads the answer to a request that was sent settled.
    #[track_caller]
    pub fn read_answer(&mut self, pair: &mut Requests) -> Message {
        let received = self.receive(&mut pair.answers);
        assert!(received.settled, "answers come settled");
        if received.id.0.is_multiple_of(ANSWERS / 2) {
            self.credit(&pair.answers, ANSWERS);
        }
        received.message()
    }

    /// Asks the management node.
    #[track_caller]
    pub fn manage(&mut self, pair: &mut Requests, operation: &str, body: Map) -> Answer {
        let request = pair.request(operation, body);
        let message = self.ask(pair, &request);
        Answer::to(&request, message)
    }

    /// The same with a transaction. The request goes settled, as .NET and Java send it.
    #[track_caller]
    pub fn manage_within(
        &mut self,
        pair: &mut Requests,
        txn: &Bytes,
        operation: &str,
        body: Map,
    ) -> Answer {
        let request = pair.request(operation, body);
        self.transfer_within(&mut pair.requests, txn, &request.encode(), true);
        let message = self.read_answer(pair);
        Answer::to(&request, message)
    }

    /// Puts this token for this audience and gives the status.
    #[track_caller]
    pub fn put_token(&mut self, pair: &mut Requests, audience: &str, token: &str) -> i32 {
        pair.asked += 1;
        let request = put_token(audience, token).with_id(pair.asked).with_reply_to(&pair.reply_to);
        let message = self.ask(pair, &request);
        assert_eq!(message.correlation_id(), &Value::Ulong(pair.asked));
        cbs_status(&message)
    }

    /// Puts a token that grants everything on an entity and its nodes for an hour.
    #[track_caller]
    pub fn authorize(&mut self, pair: &mut Requests, entity: &str) {
        let audience = format!("sb://localhost/{entity}");
        let token = sas::token(&audience, DEV_RULE, DEV_KEY, sas::now() + 3600);
        assert_eq!(self.put_token(pair, &audience, &token), 202);
    }
}

/// A put-token request, without its ids.
pub fn put_token(audience: &str, token: &str) -> Message {
    Message::value(token)
        .with_property("operation", "put-token")
        .with_property("type", "servicebus.windows.net:sastoken")
        .with_property("name", audience)
}

/// The status of an answer of `$cbs`.
#[track_caller]
pub fn cbs_status(message: &Message) -> i32 {
    assert_eq!(message.body_value(), &Value::Null, "an answer of $cbs has nothing to say");
    assert!(message.text_property("status-description").is_some(), "{message:?}");
    match message.property("status-code") {
        Some(Value::Int(status)) => *status,
        other => panic!("status-code has to be an int, found {other:?}"),
    }
}
