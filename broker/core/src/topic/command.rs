//! What can be asked about topics, subscriptions and rules, and the good answers.

use crate::effect::{Counts, QueueDescription};
use crate::entity::access::AccessRuleChange;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, Origin};
use crate::time::Timestamp;
use crate::topic::rules::{Rule, RuleDescription};
use crate::topic::settings::TopicSettings;

/// What is asked, and by whom. Paths are those of topics and subscriptions themselves: no subqueues.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicCommand {
    /// Creates a topic when it is missing, and changes its settings when they differ. Answered by
    /// [`TopicReply::Ensured`] if somebody asked.
    EnsureTopic {
        /// Who asked, if an answer is wanted.
        origin: Option<Origin>,
        /// Its path.
        path: EntityPath,
        /// What it should be like.
        settings: TopicSettings,
    },
    /// Creates a topic that is not there yet. Answered by [`TopicReply::Ensured`].
    CreateTopic {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
        /// What it should be like.
        settings: TopicSettings,
    },
    /// Changes the settings of a topic. Answered by [`TopicReply::Ensured`].
    UpdateTopic {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
        /// What it should be like from now on, but for its access rules.
        settings: TopicSettings,
        /// The access rules it should have; nothing to leave those alone that it has.
        access_rules: Option<Vec<AccessRuleChange>>,
    },
    /// Deletes a topic and its subscriptions. Answered by [`TopicReply::Deleted`].
    DeleteTopic {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
    },
    /// Asks what a topic is like. Answered by [`TopicReply::TopicDescribed`].
    DescribeTopic {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
    },
    /// Asks what topics are like, in the order of their names. Answered by
    /// [`TopicReply::TopicsListed`].
    ListTopics {
        /// Who asked.
        origin: Origin,
        /// How many to pass over.
        skip: usize,
        /// How many at most.
        count_max: usize,
    },
    /// Creates a subscription when it is missing, and changes its settings and rules when they differ.
    /// Answered by [`TopicReply::Ensured`] if somebody asked.
    EnsureSubscription {
        /// Who asked, if an answer is wanted.
        origin: Option<Origin>,
        /// Its path.
        path: EntityPath,
        /// What it should be like.
        settings: QueueSettings,
        /// The rules it should have; nothing to leave those alone that it has. A new subscription
        /// then gets the default rule.
        rules: Option<Vec<RuleDescription>>,
    },
    /// Creates a subscription that is not there yet. Answered by [`TopicReply::Ensured`].
    CreateSubscription {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
        /// What it should be like.
        settings: QueueSettings,
        /// Its first rule; nothing for the default rule, which lets everything through.
        rule: Option<RuleDescription>,
    },
    /// Changes the settings of a subscription. Answered by [`TopicReply::Ensured`].
    UpdateSubscription {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
        /// What it should be like from now on.
        settings: QueueSettings,
    },
    /// Deletes a subscription and all it holds. Answered by [`TopicReply::Deleted`].
    DeleteSubscription {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
    },
    /// The same for one that a JMS client made, unless somebody receives from it.
    Unsubscribe {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
    },
    /// Asks what a subscription is like. Answered by [`TopicReply::SubscriptionDescribed`].
    DescribeSubscription {
        /// Who asked.
        origin: Origin,
        /// Its path.
        path: EntityPath,
    },
    /// Asks what subscriptions of a topic are like, in the order of their names. Answered by
    /// [`TopicReply::SubscriptionsListed`].
    ListSubscriptions {
        /// Who asked.
        origin: Origin,
        /// The topic's path.
        path: EntityPath,
        /// How many to pass over.
        skip: usize,
        /// How many at most.
        count_max: usize,
    },
    /// Adds a rule to a subscription. Answered by [`TopicReply::RuleAdded`].
    AddRule {
        /// Who asked.
        origin: Origin,
        /// The subscription's path.
        path: EntityPath,
        /// The rule.
        rule: RuleDescription,
    },
    /// Puts another filter and action in the place of those of a rule, at one time. Answered by
    /// [`TopicReply::RuleAdded`].
    UpdateRule {
        /// Who asked.
        origin: Origin,
        /// The subscription's path.
        path: EntityPath,
        /// The rule as it should be from now on. Its name may differ in case.
        rule: RuleDescription,
    },
    /// Asks for one rule of a subscription. Answered by [`TopicReply::Rules`].
    DescribeRule {
        /// Who asked.
        origin: Origin,
        /// The subscription's path.
        path: EntityPath,
        /// The rule's name, in any case.
        name: Box<str>,
    },
    /// Removes a rule of a subscription. Answered by [`TopicReply::RuleRemoved`].
    RemoveRule {
        /// Who asked.
        origin: Origin,
        /// The subscription's path.
        path: EntityPath,
        /// The rule's name, in any case.
        name: Box<str>,
    },
    /// Lists rules of a subscription in the order of their names. Answered by [`TopicReply::Rules`].
    ListRules {
        /// Who asked.
        origin: Origin,
        /// The subscription's path.
        path: EntityPath,
        /// How many to pass over.
        skip: usize,
        /// How many at most.
        count_max: usize,
    },
}

/// The good answers.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicReply {
    /// The topic or subscription is there, as wished.
    Ensured {
        /// Its number.
        entity: EntityId,
    },
    /// The topic or subscription is gone.
    Deleted,
    /// What the topic is like and how it stands.
    TopicDescribed(Box<TopicDescription>),
    /// What the topics asked for are like, and how they stand.
    TopicsListed {
        /// In the order of their names.
        topics: Vec<TopicDescription>,
    },
    /// What the subscription is like and how it stands.
    SubscriptionDescribed(Box<QueueDescription>),
    /// What the subscriptions asked for are like, and how they stand.
    SubscriptionsListed {
        /// In the order of their names.
        subscriptions: Vec<QueueDescription>,
    },
    /// The rule is in force.
    RuleAdded,
    /// The rule is gone.
    RuleRemoved,
    /// The rules asked for.
    Rules {
        /// In the order of their names.
        rules: Vec<Rule>,
    },
}

/// What a topic is like and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    /// Its path, as it was created.
    pub path: EntityPath,
    /// How it behaves.
    pub settings: TopicSettings,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub accessed_at: Timestamp,
    /// Its own messages, by kind: it holds none but those that are not due yet.
    pub counts: Counts,
    /// Octets it holds, with its subscriptions.
    pub bytes: u64,
    /// Its subscriptions, in the order in which they were created.
    pub subscriptions: Vec<EntityPath>,
    /// How many of their rules have SQL filters.
    pub sql_filter_count: usize,
    /// How many have correlation filters.
    pub correlation_filter_count: usize,
}
