//! The whole binary with a store on disk: killed, stopped, started again, on a full disk and on a
//! damaged store.

mod access;
mod backlog;
mod backup;
mod check;
mod disk;
mod kill;
mod restore;
mod start;
mod stop;
mod topics;
mod transactions;
mod upgrade;
