//! The broker's side of one AMQP connection: translates between the words of AMQP and those of the
//! core, and nowhere else in the project are they mixed.

pub mod cbs;
pub mod condition;
pub mod management;
