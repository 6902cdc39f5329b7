//! One connection as the broker sees it: the engine, the peer's claims, its links, and the commands
//! that a turn comes to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use peeklock_core::{
    ClosedLinks, Command, EffectKind, EntityId, Error, Origin, ReceiverId, Timestamp,
};
use peeklock_protocol::Connection;
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{Config, Event, LinkId};
use peeklock_protocol::delivery::DeliveryId;
use peeklock_protocol::output::Output;
use peeklock_protocol::performative::Open;
use peeklock_protocol::sasl::SaslCode;
use peeklock_protocol::value::Symbol;
use tokio::sync::watch;
use tracing::{Span, debug, debug_span, info, info_span};

use super::attach::ATTACH;
use super::condition::Refusal;
use super::credits::Credits;
use super::dynamic::Temporary;
use super::faults::Injected;
use super::link::{Link, Node, RequestLink, ResponseLink};
use super::links::Links;
use super::request::PendingRequest;
use crate::audit::{self, Audit, Event as Audited, Outcome};
use crate::auth::{self, Authority, Certificate, Claims, Operation, Resource};
use crate::clock::{Clock, ClockChanges};
use crate::mailbox::Letter;
use crate::metrics::{CreditRole, Limit, Metrics};
use crate::namespaces::{Gone, Namespace, OtherNamespace, Place};
use crate::pressure::{Holding, Identities, Membership, Memory};
use crate::traces::{Tracer, Unsettled};

/// Bytes of messages sent by the peer and not yet on disk above which its socket is not read. The
/// credit of a link counts messages and cannot bound bytes.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Added to the end of a token before looking, so that a clock that counts milliseconds has passed it.
const CLAIMS_SLACK: Duration = Duration::from_millis(1);

/// What all connections of a broker share.
pub(crate) struct EndpointSettings {
    pub(crate) engine: Arc<Config>,
    /// The same for a client with a certificate.
    pub(crate) engine_with_certificate: Arc<Config>,
    /// What everything with a [`Timestamp`] goes by.
    pub(crate) clock: Clock,
    pub(crate) authority: Arc<Authority>,
    /// A connection that has been granted nothing by then is closed (the service: about 20 s).
    pub(crate) authorize_within: Duration,
    /// For how long a peer may settle what it has when the broker stops.
    pub(crate) settle_within: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) audit: Audit,
    /// Tells of messages, if somebody collects that.
    pub(crate) tracer: Option<Tracer>,
}

/// See the module.
pub(crate) struct Endpoint {
    pub(super) id: u64,
    pub(super) engine: Connection,
    /// Those of its namespace.
    pub(super) settings: Arc<EndpointSettings>,
    /// Where it belongs, if there is a choice.
    place: Option<Box<Place>>,
    /// What goes wrong because a test wants it.
    pub(super) injected: Option<Box<Injected>>,
    pub(super) claims: Claims,
    /// What the peer has proven in TLS; it counts once it is asked for with SASL.
    certificate: Option<Certificate>,
    pub(super) links: Links,
    /// What was made for links.
    pub(super) temporaries: BTreeMap<LinkId, Temporary>,
    pub(super) requests: HashMap<(LinkId, DeliveryId), PendingRequest>,
    pub(super) commands: Vec<Command>,
    /// Requests that are answered when the driver has caught up, and not passed to it yet.
    pub(super) catch_ups: Vec<Origin>,
    /// The credit of its links, for the metrics.
    pub(super) credits: Credits,
    /// What it has delivered and a collector is to be told more of.
    pub(super) unsettled: Unsettled,
    /// Links with credit that the session window or the output does not let through.
    pub(super) blocked: BTreeSet<LinkId>,
    pub(super) pending_bytes: usize,
    /// What it has of the memory for connections.
    pub(super) holding: Holding,
    /// Octets that its task has for what it reads.
    pub(super) read_buffer: usize,
    /// Counts it for its identity, if that is limited.
    pub(super) membership: Option<Membership>,
    /// Its identity has as many connections as it may have without it.
    pub(super) is_one_too_many: bool,
    /// The peer has sent its open.
    pub(super) is_open: bool,
    /// Senders that got no credit, and when they are looked at again.
    pub(super) starved: BTreeSet<LinkId>,
    pub(super) relief_due: Option<Instant>,
    /// Transactions declared before any right was shown.
    pub(super) unproven_declares: u32,
    /// Heads of outgoing messages are built here, so that one allocation serves many.
    pub(super) scratch: BytesMut,
    /// The host the peer believes to talk to; appears in texts about entities.
    pub(super) host: String,
    /// What the peer calls itself.
    pub(super) container: String,
    /// Where the peer is.
    peer: Option<IpAddr>,
    /// Who it is, once it has shown that.
    identity: Option<String>,
    over_limit: bool,
    /// The broker stops: the peer is given nothing new.
    pub(super) winding_down: bool,
    /// When a peer without claims is closed.
    authorize_by: Instant,
    /// When the next thing that depends on claims is due.
    claims_due: Option<Instant>,
    /// When the first of the open requests must be answered, with or without a result.
    pub(super) requests_due: Option<Instant>,
}

