//! §3.2: messages. A received message stays the bytes it came as; sections are found in them, and
//! the few that the broker writes are put in their place.

pub mod envelope;
