//! The endpoint in memory: an engine in the client's role on one side, a core on the other that is
//! asked, or answers, when the test says so.

mod credits;
mod links;
mod pressure;
mod requests;
mod rights;
mod transactions;

use bytes::Bytes;
use peeklock_core::{
    Broker, BrokerSettings, EntityPath, Error, QueueSettings, Reply, SeededIds, Settlement,
};
use peeklock_protocol::DeliveryState;
use peeklock_protocol::connection::{ClientOpen, ClientSasl, SessionId};
use peeklock_protocol::delivery::OutgoingDelivery;
use peeklock_protocol::message::Message;
use peeklock_protocol::performative::{Attach, Role};
use peeklock_protocol::terminus::{Source, TargetNode};

use super::*;
use crate::config::MetricsSettings;
use crate::pressure::{IdentityLimits, Shares};

const AUTHORIZE_WITHIN: Duration = Duration::from_secs(20);

/// A client, a connection of the broker, and a core with the queue `orders`.
struct World {
    client: Connection,
    endpoint: Endpoint,
    core: Broker,
    clock: Clock,
    now: Instant,
    /// What the client was told and the test has not looked at.
    events: Vec<Event>,
    to_broker: BytesMut,
    to_client: BytesMut,
}

fn everything() -> ClientSasl {
    let (user, password) = ("RootManageSharedAccessKey".into(), "SAS_KEY_VALUE".into());
    ClientSasl::Plain { user, password }
}

impl World {
    /// Of a client that may do everything.
    fn new() -> Self {
        Self::with(everything(), Config::default(), QueueSettings::default())
    }

    fn with(sasl: ClientSasl, engine: Config, queue: QueueSettings) -> Self {
        let authority = Arc::new(Authority::new(Vec::new(), None, true));
        let engine = Arc::new(engine);
        let clock = Clock::steerable();
        let settings = EndpointSettings {
            engine_with_certificate: Arc::clone(&engine),
            engine,
            clock: clock.clone(),
            authority,
            authorize_within: AUTHORIZE_WITHIN,
            settle_within: Duration::ZERO,
            metrics: Metrics::new(MetricsSettings::default()),
            memory: Memory::new(Shares::of_machine()),
            identities: Identities::new(IdentityLimits::default()),
            audit: Audit::nowhere(),
            tracer: None,
        };
        let endpoint = Endpoint::new(1, Arc::new(settings), false, None);
        let now = Instant::now();
        let mut core = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let path = EntityPath::for_new_entity("orders").unwrap();
        let command = Command::EnsureQueue { origin: None, path, settings: queue };
        core.handle(clock.now(), command);
        let open = ClientOpen { sasl, ..ClientOpen::default() };
        let mut world = Self {
            client: Connection::client(Arc::new(Config::default()), now, open),
            endpoint,
            core,
            clock,
            now,
            events: Vec::new(),
            to_broker: BytesMut::new(),
            to_client: BytesMut::new(),
        };
        world.run();
        world
    }

    /// Passes bytes to and fro until both are silent. The core is not asked.
    fn exchange(&mut self) {
        loop {
            self.client.prepare_output(self.now);
            self.client.output().copy_into(&mut self.to_broker);
            self.endpoint.handle_input(&mut self.to_broker, self.now);
            self.endpoint.end_turn(self.now);
            let output = self.endpoint.output(self.now);
            if output.is_empty() {
                return;
            }
            output.copy_into(&mut self.to_client);
            let _ = self.client.handle_input(&mut self.to_client, self.now);
            self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        }
    }

    /// What the core makes of the commands so far, not yet given to the endpoint.
    fn answers(&mut self) -> Vec<Letter> {
        for command in self.endpoint.take_commands() {
            self.core.handle(self.clock.now(), command);
        }
        let effects = self.core.take_turn().effects;
        effects.into_iter().map(|effect| Letter::Effect(effect.kind)).collect()
    }

    fn hand_in(&mut self, letters: Vec<Letter>) {
        for letter in letters {
            self.endpoint.handle_letter(letter);
        }
        self.endpoint.end_turn(self.now);
        self.exchange();
    }

    /// Lets bytes, commands and answers flow until nothing moves any more.
    fn run(&mut self) {
        loop {
            self.exchange();
            let letters = self.answers();
            if letters.is_empty() {
                return;
            }
            self.hand_in(letters);
        }
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        self.endpoint.end_turn(self.now);
        self.exchange();
    }

    fn session(&mut self) -> SessionId {
        self.client.begin().unwrap()
    }

    fn attach(&mut self, session: SessionId, attach: Attach) -> LinkId {
        let link = self.client.attach(session, attach).unwrap();
        self.run();
        link
    }

    fn sender(&mut self) -> LinkId {
        let session = self.session();
        self.attach(session, to_node("s", "orders"))
    }

    fn receiver(&mut self) -> LinkId {
        let session = self.session();
        self.attach(session, from_node("r", "orders", "here"))
    }

    fn send(&mut self, link: LinkId, message: &Message, settled: bool) {
        self.send_wire(link, &message.to_bytes(), settled);
    }

    fn send_wire(&mut self, link: LinkId, wire: &Bytes, settled: bool) {
        let parts = [wire.clone()];
        let delivery =
            OutgoingDelivery { tag: b"t", message_format: 0, settled, state: None, parts: &parts };
        self.client.send(link, delivery).unwrap();
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Messages that have come, with the link each came on.
    fn received(&mut self) -> Vec<peeklock_protocol::delivery::Delivery> {
        let deliveries = self.take_events().into_iter().filter_map(|event| match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        deliveries.collect()
    }

    /// With which condition a link was ended by the broker.
    fn detached(&mut self, link: LinkId) -> Option<String> {
        self.take_events().into_iter().find_map(|event| match event {
            Event::Detach { link: found, error: Some(error), .. } if found == link => {
                Some(error.condition.as_str().to_owned())
            }
            _ => None,
        })
    }

    /// With which condition the broker closed the connection.
    fn closed(&mut self) -> Option<String> {
        self.take_events().into_iter().find_map(|event| match event {
            Event::Closed { error: Some(error) } => Some(error.condition.as_str().to_owned()),
            _ => None,
        })
    }

    fn message_count(&self) -> u64 {
        self.core.queue_stats().map(|stats| stats.active_count).sum()
    }

    fn receiver_count(&self) -> u64 {
        self.core.queue_stats().map(|stats| stats.receiver_count).sum()
    }
}

/// An answer of the core's, made by hand.
fn reply(to: Origin, result: Result<Reply, Error>) -> Letter {
    Letter::Effect(EffectKind::Reply { to, result })
}

fn to_node(name: &str, node: &str) -> Attach {
    Attach {
        source: Some(Source::new("here").into()),
        target: Some(TargetNode::new(node).into()),
        ..Attach::new(name, 0, Role::Sender)
    }
}

fn from_node(name: &str, node: &str, address: &str) -> Attach {
    Attach {
        source: Some(Source::new(node).into()),
        target: Some(TargetNode::new(address).into()),
        ..Attach::new(name, 0, Role::Receiver)
    }
}