impl Endpoint {
    pub(crate) fn new(
        id: u64,
        settings: Arc<EndpointSettings>,
        over_limit: bool,
        certificate: Option<Certificate>,
    ) -> Self {
        let now = Instant::now();
        let engine = match certificate {
            Some(_) => &settings.engine_with_certificate,
            None => &settings.engine,
        };
        Self {
            id,
            engine: Connection::server(Arc::clone(engine), now),
            claims: Claims::default(),
            certificate,
            links: Links::new(Arc::clone(&settings.metrics)),
            temporaries: BTreeMap::new(),
            requests: HashMap::new(),
            commands: Vec::new(),
            catch_ups: Vec::new(),
            credits: Credits::new(Arc::clone(&settings.metrics)),
            unsettled: Unsettled::default(),
            blocked: BTreeSet::new(),
            pending_bytes: 0,
            holding: settings.memory.holding(),
            read_buffer: 0,
            membership: None,
            is_one_too_many: false,
            is_open: false,
            starved: BTreeSet::new(),
            relief_due: None,
            unproven_declares: 0,
            scratch: BytesMut::new(),
            host: String::from("localhost"),
            container: String::new(),
            peer: None,
            identity: None,
            over_limit,
            winding_down: false,
            authorize_by: now + settings.authorize_within,
            claims_due: Some(now + settings.authorize_within),
            requests_due: None,
            settings,
            place: None,
            injected: None,
        }
    }

    /// Knows where the peer is.
    pub(crate) fn from(self, peer: IpAddr) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// Something that this peer has asked for, for the audit log.
    pub(super) fn audited(&self, door: audit::Door, operation: &str, outcome: Outcome) -> Audited {
        Audited::new(door, operation, outcome).who(self.claims.who()).from(self.peer, &self.host)
    }

    /// Tells the log who the peer is, once.
    pub(super) fn note_identity(&mut self) {
        if self.identity.is_none() {
            self.identity = self.claims.who();
            if let Some(identity) = &self.identity {
                Span::current().record("identity", identity.as_str());
            }
        }
    }

    /// Finds its namespace by what the peer says, beginning with one of which it has the settings.
    pub(crate) fn at(self, place: Place) -> Self {
        Self { place: Some(Box::new(place)), ..self }
    }

    /// The namespace whose core is to be asked, once: before the first commands.
    pub(crate) fn entered(&mut self) -> Option<Arc<Namespace>> {
        self.place.as_mut()?.take_entered()
    }

    /// From now on it belongs where it is.
    pub(super) fn enter(&mut self) {
        if let Some(place) = &mut self.place {
            place.enter();
        }
    }

