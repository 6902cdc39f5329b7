//! Where faults happen: between what a connection asks of the core, and what it hears.
//!
//! A connection without faults passes by with one look at an option.

use std::sync::Arc;
use std::time::{Duration, Instant};

use peeklock_core::{Command, EffectKind, EntityPath, Error, Origin, Settlement};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::LinkId;
use tracing::info;

use super::condition::Refusal;
use super::endpoint::Endpoint;
use super::link::Link;
use crate::faults::{Faults, Kind, Moment, Sudden, SuddenKind};
use crate::mailbox::Letter;

const TEXT: &str = "A test has asked for this.";

/// The part of a connection that goes wrong when it is told to.
pub(super) struct Injected {
    faults: Arc<Faults>,
    /// Until when nothing is heard of the core.
    deaf_until: Option<Instant>,
    /// What is heard then.
    letters: Vec<Letter>,
    /// The connection ends without a word.
    cut: bool,
}

fn forced() -> ErrorInfo {
    ErrorInfo::new(condition::LINK_DETACH_FORCED, TEXT)
}

impl Endpoint {
    /// From now on things go wrong when they are told to.
    pub(crate) fn inject(&mut self, faults: Arc<Faults>) {
        let (deaf_until, letters, cut) = (None, Vec::new(), false);
        self.injected = Some(Box::new(Injected { faults, deaf_until, letters, cut }));
    }

    /// The connection is to end without a word.
    pub(crate) fn is_cut(&self) -> bool {
        self.injected.as_ref().is_some_and(|injected| injected.cut)
    }

    /// When [`Endpoint::hear_again`] is due.
    pub(super) fn deaf_until(&self) -> Option<Instant> {
        self.injected.as_ref()?.deaf_until
    }

    /// Acts on what has come meanwhile.
    pub(super) fn hear_again(&mut self, now: Instant) {
        let Some(injected) = &mut self.injected else { return };
        if injected.deaf_until.is_none_or(|until| now < until) {
            return;
        }
        injected.deaf_until = None;
        for letter in std::mem::take(&mut injected.letters) {
            self.act_on(letter);
        }
    }

    /// A letter, if it is to be acted on now.
    pub(super) fn heard(&mut self, letter: Letter) -> Option<Letter> {
        if self.injected.is_none() {
            return Some(letter);
        }
        if let Letter::Effect(EffectKind::Deliver { receiver, .. }) = &letter {
            let id = LinkId::from_u64(receiver.link);
            // Also when the link is gone then: its message goes back.
            self.go_wrong(Moment::Receive, id, Instant::now());
        }
        let injected = self.injected.as_mut()?;
        if injected.deaf_until.is_none() {
            return Some(letter);
        }
        injected.letters.push(letter);
        None
    }

    /// What is left of commands when things have gone wrong.
    pub(super) fn injected(&mut self, commands: Vec<Command>) -> Vec<Command> {
        if !self.injected.as_ref().is_some_and(|injected| injected.faults.any()) {
            return commands;
        }
        let now = Instant::now();
        let mut left = Vec::with_capacity(commands.len());
        for command in commands {
            let (on, origin) = match &command {
                Command::OpenSender { origin, .. }
                | Command::OpenReceiver { origin, .. }
                | Command::OpenSelectingReceiver { origin, .. }
                | Command::OpenBrowser { origin, .. } => (Moment::Attach, *origin),
                Command::Send { origin, .. } => (Moment::Send, *origin),
                Command::Settle { origin: Some(origin), .. } => (Moment::Settle, *origin),
                _ => {
                    left.push(command);
                    continue;
                }
            };
            match self.go_wrong(on, LinkId::from_u64(origin.link), now) {
                None | Some(Kind::Delay(_)) => left.push(command),
                Some(kind) => left.extend(self.instead(command, kind, origin)),
            }
        }
        // What going wrong has come to, such as the end of a receiver.
        left.append(&mut self.commands);
        left
    }

    /// What the core is asked instead of a command. The peer is told by what went wrong, or here.
    fn instead(&mut self, command: Command, kind: Kind, origin: Origin) -> Option<Command> {
        match (kind, command) {
            (Kind::LockLost, Command::Settle { entity, token, .. }) => {
                self.handle_reply(origin, Err(Error::MessageLockLost));
                let settlement = Settlement::Abandon { changes: Vec::new() };
                Some(Command::Settle { origin: None, entity, token, settlement, transaction: None })
            }
            (Kind::ServerBusy, _) => {
                self.handle_reply(origin, Err(Error::ServerBusy(TEXT)));
                None
            }
            // An outcome that is lost on its way: it may have been done or not.
            (Kind::DropConnection | Kind::DropLink, settle @ Command::Settle { .. }) => {
                Some(settle)
            }
            _ => None,
        }
    }

    /// Lets a fault happen to a link, if there is one for it.
    fn go_wrong(&mut self, on: Moment, id: LinkId, now: Instant) -> Option<Kind> {
        let injected = self.injected.as_mut()?;
        if !injected.faults.any() {
            return None;
        }
        let path = self.links.get(&id).and_then(Link::path)?;
        let kind = injected.faults.take(on, path)?;
        info!(entity = %path, fault = %kind, %on, "a fault was injected");
        match kind {
            Kind::DropConnection => injected.cut = true,
            // It is not open yet.
            Kind::DropLink if on == Moment::Attach => self.reject(id, forced()),
            Kind::DropLink => self.detach(id, forced()),
            Kind::Delay(time) => self.go_deaf(now, time),
            Kind::ServerBusy | Kind::LockLost => {}
        }
        Some(kind)
    }

    fn go_deaf(&mut self, now: Instant, time: Duration) {
        if let Some(injected) = &mut self.injected {
            let until = now.checked_add(time);
            injected.deaf_until = injected.deaf_until.max(until);
        }
    }

    /// A fault for all links that there are.
    pub(super) fn suddenly(&mut self, fault: &Sudden) {
        let meant = |path: &EntityPath| fault.entity.as_ref().is_none_or(|meant| meant == path);
        let is_meant = |link: &Link| match (link, &fault.kind) {
            (Link::Outgoing(link), SuddenKind::SessionLockLost(session)) => {
                let held = link.holds.as_ref().map(|holder| &holder.session);
                let fits = held.is_some_and(|held| session.as_ref().is_none_or(|one| one == held));
                fits && meant(&link.path)
            }
            (
                Link::Incoming(_) | Link::Outgoing(_),
                SuddenKind::DropConnection | SuddenKind::DropLink,
            ) => link.path().is_some_and(meant),
            _ => false,
        };
        let all: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| is_meant(link)).map(|(id, _)| *id).collect();
        for id in all {
            match &fault.kind {
                SuddenKind::DropConnection => {
                    if let Some(injected) = &mut self.injected {
                        injected.cut = true;
                    }
                }
                SuddenKind::DropLink => self.detach(id, forced()),
                SuddenKind::SessionLockLost(_) => {
                    let error = Refusal::of(&Error::SessionLockLost).error_info(&self.host);
                    self.detach(id, error);
                }
            }
        }
    }
}
