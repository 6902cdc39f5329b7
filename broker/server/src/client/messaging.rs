//! Messages over AMQP: one connection, tokens for what is asked of it, and links.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peeklock_protocol::connection::{ClientOpen, ClientSasl, Config, Event, LinkId, SessionId};
use peeklock_protocol::delivery::{Delivery, DeliveryId, OutgoingDelivery};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Map, Str, Symbol, Value};
use tokio::time::sleep_until;

use super::amqp::{ANSWER_WITHIN, Client};
use super::carrier::{Carrier, dial};
use super::failure::Failure;
use super::requests::Node;
use super::server::Server;
use super::token::LIFETIME_SECONDS;

/// The largest message of the broker, and what comes around it.
const MESSAGE_BYTES_MAX: u64 = 101 << 20;

/// Deliveries without an outcome that a command allows itself.
pub(super) const IN_FLIGHT: usize = 200;

/// Tokens are made again when this much of their time is over.
const RENEW_AFTER: Duration = Duration::from_secs(LIFETIME_SECONDS / 2);

const SESSION_FILTER: &str = "com.microsoft:session-filter";
/// How long the broker may look for a message session.
const TIMEOUT: &str = "com.microsoft:timeout";
const SELECTOR: &str = "apache.org:selector-filter:string";

/// What became of a delivery, once that is known.
pub(super) type Fate = Option<Option<DeliveryState>>;

/// See the module.
pub(super) struct Messaging<'s> {
    pub(super) server: &'s Server,
    pub(super) client: Client<Carrier>,
    pub(super) session: SessionId,
    /// Numbers links and deliveries.
    next: u64,
    /// Entities that a token was put for, and when the next one is due.
    granted: HashMap<String, Instant>,
    pub(super) nodes: HashMap<String, Node>,
    pub(super) arrived: VecDeque<Delivery>,
    /// Deliveries sent, until their outcome was asked for.
    sent: HashMap<(LinkId, DeliveryId), Fate>,
    /// Deliveries received whose settlement waits for the broker's word.
    settling: HashMap<(LinkId, DeliveryId), Fate>,
    drained: HashSet<LinkId>,
    /// Answers to attaches.
    attached: HashMap<LinkId, Box<Attach>>,
}

/// What to receive, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiving {
    pub(super) address: String,
    /// A message session by its id, or the next one that is free.
    pub(super) session: Option<Wanted>,
    pub(super) selector: Option<String>,
    /// Messages are gone once they are sent.
    pub(super) delete: bool,
    /// How long to wait for a message session that is free.
    pub(super) wait: Duration,
}

/// Which message session.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Named(String),
    Next,
}

/// A link to receive on.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    pub(super) link: LinkId,
    /// The message session it holds.
    pub(super) session: Option<String>,
}