    /// Goes on with what the peer has told of where it belongs.
    pub(super) fn find_place<T>(&mut self, look: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let place = self.place.as_mut()?;
        let found = look(place);
        if !Arc::ptr_eq(place.namespace().settings(), &self.settings) {
            self.settings = Arc::clone(place.namespace().settings());
        }
        Some(found)
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Tells when [`Endpoint::clock_changed`] must be called.
    pub(crate) fn clock_changes(&self) -> ClockChanges {
        self.settings.clock.changes()
    }

    /// Tells when [`Endpoint::rules_changed`] must be called.
    pub(crate) fn rule_changes(&self) -> watch::Receiver<u64> {
        self.settings.authority.changes()
    }

    /// Rules or keys were changed: what they granted may be gone, and links go with it.
    pub(crate) fn rules_changed(&mut self, now: Instant) {
        if self.claims.is_empty() {
            return;
        }
        self.claims.look_again(&self.settings.authority);
        if self.claims.is_empty() {
            self.authorize_by = now + self.settings.authorize_within;
        }
        self.claims_changed(now);
    }

    /// Somebody has steered the clock: tokens end sooner or later than it seemed.
    pub(crate) fn clock_changed(&mut self, now: Instant) {
        // How long a peer may go without rights is a matter of real time.
        if !self.claims.is_empty() {
            self.claims_changed(now);
        }
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.pending_bytes < PENDING_BYTES_MAX && !self.engine.is_closed()
    }

    pub(crate) fn read_hint(&self) -> usize {
        self.engine.read_hint()
    }

    /// What is to be written. Merges the acknowledgements and credit of the turn first.
    pub(crate) fn output(&mut self, now: Instant) -> &mut Output {
        self.engine.prepare_output(now);
        self.engine.output()
    }

    /// Everything is said: the socket may go once the output is written.
    pub(crate) fn is_finished(&self) -> bool {
        self.engine.is_closed()
    }

    /// When [`Endpoint::end_turn`] must be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let dues = [
            self.engine.poll_timeout(),
            self.claims_due,
            self.requests_due,
            self.deaf_until(),
            self.relief_due,
        ];
        dues.into_iter().flatten().min()
    }

    pub(crate) fn handle_input(&mut self, buffer: &mut BytesMut, now: Instant) {
        if let Err(fatal) = self.engine.handle_input(buffer, now) {
            info!(error = %fatal, "the peer broke the protocol, its connection is closed");
            buffer.clear();
        }
        self.drain_events(now);
    }

    pub(crate) fn handle_eof(&mut self) {
        self.engine.handle_eof();
        self.drain_events(Instant::now());
    }

    pub(crate) fn handle_letter(&mut self, letter: Letter) {
        if let Some(letter) = self.heard(letter) {
            self.act_on(letter);
        }
    }

    pub(super) fn act_on(&mut self, letter: Letter) {
        match letter {
            Letter::Effect(EffectKind::Reply { to, result }) => self.handle_reply(to, result),
            Letter::Effect(EffectKind::Deliver { receiver, delivery }) => {
                self.deliver(receiver, &delivery);
            }
            Letter::Effect(EffectKind::Drained { receiver }) => self.drained(receiver),
            Letter::Effect(EffectKind::ReceiverClosed { receiver, error }) => {
                self.receiver_closed(receiver, &error);
            }
            Letter::CaughtUp { to } => self.caught_up(to),
            Letter::Fault(fault) => self.suddenly(&fault),
            Letter::Effect(EffectKind::EntityClosed { entity, scope, error }) => {
                self.entity_closed(entity, scope, &error);
            }
            // Reads and rules are the driver's business; it sends none to a connection.
            Letter::Effect(EffectKind::Read { .. } | EffectKind::AccessChanged { .. }) => {}
            Letter::StoreLost => {
                let text = "The broker could not store data and starts over. Please reconnect.";
                self.close(condition::CONNECTION_FORCED, text);
            }
        }
    }

    /// An entity is gone, or switched off: its links here go, as far as the core does not know them.
    fn entity_closed(&mut self, entity: EntityId, scope: ClosedLinks, error: &Error) {
        let nodes: Vec<Node> = self
            .links
            .values()
            .filter_map(|link| match link {
                Link::Requests(link) if link.entity == Some(entity) => Some(link.node.clone()),
                _ => None,
            })
            .collect();
        let is_meant = |link: &Link| match (link, scope) {
            (Link::Incoming(link), _) => link.entity == Some(entity),
            (Link::Requests(link), ClosedLinks::All) => link.entity == Some(entity),
            (Link::Responses(link), ClosedLinks::All) => nodes.contains(&link.node),
            (Link::Requests(_) | Link::Responses(_), ClosedLinks::Senders)
            | (Link::Outgoing(_) | Link::Lookup(_) | Link::Coordinator(_), _) => false,
        };
        let meant: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| is_meant(link)).map(|(id, _)| *id).collect();
        for id in meant {
            self.detach(id, Refusal::of(error).error_info(&self.host));
        }
    }

    /// Ends a turn: time passes, blocked links are tried again, events are drained.
    pub(crate) fn end_turn(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
            self.drain_events(now);
        }
        if self.claims_due.is_some_and(|due| due <= now) {
            self.check_claims(now);
        }
        if self.requests_due.is_some_and(|due| due <= now) {
            self.give_up_requests(now);
        }
        if self.injected.is_some() {
            self.hear_again(now);
        }
        if self.relief_due.is_some_and(|due| due <= now) {
            self.relieve();
        }
        self.retry_blocked();
        self.count_reached();
        self.credits.tell();
        self.note_held();
    }

    /// All output is on its way. Says whether links that had waited for that have more to say, or to ask.
    pub(crate) fn goes_on(&mut self) -> bool {
        if self.blocked.is_empty() {
            return false;
        }
        self.retry_blocked();
        !self.commands.is_empty() || !self.engine.output().is_empty()
    }

    /// Looks again at links that had credit and could not send.
    fn retry_blocked(&mut self) {
        for link in std::mem::take(&mut self.blocked) {
            self.credit_changed(link);
        }
    }

    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        let commands = std::mem::take(&mut self.commands);
        if self.injected.is_some() { self.injected(commands) } else { commands }
    }

    /// What to ask the driver behind the commands: [`crate::driver::Input::CatchUp`] for each.
    pub(crate) fn take_catch_ups(&mut self) -> Vec<Origin> {
        std::mem::take(&mut self.catch_ups)
    }

    /// The broker stops: from now on the peer is given nothing new, while what it has may be settled and
    /// what it has sent is answered. Tells for how long that may take.
    pub(crate) fn wind_down(&mut self) -> Duration {
        self.winding_down = true;
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.update_demand(link);
        }
        self.settings.settle_within
    }

    /// Nothing is under way, of what a peer would have to do again.
    pub(crate) fn is_idle(&self) -> bool {
        let is_idle = |(id, link): (&LinkId, &Link)| match link {
            Link::Incoming(link) => link.pending.is_empty(),
            Link::Outgoing(link) => {
                link.pending.is_empty() && self.engine.unsettled_count(*id) == 0
            }
            Link::Requests(_) | Link::Responses(_) | Link::Lookup(_) | Link::Coordinator(_) => true,
        };
        self.requests.is_empty() && self.links.iter().all(is_idle)
    }

    /// The connection has to go, and the peer is told why.
    pub(crate) fn stop(&mut self, why: Gone) {
        let text = match why {
            Gone::Stopping => "The broker is stopping. Please reconnect.",
            Gone::Dropped => "The namespace is gone.",
        };
        self.close(condition::CONNECTION_FORCED, text);
    }

    /// The last commands of a connection: its receivers ask for nothing more, and what it has not
    /// committed is rolled back.
    pub(crate) fn leave(mut self) -> Vec<Command> {
        for (id, link) in self.links.iter() {
            match link {
                // Also one whose attach the core has not answered: it handles commands in order.
                Link::Outgoing(link) => self.commands.extend(link.last_commands()),
                Link::Coordinator(_) => {
                    let (connection, link) = (self.id, id.to_u64());
                    self.commands.push(Command::CloseCoordinator { connection, link });
                }
                Link::Incoming(_) | Link::Requests(_) | Link::Responses(_) | Link::Lookup(_) => {}
            }
        }
        if let Some(tracer) = &self.settings.tracer {
            tracer.keep_all(std::mem::take(&mut self.unsettled));
        }
        for (id, temporary) in std::mem::take(&mut self.temporaries) {
            let origin = self.origin(id, ATTACH);
            self.commands.push(temporary.delete(origin));
        }
        self.commands
    }

    pub(super) fn origin(&self, link: LinkId, delivery: DeliveryId) -> Origin {
        Origin { connection: self.id, link: link.to_u64(), delivery: delivery.0 }
    }

    pub(super) fn receiver(&self, link: LinkId) -> ReceiverId {
        ReceiverId { connection: self.id, link: link.to_u64() }
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            self.handle_event(event, now);
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::SaslInit { mechanism, initial_response, hostname } => {
                if let Some(host) = &hostname {
                    // Nothing was entered before.
                    let _ = self.find_place(|place| place.name(host));
                }
                self.authenticate(&mechanism, initial_response.as_deref());
            }
            // No mechanism of ours has a second step.
            Event::SaslResponse(_) => self.engine.sasl_outcome(SaslCode::Auth),
            Event::Open(open) => self.open(&open),
            Event::End { links, .. } => links.into_iter().for_each(|link| self.lose(link)),
            Event::Attach { link, attach } => self.attach(link, &attach),
            Event::Detach { link, error, closed } => {
                let condition = error.as_ref().map(|error| error.condition.as_str());
                self.link_span(link).in_scope(|| debug!(condition, "link detached"));
                if closed && error.is_none() {
                    self.unsubscribe(link);
                }
                self.lose(link);
            }
            Event::Credit { link, .. } => self.credit_changed(link),
            Event::SessionWindow(_) => {
                self.retry_blocked();
            }
            Event::Delivery(delivery) => self.receive(delivery, now),
            Event::Oversize { link, id, settled, state } => {
                self.refuse_oversize(link, id, settled, state.as_ref());
            }
            Event::Settled { link, id, tag, state, settled } => {
                self.settle(link, id, &tag, state, settled);
            }
            Event::Closed { error } => {
                if let Some(error) = error {
                    debug!(condition = error.condition.as_str(), "the peer closed with an error");
                }
            }
            Event::Dropped { link, id, settled, state } => {
                self.refuse_dropped(link, id, settled, state.as_ref());
            }
            // The sender gave up: nothing came of it but a used credit.
            Event::Aborted { link } => {
                self.top_up(link);
                self.top_up_coordinator(link);
            }
            // A session is the engine's business; the rest only an engine in the client role meets.
            Event::Begin(_)
            | Event::SaslOutcome(_)
            | Event::AttachReply { .. }
            | Event::SettledBySender { .. }
            | Event::Drained { .. } => {}
        }
    }

    fn authenticate(&mut self, mechanism: &Symbol, response: Option<&[u8]>) {
        if mechanism.as_str() == "PLAIN" {
            self.find_place(|place| place.show_plain(response));
        }
        let authority = &self.settings.authority;
        let judged = match mechanism.as_str() {
            "EXTERNAL" => auth::external(authority, self.certificate.as_ref()),
            mechanism => auth::sasl(authority, mechanism, response),
        };
        match judged {
            Ok(granted) => {
                if let Some(granted) = granted {
                    self.claims.grant_connection(granted);
                    self.note_identity();
                    self.claims_changed(Instant::now());
                    self.enter();
                }
                self.engine.sasl_outcome(SaslCode::Ok);
            }
            Err(denied) => {
                self.settings.metrics.authentication_failed(denied);
                info!(mechanism = mechanism.as_str(), %denied, "authentication failed");
                // What else a peer writes there is not for the audit log.
                let operation = match mechanism.as_str() {
                    "PLAIN" => "sasl PLAIN",
                    "EXTERNAL" => "sasl EXTERNAL",
                    _ => "sasl",
                };
                let event =
                    || self.audited(audit::Door::Amqp, operation, Outcome::Denied).because(denied);
                self.settings.audit.refused(event);
                self.engine.sasl_outcome(SaslCode::Auth);
            }
        }
    }

    fn open(&mut self, open: &Open) {
        open.container_id.as_str().clone_into(&mut self.container);
        if let Some(host) = &open.hostname {
            host.split(':').next().unwrap_or_default().clone_into(&mut self.host);
            if let Some(Err(error @ OtherNamespace)) = self.find_place(|place| place.name(host)) {
                info!(host = host.as_str(), "the host is not that of the peer's namespace");
                self.close(condition::NOT_ALLOWED, &error.to_string());
                return;
            }
        }
        debug!(container = open.container_id.as_str(), "opened");
        self.is_open = true;
        self.close_one_too_many();
        if self.over_limit {
            let text = "The maximum number of connections to this broker is reached.";
            self.close(condition::RESOURCE_LIMIT_EXCEEDED, text);
        }
    }

    pub(super) fn close(&mut self, condition: &'static str, text: &str) {
        self.engine.close(Some(ErrorInfo::new(condition, text)));
    }

    /// The span of a link, in that of its connection, for lines of the level debug. It is made where a
    /// line is written, so that it costs nothing where none is.
    pub(super) fn link_span(&self, id: LinkId) -> Span {
        let (link, role) = (id.to_u64(), self.role(id));
        debug_span!("link", link, role, entity = self.entity(id))
    }

    /// The same for lines that are always there.
    fn loud_link_span(&self, id: LinkId) -> Span {
        let (link, role) = (id.to_u64(), self.role(id));
        info_span!("link", link, role, entity = self.entity(id))
    }

    fn role(&self, id: LinkId) -> Option<&'static str> {
        self.links.get(&id).map(Link::role)
    }

    /// What a link is about, for the log.
    pub(super) fn entity(&self, id: LinkId) -> Option<String> {
        self.links.get(&id)?.path().map(ToString::to_string)
    }

    /// A link is gone, whoever ended it.
    pub(super) fn lose(&mut self, id: LinkId) {
        self.blocked.remove(&id);
        self.starved.remove(&id);
        let gone = self.links.remove(&id);
        self.count_links();
        match gone {
            Some(Link::Outgoing(mut link)) => {
                self.credits.note(CreditRole::Receiver, &mut link.credit, 0);
                // Also when the core has not answered the attach: it handles commands in order.
                self.commands.extend(link.last_commands());
            }
            Some(Link::Incoming(mut link)) => {
                self.credits.note(CreditRole::Sender, &mut link.credit, 0);
                let bytes: usize = link.pending.iter().map(|send| send.bytes).sum();
                self.pending_bytes -= bytes;
            }
            Some(Link::Requests(_)) => self.requests.retain(|(link, _), _| *link != id),
            Some(Link::Coordinator(_)) => {
                let (connection, link) = (self.id, id.to_u64());
                self.commands.push(Command::CloseCoordinator { connection, link });
            }
            Some(Link::Responses(_) | Link::Lookup(_)) | None => {}
        }
        if let Some(temporary) = self.temporaries.remove(&id) {
            // Nobody is there any more to hear of it.
            let origin = self.origin(id, ATTACH);
            self.commands.push(temporary.delete(origin));
        }
    }

    /// Cuts links whose rights have ended, and connections that never showed one.
    fn check_claims(&mut self, now: Instant) {
        let wall = self.settings.clock.now();
        if self.claims.is_empty() && self.authorize_by <= now {
            self.settings.metrics.limit_hit(Limit::AuthorizationTimeout);
            info!("the peer proved no right in time, its connection is closed");
            let text = "The connection was not authorized within the allowed time.";
            self.close(condition::UNAUTHORIZED_ACCESS, text);
            self.claims_due = None;
            return;
        }
        let expired: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| !self.still_allowed(link, wall))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let entity = self.entity(id).unwrap_or_default();
            let event = || {
                let event = self.audited(audit::Door::Amqp, "keep a link", Outcome::Denied);
                event.about(&entity).because("the right to it has ended")
            };
            self.settings.audit.refused(event);
            let text = "The right to this link has ended: its token has expired or was replaced by one \
                        that grants less, or its rule or key was changed.";
            self.detach(id, ErrorInfo::new(condition::UNAUTHORIZED_ACCESS, text));
        }
        let had_claims = !self.claims.is_empty();
        self.claims.forget_expired(wall);
        if had_claims && self.claims.is_empty() {
            self.authorize_by = now + self.settings.authorize_within;
        }
        let next = self.claims.next_expiry();
        let wait = next.and_then(|expiry| self.settings.clock.until(expiry));
        let expiry = wait.map(|wait| now + wait + CLAIMS_SLACK);
        // Rights that came with PLAIN never expire, and none does while the clock is frozen: then there
        // is nothing to wake up for.
        self.claims_due = expiry.or_else(|| self.claims.is_empty().then_some(self.authorize_by));
    }

    fn still_allowed(&self, link: &Link, now: Timestamp) -> bool {
        let allowed = |operation, what: Resource<'_>| {
            auth::authorize(&self.claims, operation, what, now).is_ok()
        };
        match link {
            Link::Incoming(link) => {
                let via = link.via.as_ref().map(|via| &via.path);
                // A message that says where it goes is judged by that when it comes.
                [link.path.as_ref(), via]
                    .into_iter()
                    .flatten()
                    .all(|path| allowed(Operation::LinkToSend, path.into()))
            }
            Link::Outgoing(link) => allowed(Operation::LinkToReceive, (&link.path).into()),
            Link::Lookup(link) => {
                let path = link.path.as_ref();
                path.is_none_or(|path| allowed(Operation::LinkToUnsubscribe, path.into()))
            }
            // What is done with a transaction needs the right to do it.
            Link::Coordinator(_) => true,
            Link::Requests(RequestLink { node, .. })
            | Link::Responses(ResponseLink { node, .. }) => {
                node.asked().is_none_or(|(operation, node)| allowed(operation, node))
            }
        }
    }

    /// Claims have changed: a token may grant less than the one it replaced.
    pub(super) fn claims_changed(&mut self, now: Instant) {
        self.join_identity();
        self.claims_due = Some(now);
    }

    /// That a link is ended or was refused, and why.
    pub(super) fn tell_of_link(&self, id: LinkId, error: &ErrorInfo, what: &str) {
        let condition = error.condition.as_str();
        let description = error.description.as_deref().unwrap_or_default();
        self.loud_link_span(id).in_scope(|| info!(condition, description, "{what}"));
    }

    pub(super) fn detach(&mut self, id: LinkId, error: ErrorInfo) {
        self.tell_of_link(id, &error, "the link is detached");
        // A link that went away in the same turn needs no detach.
        let _ = self.engine.detach(id, true, Some(error));
        self.lose(id);
    }
}

#[cfg(test)]
mod tests;
