//! Links of a [`Peer`]: attaching, credit, deliveries in both directions and their outcomes.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use peeklock_protocol::condition::ErrorInfo;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{
    Attach, Detach, Disposition, Flow, Performative, ReceiverSettleMode, Role, SenderSettleMode,
    Transfer,
};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Array, Str, Value};

use crate::message::{ENVELOPE_FORMAT, Message, envelope};
use crate::peer::Peer;

/// An attached link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The handle this side chose.
    pub handle: u32,
    /// The handle the broker chose.
    pub remote_handle: u32,
    /// The session it is on.
    pub channel: u16,
    /// The broker's attach.
    pub reply: Attach,
    /// Deliveries so far, counted from the initial delivery-count.
    pub delivery_count: SerialNumber,
}

/// A delivery from the broker.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id in the session.
    pub id: SerialNumber,
    /// Its tag.
    pub tag: Bytes,
    /// The broker's handle of the link.
    pub handle: u32,
    /// Whether it came settled.
    pub settled: bool,
    /// How many frames it took.
    pub frames: usize,
    /// The first of its transfers.
    pub first: Transfer,
    /// The message as it travelled.
    pub payload: Bytes,
}

impl Received {
    /// The message.
    #[track_caller]
    pub fn message(&self) -> Message {
        Message::decode(&self.payload)
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> String {
        self.message().text().to_owned()
    }
}

/// A link name that no other link of these tests has.
fn fresh_name(what: &str) -> Str {
    static LINKS: AtomicU32 = AtomicU32::new(0);
    format!("{what} {}", LINKS.fetch_add(1, Ordering::Relaxed)).into()
}

/// The attach of a client that sends, in the modes Python uses.
pub fn sender(address: &str) -> Attach {
    Attach {
        source: Some(Source::new("sender").into()),
        target: Some(TargetNode::new(address).into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        initial_delivery_count: Some(SerialNumber(0)),
        ..Attach::new(fresh_name("sender"), 0, Role::Sender)
    }
}

/// The attach of a client that receives under peek-lock, in the modes Python uses.
pub fn receiver(address: &str) -> Attach {
    Attach {
        source: Some(Source::new(address).into()),
        target: Some(TargetNode::new("receiver").into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        ..Attach::new(fresh_name("receiver"), 0, Role::Receiver)
    }
}

/// The attach of a client that receives and deletes.
pub fn deleting_receiver(address: &str) -> Attach {
    Attach {
        snd_settle_mode: Some(SenderSettleMode::Settled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..receiver(address)
    }
}

/// The attach of a plain AMQP client: it leaves the modes out and settles by itself.
pub fn plain_receiver(address: &str) -> Attach {
    Attach { snd_settle_mode: None, rcv_settle_mode: None, ..receiver(address) }
}

/// A disposition about what was received.
pub fn disposition(id: SerialNumber, state: DeliveryState, settled: bool) -> Disposition {
    Disposition {
        role: Role::Receiver,
        first: id,
        last: None,
        settled,
        state: Some(state),
        batchable: false,
    }
}

/// What JS, .NET, Java and Go send to abandon.
pub fn abandoned() -> DeliveryState {
    DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: None,
        message_annotations: None,
    }
}

impl Peer {
    /// Attaches with a handle of the peer's choice and reads the broker's attach.
    #[track_caller]
    pub fn attach(&mut self, attach: Attach) -> Link {
        let attach = self.send_attach(attach);
        let reply: Attach = self.expect();
        assert_eq!(reply.name, attach.name, "the answer to the attach");
        assert_eq!(reply.role, attach.role.opposite(), "the answer has the other role");
        Link {
            name: attach.name.to_string(),
            handle: attach.handle,
            remote_handle: reply.handle,
            channel: self.channel(),
            delivery_count: reply
                .initial_delivery_count
                .or(attach.initial_delivery_count)
                .unwrap_or_default(),
            reply,
        }
    }

    /// Sends an attach with the next handle and gives it as it was sent.
    #[track_caller]
    pub fn send_attach(&mut self, attach: Attach) -> Attach {
        let attach = Attach { handle: self.take_handle(), ..attach };
        self.send(attach.clone());
        attach
    }

    /// Attaches a sender to `address` and waits for its credit.
    #[track_caller]
    pub fn attach_sender(&mut self, address: &str) -> Link {
        self.attach_for_sending(sender(address))
    }

    /// Attaches this sender and waits for its credit.
    #[track_caller]
    pub fn attach_for_sending(&mut self, attach: Attach) -> Link {
        let link = self.attach(attach);
        assert!(link.reply.target.is_some(), "refused: {:?}", self.performative());
        loop {
            let flow: Flow = self.expect();
            if flow.handle == Some(link.remote_handle) && flow.link_credit > Some(0) {
                return link;
            }
        }
    }

    /// Attaches a peek-lock receiver to `address`.
    #[track_caller]
    pub fn attach_receiver(&mut self, address: &str) -> Link {
        self.attach_for_receiving(receiver(address))
    }

    /// Attaches this receiver.
    #[track_caller]
    pub fn attach_for_receiving(&mut self, attach: Attach) -> Link {
        let link = self.attach(attach);
        assert!(link.reply.source.is_some(), "refused: {:?}", self.performative());
        link
    }

    /// Attaches and reads the refusal: an attach without the terminus, and right behind it a detach.
    #[track_caller]
    pub fn expect_refusal(&mut self, attach: Attach, condition: &str) -> ErrorInfo {
        let role = attach.role;
        let link = self.attach(attach);
        match role {
            Role::Sender => assert_eq!(link.reply.target, None, "a refusal has no target"),
            Role::Receiver => assert_eq!(link.reply.source, None, "a refusal has no source"),
        }
        // Nothing may come in between: JS waits one turn of its event loop for the error.
        let detach = match self.performative() {
            Performative::Detach(detach) => detach,
            other => panic!("expected the detach of a refusal, found {other:?}"),
        };
        assert_eq!(detach.handle, link.remote_handle);
        assert!(detach.closed, "a refusal closes");
        let error = detach.error.expect("a refusal has an error");
        assert_eq!(error.condition, *condition, "{error:?}");
        self.send(Detach { handle: link.handle, closed: true, error: None });
        error
    }

    /// Closes a link and waits until the broker has too.
    #[track_caller]
    pub fn detach(&mut self, link: &Link) {
        self.speak_on(link.channel);
        self.send(Detach { handle: link.handle, closed: true, error: None });
        let answer: Detach = self.find();
        assert_eq!(answer, Detach { handle: link.remote_handle, closed: true, error: None });
    }

    // Credit

    /// The flow of a receiver that wants `credit` more.
    pub fn credit_flow(&mut self, link: &Link, credit: u32) -> Flow {
        self.speak_on(link.channel);
        Flow {
            handle: Some(link.handle),
            delivery_count: Some(link.delivery_count),
            link_credit: Some(credit),
            ..self.session_flow()
        }
    }

    /// Gives a receiving link credit.
    #[track_caller]
    pub fn credit(&mut self, link: &Link, credit: u32) {
        let flow = self.credit_flow(link, credit);
        self.send(flow);
    }

    /// Asks to use up `credit` and reads what comes, up to the answer.
    #[track_caller]
    pub fn drain(&mut self, link: &mut Link, credit: u32) -> Vec<Received> {
        let flow = Flow { drain: true, ..self.credit_flow(link, credit) };
        self.send(flow);
        let until = link.delivery_count.advanced_by(credit);
        let mut received = Vec::new();
        loop {
            match self.performative() {
                Performative::Transfer(first) => {
                    received.push(self.rest_of(first));
                    link.delivery_count = link.delivery_count.advanced_by(1);
                }
                Performative::Flow(flow) if flow.handle == Some(link.remote_handle) => {
                    assert!(flow.drain, "the answer to a drain says so: {flow:?}");
                    assert_eq!(flow.link_credit, Some(0), "all credit is used up: {flow:?}");
                    assert_eq!(flow.delivery_count, Some(until), "{flow:?}");
                    link.delivery_count = until;
                    return received;
                }
                Performative::Flow(_) => {}
                other => panic!("expected deliveries or the answer to a drain, found {other:?}"),
            }
        }
    }

    // Sending

    /// Sends a message unsettled and gives its delivery-id.
    #[track_caller]
    pub fn transfer(&mut self, link: &mut Link, message: &[u8]) -> SerialNumber {
        self.transfer_as(link, message, 0, false)
    }

    /// Sends a message settled.
    #[track_caller]
    pub fn transfer_settled(&mut self, link: &mut Link, message: &[u8]) {
        self.transfer_as(link, message, 0, true);
    }

    /// Sends several messages in one envelope.
    #[track_caller]
    pub fn transfer_batch(&mut self, link: &mut Link, messages: &[Bytes]) -> SerialNumber {
        self.transfer_as(link, &envelope(messages), ENVELOPE_FORMAT, false)
    }

    /// Sends a message in as many frames as the broker's frame size asks for.
    #[track_caller]
    pub fn transfer_as(
        &mut self,
        link: &mut Link,
        message: &[u8],
        message_format: u32,
        settled: bool,
    ) -> SerialNumber {
        self.speak_on(link.channel);
        let first = self.first_transfer(link, message_format, settled);
        let id = first.delivery_id.expect("just set");
        // Room for the performative, whose fields are short.
        let room = usize::try_from(self.frame_size_max()).expect("a 64 bit machine") - 128;
        let mut parts = message.chunks(room.max(1)).peekable();
        let mut transfer = first;
        loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            self.send_with(Transfer { more, ..transfer }, part);
            if !more {
                return id;
            }
            transfer = Transfer { handle: link.handle, ..Transfer::default() };
        }
    }

    /// The first transfer of a new delivery.
    pub fn first_transfer(
        &mut self,
        link: &mut Link,
        message_format: u32,
        settled: bool,
    ) -> Transfer {
        self.speak_on(link.channel);
        link.delivery_count = link.delivery_count.advanced_by(1);
        Transfer {
            handle: link.handle,
            delivery_id: Some(self.take_delivery_id()),
            delivery_tag: Some(self.take_tag()),
            message_format: Some(message_format),
            settled: Some(settled),
            ..Transfer::default()
        }
    }

    /// Sends a message and waits until it is accepted.
    #[track_caller]
    pub fn send_accepted(&mut self, link: &mut Link, message: &[u8]) {
        let id = self.transfer(link, message);
        let state = self.expect_outcome(id);
        assert_eq!(state, DeliveryState::Accepted);
    }

    /// Sends these texts, a message each, and waits until all are accepted.
    #[track_caller]
    pub fn send_texts(&mut self, address: &str, texts: &[&str]) {
        let mut link = self.attach_sender(address);
        for text in texts {
            self.send_accepted(&mut link, &Message::data(text.to_string()).encode());
        }
        self.detach(&link);
    }

    /// Waits for the outcome of what was sent, which the broker settles.
    #[track_caller]
    pub fn expect_outcome(&mut self, id: SerialNumber) -> DeliveryState {
        self.expect_outcomes(id, 1).pop().expect("one outcome")
    }

    /// Waits for the outcomes of `count` deliveries from `first` on, in whatever ranges they come.
    #[track_caller]
    pub fn expect_outcomes(&mut self, first: SerialNumber, count: u32) -> Vec<DeliveryState> {
        let size = usize::try_from(count).expect("a 64 bit machine");
        let mut outcomes = vec![None; size];
        while outcomes.iter().any(Option::is_none) {
            let disposition: Disposition = self.expect();
            assert_eq!(disposition.role, Role::Receiver, "{disposition:?}");
            assert!(disposition.settled, "Python ignores what is not settled: {disposition:?}");
            let state = disposition.state.expect(".NET needs a state");
            let last = disposition.last.unwrap_or(disposition.first);
            let from = disposition.first.distance_from(first);
            for place in from..=last.distance_from(first) {
                let place = usize::try_from(place).expect("a 64 bit machine");
                let outcome = outcomes.get_mut(place).expect("an outcome of what was sent");
                assert_eq!(outcome.replace(state.clone()), None, "one outcome each");
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Waits for a rejection of what was sent and gives its error.
    #[track_caller]
    pub fn expect_rejected(&mut self, id: SerialNumber, condition: &str) -> ErrorInfo {
        rejection(self.expect_outcome(id), condition)
    }

    // Receiving

    /// Reads the next delivery, all frames of it.
    #[track_caller]
    pub fn receive(&mut self, link: &mut Link) -> Received {
        let first: Transfer = self.expect();
        assert_eq!(first.handle, link.remote_handle, "a delivery of this link");
        link.delivery_count = link.delivery_count.advanced_by(1);
        self.rest_of(first)
    }

    /// Gives one credit and reads the delivery it brings.
    #[track_caller]
    pub fn receive_one(&mut self, link: &mut Link) -> Received {
        self.credit(link, 1);
        self.receive(link)
    }

    #[track_caller]
    fn rest_of(&mut self, first: Transfer) -> Received {
        let id = first.delivery_id.expect("the first frame has a delivery-id");
        let tag = first.delivery_tag.clone().expect("the first frame has a delivery-tag");
        assert_eq!(first.message_format, Some(0), "the first frame has a message-format");
        let settled = first.settled.expect("the first frame says whether it is settled");
        let mut payload = BytesMut::from(&self.payload()[..]);
        let mut frames = 1;
        let mut more = first.more;
        while more {
            let next: Transfer = self.expect();
            assert_eq!(next.handle, first.handle, "deliveries of one link follow one another");
            assert!(next.delivery_id.is_none_or(|other| other == id), "{next:?}");
            assert!(!next.aborted, "{next:?}");
            payload.extend_from_slice(self.payload());
            frames += 1;
            more = next.more;
        }
        let handle = first.handle;
        Received { id, tag, handle, settled, frames, first, payload: payload.freeze() }
    }

    /// Settles as Azure SDKs do under peek-lock: unsettled first, and the broker's answer is the end.
    #[track_caller]
    pub fn settle(&mut self, received: &Received, state: DeliveryState) -> DeliveryState {
        self.send(disposition(received.id, state, false));
        self.expect_settlement(received.id)
    }

    /// Waits for the broker's answer to a settlement.
    #[track_caller]
    pub fn expect_settlement(&mut self, id: SerialNumber) -> DeliveryState {
        let answer: Disposition = self.expect();
        assert_eq!(answer.role, Role::Sender, "{answer:?}");
        assert_eq!(answer.first, id, "{answer:?}");
        assert!(answer.last.is_none_or(|last| last == id), "{answer:?}");
        assert!(answer.settled, "{answer:?}");
        answer.state.expect("an answer has a state")
    }

    /// Completes and waits for the answer.
    #[track_caller]
    pub fn complete(&mut self, received: &Received) {
        assert_eq!(self.settle(received, DeliveryState::Accepted), DeliveryState::Accepted);
    }

    /// Abandons as JS does and waits for the answer.
    #[track_caller]
    pub fn abandon(&mut self, received: &Received) {
        let answer = self.settle(received, abandoned());
        assert!(matches!(answer, DeliveryState::Modified { .. }), "{answer:?}");
    }

    /// Receives and completes everything there is and gives the texts.
    #[track_caller]
    pub fn drain_texts(&mut self, address: &str) -> Vec<String> {
        let mut link = self.attach_receiver(address);
        let mut texts = Vec::new();
        loop {
            let batch = self.drain(&mut link, 100);
            for received in &batch {
                texts.push(received.text());
                self.complete(received);
            }
            if batch.is_empty() {
                self.detach(&link);
                return texts;
            }
        }
    }
}

/// The error of a rejection.
#[track_caller]
pub fn rejection(state: DeliveryState, condition: &str) -> ErrorInfo {
    match state {
        DeliveryState::Rejected(Some(error)) => {
            assert_eq!(error.condition, *condition, "{error:?}");
            error
        }
        other => panic!("expected a rejection with {condition}, found {other:?}"),
    }
}

/// The octets of a lock token from a delivery-tag, which has the layout of a .NET Guid.
#[track_caller]
pub fn token_of_tag(tag: &Bytes) -> [u8; 16] {
    let mut token: [u8; 16] = tag[..].try_into().expect("16 octets");
    token[..4].reverse();
    token[4..6].reverse();
    token[6..8].reverse();
    token
}

/// Lock tokens as management takes them.
pub fn tokens(tokens: &[[u8; 16]]) -> Value {
    Value::Array(Array::uuids(tokens.iter().copied()))
}
