//! The wire, sentence by sentence: what the AMQP specification (cited as AMQP §) and the public
//! Service Bus clients ask of a broker, over a real socket, frame by frame.

mod ask;
mod attach;
mod cbs;
mod clock;
mod confused;
mod deferral;
mod duplicates;
mod emulator;
mod entities;
mod expiry;
mod filters;
mod flow;
mod framing;
mod handshake;
mod hostile;
mod jms;
mod management;
mod message_sessions;
mod namespaces;
mod receiving;
mod rest;
mod rules;
mod scheduling;
mod selectors;
mod sending;
mod session;
mod settlement;
mod tls;
mod topic_management;
mod topic_settings;
mod topics;
mod transactions;
mod transport;
mod tunnel;
mod websocket;
