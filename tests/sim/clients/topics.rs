//! Topics: their rules in the words of the broker, and what comes and goes at run time.

use peeklock_core::filter::SystemProperty;
use peeklock_core::{
    Command, Correlation, EntityId, EntityPath, Origin, QueueSettings, RuleDescription, RuleFilter,
    Span, SqlText, TopicCommand, TopicReply, TopicSettings,
};

use super::{Asked, Decided, Held, Then, message};
use crate::model::filters::{color_name, mark_of, name_of};
use crate::model::{At, Filter, Fleeting, Kind, Paint, Part, Rule, Rules};
use crate::world::World;

impl World {
    pub(crate) fn path(&self, (queue, part): At) -> EntityPath {
        let name = match self.model.kind(queue) {
            Kind::Queue => format!("queue-{queue}"),
            Kind::Topic => format!("topic-{queue}"),
            Kind::Subscription { topic, .. } => format!("topic-{topic}/Subscriptions/sub-{queue}"),
        };
        let address = match part {
            Part::Main => name,
            Part::DeadLetter => format!("{name}/$DeadLetterQueue"),
            Part::Transfer => format!("{name}/$Transfer/$DeadLetterQueue"),
        };
        EntityPath::parse(&address).expect("a well-formed address").path
    }

    /// What clients may ask a topic about, and everything else.
    pub(crate) fn parts(&self, queue: usize) -> &'static [Part] {
        if self.model.is_topic(queue) { &[Part::Main] } else { &Part::ALL }
    }

    /// An entity that messages are sent to.
    pub(super) fn draw_target(&mut self) -> usize {
        let is_target =
            |queue: &usize| !matches!(self.model.kind(*queue), Kind::Subscription { .. });
        let targets: Vec<usize> = (0..self.queues).filter(is_target).collect();
        self.draws.pick(&targets).expect("messages are sent somewhere")
    }

    /// An entity that is there, as far as clients know, and has messages to receive.
    pub(super) fn draw_holder(&mut self) -> usize {
        let is_holder = |queue: &usize| !self.model.is_topic(*queue) && self.is_known(*queue);
        let holders: Vec<usize> = (0..self.queues).filter(is_holder).collect();
        self.draws.pick(&holders).expect("messages are received somewhere")
    }

    pub(super) fn draw_known(&mut self) -> usize {
        let known: Vec<usize> = (0..self.queues).filter(|queue| self.is_known(*queue)).collect();
        self.draws.pick(&known).expect("something is there")
    }

    pub(crate) fn is_known(&self, queue: usize) -> bool {
        self.parts(queue).iter().all(|part| self.entities.contains_key(&(queue, *part)))
    }

    pub(crate) fn is_fleeting(&self, queue: usize) -> bool {
        matches!(self.model.kind(queue), Kind::Subscription { is_fleeting: true, .. })
    }

    fn ask_topic(&mut self, asked: Asked, command: impl FnOnce(Origin) -> TopicCommand) {
        let origin = self.ask(asked);
        self.handle(Command::OfTopic(Box::new(command(origin))));
    }

    pub(super) fn describe(&mut self) {
        let queue = self.draw_known();
        let path = self.path((queue, Part::Main));
        let asked = Asked::Describe(queue);
        match self.model.kind(queue) {
            Kind::Queue => {
                let origin = self.ask(asked);
                self.handle(Command::DescribeQueue { origin, path });
            }
            Kind::Topic => {
                self.ask_topic(asked, |origin| TopicCommand::DescribeTopic { origin, path });
            }
            Kind::Subscription { .. } => {
                self.ask_topic(asked, |origin| TopicCommand::DescribeSubscription { origin, path });
            }
        }
        // The answer tells how it stands now.
        self.turn();
    }

    /// Makes what is missing, with the rules that are always there.
    pub(crate) fn ensure(&mut self, queue: usize) {
        let rules = *self.model.rules(queue);
        let path = self.path((queue, Part::Main));
        let settings = self.settings_of(&rules);
        let command = match rules.kind {
            Kind::Queue => {
                return self.handle(Command::EnsureQueue { origin: None, path, settings });
            }
            Kind::Topic => TopicCommand::EnsureTopic {
                origin: None,
                path,
                settings: TopicSettings {
                    default_time_to_live: settings.default_time_to_live,
                    duplicate_window: settings.duplicate_window,
                    ..TopicSettings::default()
                },
            },
            Kind::Subscription { rules, .. } => {
                let rules = rules.iter().filter(|rule| !rule.comes_and_goes).map(description);
                let rules = (self.starts == 0).then(|| rules.collect());
                TopicCommand::EnsureSubscription { origin: None, path, settings, rules }
            }
        };
        self.handle(Command::OfTopic(Box::new(command)));
    }

    fn settings_of(&self, rules: &Rules) -> QueueSettings {
        let to = |queue: Option<usize>| queue.map(|queue| self.path((queue, Part::Main)));
        QueueSettings {
            lock_duration: Span(rules.lock_duration),
            attempts_max: rules.attempts_max,
            requires_session: rules.requires_session,
            default_time_to_live: rules.time_to_live.map(Span),
            dead_letter_on_expiry: rules.dead_letter_on_expiry,
            dead_letter_on_filter_error: rules.dead_letter_on_filter_error,
            duplicate_window: rules.duplicate_window.map(Span),
            forward_to: to(rules.forward_to),
            forward_dead_letters_to: to(rules.forward_dead_letters_to),
            ..QueueSettings::default()
        }
    }

    /// Adds a rule that is missing, or removes one.
    pub(super) fn change_rule(&mut self) {
        let of = |queue: usize| match self.model.kind(queue) {
            Kind::Subscription { rules, .. } => rules,
            Kind::Queue | Kind::Topic => &[],
        };
        let all =
            (0..self.queues).flat_map(|queue| of(queue).iter().map(move |rule| (queue, *rule)));
        let fleeting: Vec<(usize, Rule)> = all.filter(|(_, rule)| rule.comes_and_goes).collect();
        let Some((queue, rule)) = self.draws.pick(&fleeting) else { return };
        self.come_to_rest();
        let what = Fleeting::Rule(rule.number);
        let path = self.path((queue, Part::Main));
        let asked = Asked::Change(what, queue);
        if self.model.is_there(what) {
            let name = name_of(rule.number).to_ascii_uppercase().into();
            self.ask_topic(asked, |origin| TopicCommand::RemoveRule { origin, path, name });
        } else {
            let rule = description(&rule);
            self.ask_topic(asked, |origin| TopicCommand::AddRule { origin, path, rule });
        }
        self.turn();
    }

    /// Makes a subscription, or deletes one that was made.
    pub(super) fn change_subscription(&mut self) {
        let queues = (0..self.queues).filter(|queue| self.is_fleeting(*queue)).collect::<Vec<_>>();
        let Some(queue) = self.draws.pick(&queues) else { return };
        self.come_to_rest();
        let what = Fleeting::Subscription(queue);
        let path = self.path((queue, Part::Main));
        if self.model.is_there(what) {
            let asked = Asked::Change(what, queue);
            self.ask_topic(asked, |origin| TopicCommand::DeleteSubscription { origin, path });
        } else if self.model.was_never_there(what) {
            let Kind::Subscription { rules, .. } = self.model.kind(queue) else { return };
            let rule = rules.first().map(description);
            let settings = self.settings_of(&self.model.rules(queue).clone());
            self.ask_topic(Asked::Change(what, queue), |origin| TopicCommand::CreateSubscription {
                origin,
                path,
                settings,
                rule,
            });
        }
        self.turn();
    }

    /// What was asked before is decided, and what was under way by itself has come, if it can.
    fn come_to_rest(&mut self) {
        self.turn();
        if self.is_at_rest() {
            self.model.all_is_done();
        }
    }

    pub(super) fn answered_of_topic(&mut self, asked: Asked, reply: TopicReply) -> Decided {
        match (asked, reply) {
            (Asked::Describe(queue), TopicReply::TopicDescribed(topic)) => {
                self.model.described(queue, &topic.counts);
                Decided::new(Then::Nothing)
            }
            (Asked::Describe(queue), TopicReply::SubscriptionDescribed(subscription)) => {
                self.model.described(queue, &subscription.counts);
                Decided::new(Then::Nothing)
            }
            (
                Asked::Change(what @ Fleeting::Rule(_), queue),
                TopicReply::RuleAdded | TopicReply::RuleRemoved,
            ) => self.came_or_went(what, queue, Then::Nothing),
            (Asked::Change(what, queue), TopicReply::Ensured { .. }) => {
                self.came_or_went(what, queue, Then::Made(queue))
            }
            (Asked::Change(what, queue), TopicReply::Deleted) => {
                let decided = self.came_or_went(what, queue, Then::Nothing);
                self.forget(queue);
                decided
            }
            (asked, reply) => panic!("an answer that cannot be: {reply:?} to {asked:?}"),
        }
    }

    fn came_or_went(&mut self, what: Fleeting, queue: usize, then: Then) -> Decided {
        let Kind::Subscription { topic, .. } = self.model.kind(queue) else {
            panic!("{queue} is no subscription")
        };
        self.model.came_or_went(what, topic);
        Decided { receipts: vec![self.model.presence_receipt(what)], then }
    }

    /// Clients let go of what they had of a subscription.
    fn forget(&mut self, queue: usize) {
        self.entities.retain(|at, _| at.0 != queue);
        let is_other = |held: &Held| held.at.0 != queue;
        self.held.retain(is_other);
        self.lost.retain(is_other);
        self.deferred.retain(|deferred| deferred.1.0 != queue);
    }

    /// Clients learn how to name the parts of an entity.
    pub(crate) fn learn(&mut self, queue: usize) {
        for part in self.parts(queue) {
            let at = (queue, *part);
            let (origin, path) = (self.ask(Asked::Entity(at)), self.path(at));
            self.handle(Command::OpenManagement { origin, path });
        }
    }

    /// A subscription is gone, and everything clients had of it.
    pub(super) fn not_there(&mut self, asked: &Asked, path: &str) -> Decided {
        let queue = match asked {
            Asked::Receiver(id) => Some(self.receiver(*id).at.0),
            Asked::Settle(several, ..) => several.first().map(|held| held.at.0),
            Asked::Renew(held) => Some(held.at.0),
            Asked::Browse(browse) => Some(browse.at.0),
            Asked::Describe(queue) => Some(*queue),
            Asked::Fetch { at, .. } | Asked::DeleteBatch(at, _) | Asked::Entity(at) => Some(at.0),
            _ => None,
        };
        assert!(
            queue.is_some_and(|queue| self.is_gone(queue)) || matches!(asked, Asked::Stale),
            "{path} is there, and was not found: {asked:?}"
        );
        match asked {
            Asked::Receiver(id) => Decided::new(Then::Closed(*id)),
            Asked::DeleteBatch(at, count_max) => {
                self.model.deleted(*at, (*count_max, 0));
                Decided::new(Then::Nothing)
            }
            _ => Decided::new(Then::Nothing),
        }
    }

    /// Whether links to an entity may be closed because it is gone.
    pub(super) fn is_gone(&self, queue: usize) -> bool {
        self.is_fleeting(queue) && !self.model.is_there(Fleeting::Subscription(queue))
    }

    pub(super) fn check_closed(&self, entity: EntityId) {
        let known = self.entities.iter().find(|(_, known)| **known == entity);
        assert!(known.is_none_or(|(at, _)| self.is_fleeting(at.0)), "{known:?} was closed");
    }
}