impl<'s> Messaging<'s> {
    pub(super) async fn open(server: &'s Server) -> Result<Self, Failure> {
        let carrier = Carrier::from(dial(server, &server.amqp).await?);
        let config = Config {
            max_message_size: MESSAGE_BYTES_MAX,
            partial_bytes_max: usize::try_from(MESSAGE_BYTES_MAX * 2).unwrap_or(usize::MAX),
            ..Config::default()
        };
        let open = ClientOpen {
            hostname: Some(Str::from(server.host.as_str())),
            container_id: Some(Str::from(format!("peeklock-cli-{}", std::process::id()))),
            sasl: ClientSasl::Anonymous,
            ..ClientOpen::default()
        };
        let (client, session) = Client::open(carrier, config, open).await?;
        Ok(Self {
            server,
            client,
            session,
            next: 0,
            granted: HashMap::new(),
            nodes: HashMap::new(),
            arrived: VecDeque::new(),
            sent: HashMap::new(),
            settling: HashMap::new(),
            drained: HashSet::new(),
            attached: HashMap::new(),
        })
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        Ok(self.client.close().await?)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Puts a token for an entity, unless there is one that lasts.
    pub(super) async fn authorize(&mut self, entity: &str) -> Result<(), Failure> {
        let is_good = |due: &Instant| Instant::now() < *due || !self.server.tokens_renew();
        if self.granted.get(entity).is_some_and(is_good) {
            return Ok(());
        }
        // First, so that asking does not ask for a token again.
        self.granted.insert(entity.to_owned(), Instant::now() + RENEW_AFTER);
        let (audience, token) = self.server.token("sb", entity);
        let put = Box::pin(self.put_token(&audience, &token)).await;
        if put.is_err() {
            self.granted.remove(entity);
        }
        put
    }

    /// Makes tokens again whose time comes to its end.
    pub(super) async fn renew(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let due: Vec<String> = self
            .granted
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for entity in due {
            self.authorize(&entity).await?;
        }
        Ok(())
    }

    /// Attaches a link that sends to an address.
    pub(super) async fn sender(&mut self, address: &str) -> Result<LinkId, Failure> {
        self.authorize(entity_of(address)).await?;
        let name = format!("cli-sender-{}-{}", std::process::id(), self.number());
        let mut attach = Attach::new(name.clone(), 0, Role::Sender);
        attach.snd_settle_mode = Some(SenderSettleMode::Unsettled);
        attach.rcv_settle_mode = Some(ReceiverSettleMode::First);
        attach.source = Some(Source::new(Str::from(name)).into());
        attach.target = Some(TargetNode::new(Str::from(address)).into());
        Ok(self.attach(attach, ANSWER_WITHIN).await?.0)
    }

    /// Attaches a link that receives. It has no credit yet.
    pub(super) async fn receiver(&mut self, wanted: &Receiving) -> Result<Receiver, Failure> {
        self.authorize(entity_of(&wanted.address)).await?;
        let name = format!("cli-receiver-{}-{}", std::process::id(), self.number());
        let mut attach = Attach::new(name.clone(), 0, Role::Receiver);
        attach.snd_settle_mode = Some(if wanted.delete {
            SenderSettleMode::Settled
        } else {
            SenderSettleMode::Unsettled
        });
        // The broker then says of each settlement whether it is on disk.
        attach.rcv_settle_mode = Some(if wanted.delete {
            ReceiverSettleMode::First
        } else {
            ReceiverSettleMode::Second
        });
        attach.max_message_size = Some(MESSAGE_BYTES_MAX);
        let mut filter = Map::new();
        match &wanted.session {
            Some(Wanted::Named(id)) => filter.insert(Symbol::from_static(SESSION_FILTER), &**id),
            Some(Wanted::Next) => filter.insert(Symbol::from_static(SESSION_FILTER), Value::Null),
            None => {}
        }
        if let Some(text) = &wanted.selector {
            let selector = Symbol::from_static(SELECTOR);
            let described = Value::Described(Box::new((selector.clone().into(), (&**text).into())));
            filter.insert(selector, described);
        }
        let mut source = Source::new(Str::from(wanted.address.as_str()));
        if !filter.is_empty() {
            source = source.with_filter(filter);
        }
        attach.source = Some(source.into());
        attach.target = Some(TargetNode::new(Str::from(name)).into());
        if let Some(Wanted::Next) = wanted.session {
            let millis = u32::try_from(wanted.wait.as_millis()).unwrap_or(u32::MAX);
            attach.properties = Some(Map::new().with(Symbol::from_static(TIMEOUT), millis));
        }
        let (link, reply) = self.attach(attach, ANSWER_WITHIN + wanted.wait).await?;
        let filter = reply.source.as_ref().and_then(|source| source.view().filter.as_ref());
        let session = filter.and_then(|filter| {
            let value = filter.get(SESSION_FILTER)?;
            value.as_described().map_or(value, |(_, value)| value).as_str().map(str::to_owned)
        });
        Ok(Receiver { link, session })
    }

    /// Attaches a link and waits for the broker's answer. What comes on other links is kept.
    pub(super) async fn attach(
        &mut self,
        attach: Attach,
        within: Duration,
    ) -> Result<(LinkId, Box<Attach>), Failure> {
        let link = self.client.connection().attach(self.session, attach).map_err(gone)?;
        let reply = self
            .until("waiting for the attach", within, |this| this.attached.remove(&link))
            .await?;
        // §2.6.3: a refused attach is answered without the terminus that the answering side would
        // make, and with a detach that says why.
        let refused = match reply.role {
            Role::Sender => reply.source.is_none(),
            Role::Receiver => reply.target.is_none(),
        };
        if refused {
            let what = "waiting for the reason of a refused attach";
            self.until(what, ANSWER_WITHIN, |_| None::<()>).await?;
        }
        Ok((link, reply))
    }

    /// Sends a message as soon as there is credit; its outcome comes later.
    pub(super) async fn send(
        &mut self,
        link: LinkId,
        message: Bytes,
        state: Option<DeliveryState>,
    ) -> Result<DeliveryId, Failure> {
        self.renew().await?;
        self.send_with(link, message, state).await
    }

    /// The same without a look at the tokens.
    pub(super) async fn send_now(
        &mut self,
        link: LinkId,
        message: Bytes,
    ) -> Result<DeliveryId, Failure> {
        self.send_with(link, message, None).await
    }

    async fn send_with(
        &mut self,
        link: LinkId,
        message: Bytes,
        state: Option<DeliveryState>,
    ) -> Result<DeliveryId, Failure> {
        self.until("waiting for credit to send", ANSWER_WITHIN, |this| {
            (0 < this.client.connection().sendable(link)).then_some(())
        })
        .await?;
        let tag = self.number().to_be_bytes();
        let delivery = OutgoingDelivery {
            tag: &tag,
            message_format: 0,
            settled: false,
            state,
            parts: &[message],
        };
        let id = self.client.connection().send(link, delivery).map_err(gone)?;
        self.sent.insert((link, id), None);
        // Who sends no more for a while may do other things than to serve the connection.
        self.client.write()?;
        Ok(id)
    }

    /// Waits for the outcome of a delivery that was sent.
    pub(super) async fn outcome(
        &mut self,
        link: LinkId,
        id: DeliveryId,
    ) -> Result<Option<DeliveryState>, Failure> {
        let waiting = "waiting for the outcome of a message";
        self.until(waiting, ANSWER_WITHIN, |this| this.known_outcome(link, id)).await
    }

    /// The outcome if it is known already.
    pub(super) fn known_outcome(&mut self, link: LinkId, id: DeliveryId) -> Fate {
        let state = self.sent.get(&(link, id))?.clone()?;
        self.sent.remove(&(link, id));
        Some(state)
    }

    /// The same, where anything but `accepted` is a failure.
    pub(super) async fn accepted(&mut self, link: LinkId, id: DeliveryId) -> Result<(), Failure> {
        verdict(self.outcome(link, id).await?.as_ref())
    }

    /// Lets so many messages come, altogether.
    pub(super) fn credit(&mut self, link: LinkId, credit: u32) -> Result<(), Failure> {
        self.client.connection().set_credit(link, credit).map_err(gone)
    }

    /// The next message that a link brings, if one comes in time.
    pub(super) async fn receive(
        &mut self,
        link: LinkId,
        wait: Duration,
    ) -> Result<Option<Delivery>, Failure> {
        let give_up_at = Instant::now() + wait;
        loop {
            self.renew().await?;
            self.handle_events()?;
            if let Some(at) = self.arrived.iter().position(|delivery| delivery.link == link) {
                return Ok(self.arrived.remove(at));
            }
            let now = Instant::now();
            if give_up_at <= now {
                return Ok(None);
            }
            let until = give_up_at.min(now + Duration::from_mins(1));
            let sleep = async {
                sleep_until(until.into()).await;
                Ok(())
            };
            self.client.exchange(sleep).await?;
        }
    }

    /// Messages that a link has brought and nobody has taken.
    pub(super) fn held(&self, link: LinkId) -> usize {
        self.arrived.iter().filter(|delivery| delivery.link == link).count()
    }

    /// Serves the connection for some time.
    pub(super) async fn idle(&mut self, time: Duration) -> Result<(), Failure> {
        self.serve(sleep_until((Instant::now() + time).into()), |_| false).await.map(drop)
    }

    /// Serves the connection until something else is done, or there is a reason to stop before.
    pub(super) async fn serve<T>(
        &mut self,
        other: impl Future<Output = T>,
        mut stop: impl FnMut(&mut Self) -> bool,
    ) -> Result<Option<T>, Failure> {
        let mut other = pin!(other);
        let mut done = None;
        loop {
            self.renew().await?;
            self.handle_events()?;
            if stop(self) {
                return Ok(None);
            }
            let other = async {
                done = Some(other.as_mut().await);
                Ok(())
            };
            self.client.exchange(other).await?;
            if done.is_some() {
                return Ok(done);
            }
        }
    }

    /// Takes back the credit that is left; what comes meanwhile is among the arrived.
    pub(super) async fn drain(&mut self, link: LinkId) -> Result<(), Failure> {
        let credit = self.client.connection().credit(link);
        if credit == 0 {
            return Ok(());
        }
        self.drained.remove(&link);
        self.client.connection().set_credit_drain(link, credit).map_err(gone)?;
        self.until("giving back credit", ANSWER_WITHIN, |this| {
            this.drained.remove(&link).then_some(())
        })
        .await
    }

    /// Says what is to become of a message that was received. The broker's answer comes later.
    pub(super) fn settle(
        &mut self,
        link: LinkId,
        id: DeliveryId,
        state: DeliveryState,
    ) -> Result<(), Failure> {
        self.client.connection().settle_incoming(link, id, state, false).map_err(gone)?;
        self.settling.insert((link, id), None);
        Ok(())
    }

    /// Waits until the broker has settled a message, and checks that it did so as asked.
    pub(super) async fn settled(&mut self, link: LinkId, id: DeliveryId) -> Result<(), Failure> {
        let waiting = "waiting for the settlement of a message";
        let state = self
            .until(waiting, ANSWER_WITHIN, |this| {
                let state = this.settling.get(&(link, id))?.clone()?;
                this.settling.remove(&(link, id));
                Some(state)
            })
            .await?;
        match state {
            Some(DeliveryState::Rejected(error)) if error.is_some() => {
                Err(Failure::of_peer(error.as_ref()))
            }
            _ => Ok(()),
        }
    }

    /// Gives messages back that nobody wants now, without counting that as an attempt.
    pub(super) async fn release_arrived(&mut self, link: LinkId) -> Result<(), Failure> {
        self.drain(link).await?;
        let of_link = |delivery: &Delivery| delivery.link == link && !delivery.settled;
        let ids: Vec<DeliveryId> =
            self.arrived.iter().filter(|delivery| of_link(delivery)).map(|d| d.id).collect();
        self.arrived.retain(|delivery| delivery.link != link);
        self.release(link, &ids).await
    }

    /// The same for messages that were taken.
    pub(super) async fn release(
        &mut self,
        link: LinkId,
        ids: &[DeliveryId],
    ) -> Result<(), Failure> {
        for id in ids {
            self.settle(link, *id, DeliveryState::Released)?;
        }
        for id in ids {
            match self.settled(link, *id).await {
                // Its lock has ended meanwhile, so it is back by itself.
                Ok(()) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Runs the connection until something is found.
    pub(super) async fn until<T>(
        &mut self,
        what: &'static str,
        within: Duration,
        mut find: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Failure> {
        let waiting = async {
            loop {
                self.handle_events()?;
                if let Some(found) = find(self) {
                    return Ok(found);
                }
                self.client.exchange(pending()).await?;
            }
        };
        let timed = tokio::time::timeout(within, waiting).await;
        timed.map_err(|_elapsed| {
            Failure::Unreachable(format!("nothing was heard for {within:?} while {what}"))
        })?
    }

    fn handle_events(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.client.event()? {
            match event {
                Event::Delivery(delivery) => self.arrived.push_back(delivery),
                Event::Settled { link, id, state, settled, .. } => {
                    let is_first = match self.sent.get_mut(&(link, id)) {
                        Some(fate) if fate.is_none() => {
                            *fate = Some(state.clone());
                            true
                        }
                        _ => false,
                    };
                    if is_first && !settled {
                        let connection = self.client.connection();
                        connection.settle_outgoing(link, id, state, true).map_err(gone)?;
                    }
                }
                Event::SettledBySender { link, id, state } => {
                    if let Some(fate) = self.settling.get_mut(&(link, id)) {
                        *fate = Some(state);
                    }
                }
                Event::AttachReply { link, attach } => drop(self.attached.insert(link, attach)),
                Event::Drained { link } => drop(self.drained.insert(link)),
                Event::Oversize { .. } => {
                    return Err(Failure::Other("a message is larger than 101 MiB".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The entity whose rights an address needs.
fn entity_of(address: &str) -> &str {
    match address.rsplit_once('/') {
        Some((entity, last)) if last.starts_with('$') => entity_of(entity),
        _ => address,
    }
}

fn gone(error: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(error.to_string())
}

/// Anything but `accepted` is a failure.
pub(super) fn verdict(state: Option<&DeliveryState>) -> Result<(), Failure> {
    match state {
        Some(DeliveryState::Accepted) => Ok(()),
        Some(DeliveryState::Transactional { outcome: Some(outcome), .. })
            if **outcome == DeliveryState::Accepted =>
        {
            Ok(())
        }
        state => Err(refusal(state)),
    }
}

/// Why a message was not taken.
pub(super) fn refusal(state: Option<&DeliveryState>) -> Failure {
    match state {
        Some(DeliveryState::Rejected(error)) => match error {
            Some(error) => Failure::of_peer(Some(error)),
            None => Failure::Refused("the broker rejected the message".to_owned()),
        },
        Some(DeliveryState::Released | DeliveryState::Modified { .. }) => {
            Failure::Refused("the broker gave the message back".to_owned())
        }
        _ => Failure::Other("the broker gave no outcome".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_entity() {
        for (address, entity) in [
            ("orders", "orders"),
            ("orders/$management", "orders"),
            ("a/b/$deadletterqueue/$management", "a/b"),
            ("t/subscriptions/s/$DeadLetterQueue", "t/subscriptions/s"),
        ] {
            assert_eq!(entity_of(address), entity);
        }
    }
}
