//! A broker just large enough to be measured: queues in memory, one task for each connection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use peeklock_protocol::condition::ErrorInfo;
use peeklock_protocol::connection::{AttachReply, Config, Connection, Event, LinkId};
use peeklock_protocol::delivery::{Delivery, OutgoingDelivery};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::sasl::SaslCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the broker does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Every so many-th send is rejected.
    RejectEvery(u64),
    /// Every so many-th message is put into the queue twice.
    RepeatEvery(u64),
    /// The connection is dropped after so many sends.
    HangUpAfter(u64),
    /// No link may be attached.
    RefuseAttach,
    /// Receivers settle first, whatever they ask for.
    FirstOnly,
    /// The first send waits for so long, once.
    PauseOnce(Duration),
}

#[derive(Debug)]
struct State {
    fault: Fault,
    queues: Mutex<HashMap<String, VecDeque<Bytes>>>,
    arrived: Notify,
    sends: AtomicU64,
    dispositions: AtomicU64,
    connections: AtomicU64,
}

#[derive(Debug)]
pub(super) struct TinyBroker {
    address: SocketAddr,
    state: Arc<State>,
}

impl TinyBroker {
    pub(super) async fn start(fault: Fault) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), fault).await
    }

    pub(super) async fn start_at(address: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            fault,
            queues: Mutex::default(),
            arrived: Notify::new(),
            sends: AtomicU64::new(0),
            dispositions: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let of_listener = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                of_listener.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Peer::new(Arc::clone(&of_listener)).serve(stream));
            }
        });
        Self { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn depth(&self, queue: &str) -> usize {
        let queues = self.state.queues.lock().expect("no panic while held");
        queues.get(queue).map_or(0, VecDeque::len)
    }

    pub(super) fn dispositions(&self) -> u64 {
        self.state.dispositions.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

struct Outgoing {
    queue: String,
    settled: bool,
    second: bool,
    next_tag: u32,
}

struct Peer {
    state: Arc<State>,
    connection: Connection,
    incoming: HashMap<LinkId, String>,
    outgoing: HashMap<LinkId, Outgoing>,
    pause: Option<Duration>,
    hang_up: bool,
}

impl Peer {
    fn new(state: Arc<State>) -> Self {
        let connection = Connection::server(Arc::new(Config::default()), Instant::now());
        let (incoming, outgoing) = (HashMap::new(), HashMap::new());
        Self { state, connection, incoming, outgoing, pause: None, hang_up: false }
    }

    async fn serve(mut self, mut stream: TcpStream) {
        let mut input = BytesMut::new();
        loop {
            let state = Arc::clone(&self.state);
            let arrived = state.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            while let Some(event) = self.connection.poll_event() {
                self.handle(event);
            }
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            self.deliver();
            self.connection.prepare_output(Instant::now());
            let mut bytes = BytesMut::new();
            self.connection.output().copy_into(&mut bytes);
            let done = self.hang_up || self.connection.is_closed();
            if self.hang_up || stream.write_all(&bytes).await.is_err() || done {
                return;
            }
            tokio::select! {
                read = stream.read_buf(&mut input) => match read {
                    Ok(0) | Err(_) => return,
                    // A violation is answered by what stands in the output.
                    Ok(_) => drop(self.connection.handle_input(&mut input, Instant::now())),
                },
                () = arrived => {}
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::SaslInit { mechanism, initial_response, .. } => {
                let known = b"\0RootManageSharedAccessKey\0SAS_KEY_VALUE";
                let right = &*mechanism == "ANONYMOUS"
                    || initial_response.is_some_and(|response| response[..] == known[..]);
                let code = if right { SaslCode::Ok } else { SaslCode::Auth };
                self.connection.sasl_outcome(code);
            }
            Event::Open(_) => self.connection.open(),
            Event::Attach { link, attach } => self.attach(link, &attach),
            Event::Delivery(delivery) => self.take(&delivery),
            Event::Settled { link, id, state, settled, .. } => {
                self.state.dispositions.fetch_add(1, Ordering::Relaxed);
                if !settled && self.outgoing.get(&link).is_some_and(|link| link.second) {
                    self.connection.settle_outgoing(link, id, state, true).expect("it is attached");
                }
            }
            Event::Credit { link, drain: true, .. } => {
                self.deliver();
                self.connection.drained(link).expect("it is attached");
            }
            _ => {}
        }
    }

    fn attach(&mut self, link: LinkId, attach: &Attach) {
        if self.state.fault == Fault::RefuseAttach {
            let error = ErrorInfo::new("amqp:not-found", "no such queue");
            self.connection.reject_attach(link, error).expect("it is pending");
            return;
        }
        let mut reply = AttachReply::default();
        if attach.role == Role::Sender {
            let address = attach.target.as_ref().and_then(|target| target.address());
            self.incoming.insert(link, address.expect("a target").to_owned());
        } else {
            let first_only = self.state.fault == Fault::FirstOnly;
            if first_only {
                reply.rcv_settle_mode = Some(ReceiverSettleMode::First);
            }
            let address = attach.source.as_ref().and_then(|source| source.address());
            let outgoing = Outgoing {
                queue: address.expect("a source").to_owned(),
                settled: attach.snd_settle_mode == Some(SenderSettleMode::Settled),
                second: attach.rcv_settle_mode == Some(ReceiverSettleMode::Second) && !first_only,
                next_tag: 0,
            };
            self.outgoing.insert(link, outgoing);
        }
        self.connection.accept_attach(link, reply).expect("it is pending");
        if attach.role == Role::Sender {
            self.connection.set_credit(link, 100).expect("it is attached");
        }
    }

    fn take(&mut self, delivery: &Delivery) {
        let sends = self.state.sends.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = DeliveryState::Accepted;
        let mut copies = 1;
        match self.state.fault {
            Fault::RejectEvery(nth) if sends.is_multiple_of(nth) => {
                let error = ErrorInfo::new("amqp:resource-limit-exceeded", "full");
                state = DeliveryState::Rejected(Some(error));
                copies = 0;
            }
            Fault::RepeatEvery(nth) if sends.is_multiple_of(nth) => copies = 2,
            Fault::HangUpAfter(count) if count < sends => self.hang_up = true,
            Fault::PauseOnce(pause) if sends == 1 => self.pause = Some(pause),
            _ => {}
        }
        let queue = self.incoming.get(&delivery.link).expect("it is attached");
        let mut queues = self.state.queues.lock().expect("no panic while held");
        let queue = queues.entry(queue.clone()).or_default();
        for _ in 0..copies {
            queue.push_back(Bytes::copy_from_slice(&delivery.payload));
        }
        drop(queues);
        self.state.arrived.notify_waiters();
        let settle = self.connection.settle_incoming(delivery.link, delivery.id, state, true);
        settle.expect("it is attached");
        if self.connection.credit(delivery.link) < 50 {
            self.connection.set_credit(delivery.link, 100).expect("it is attached");
        }
    }

    fn deliver(&mut self) {
        let mut queues = self.state.queues.lock().expect("no panic while held");
        for (link, outgoing) in &mut self.outgoing {
            let queue = queues.entry(outgoing.queue.clone()).or_default();
            while 0 < self.connection.sendable(*link) {
                let Some(message) = queue.pop_front() else { break };
                let delivery = OutgoingDelivery {
                    tag: &outgoing.next_tag.to_be_bytes(),
                    message_format: 0,
                    settled: outgoing.settled,
                    state: None,
                    parts: &[message],
                };
                self.connection.send(*link, delivery).expect("there is credit");
                outgoing.next_tag += 1;
            }
        }
    }
}