/// A rule in the broker's words.
pub(crate) fn description(rule: &Rule) -> RuleDescription {
    RuleDescription {
        name: name_of(rule.number).into(),
        filter: filter(rule.filter),
        action: rule.action.map(|paint| {
            let mark = format!("SET {} = 1", mark_of(rule.number));
            SqlText::plain(&match paint {
                Paint::Nothing => mark,
                Paint::Color(color) => format!("{mark}; SET color = '{}'", color_name(color)),
                Paint::NoColor => format!("REMOVE color; {mark}"),
            })
        }),
    }
}

fn filter(filter: Filter) -> RuleFilter {
    let sql = |text: &str| RuleFilter::Sql(SqlText::plain(text));
    match filter {
        Filter::All => RuleFilter::True,
        Filter::Nothing => RuleFilter::False,
        Filter::Color(color) => {
            let user = vec![("color".into(), color_name(color).as_str().into())];
            RuleFilter::Correlation(Correlation { user, ..Correlation::default() })
        }
        Filter::ColorAndWeight(color, weight) => {
            let color = ("Color".into(), color_name(color).as_str().into());
            let user = vec![color, ("weight".into(), weight.into())];
            RuleFilter::Correlation(Correlation { user, ..Correlation::default() })
        }
        Filter::Session(session) => {
            let name = message::session_name(session);
            let system = vec![(SystemProperty::SessionId, name.as_str().into())];
            RuleFilter::Correlation(Correlation { system, ..Correlation::default() })
        }
        Filter::OtherColor(color) => sql(&format!("NOT color = '{}'", color_name(color))),
        Filter::Lighter(weight) => sql(&format!("weight < {weight}")),
        Filter::ColorOrHeavy(color, weight) => {
            sql(&format!("user.color LIKE '%{color}' OR weight >= {weight}"))
        }
        Filter::Colorless => sql("NOT EXISTS(color)"),
        Filter::Quarter => sql("12 / weight = 3"),
    }
}
