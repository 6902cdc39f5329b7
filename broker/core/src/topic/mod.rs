//! Topics: which subscription gets a copy of which message, and what is changed in it.
//!
//! A topic and its subscriptions are entities like queues, with the same numbers, subqueues and rows;
//! a message is admitted to a topic as to a queue. What is here is what queues have not: the rules of
//! a subscription (`rules`), all rules of a topic put so that a message finds those it matches
//! (`routes`), and the copies that come of it (`fan_out`). The broker's part is `crate::broker::topics`.

pub(crate) mod bodies;
pub mod command;
pub(crate) mod fan_out;
pub mod limits;
pub(crate) mod routes;
pub mod rules;
pub mod settings;
pub(crate) mod subscription;
#[expect(clippy::module_inception, reason = "the module is about all that topics have")]
pub(crate) mod topic;
