//! What keeps the broker within its memory, and each of its peers within its part of it.
//!
//! Senders are held back: first by credit, then by a refusal that every SDK takes as worth another try.
//! Receivers never are, because what they take out is what makes room again.

mod identities;
mod machine;
mod memory;
mod rate;
mod shares;

pub use identities::IdentityLimits;
pub(crate) use identities::{Identities, Membership, TOO_FAST, TooFast, TooMany};
pub(crate) use memory::{Holding, Memory, watch};
pub use shares::Shares;
