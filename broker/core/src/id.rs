//! What things are called: numbers for entities, messages and links, tokens for locks.
//!
//! Paths, which are names and not numbers, have a file of their own: [`crate::entity::path`].

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// An entity of the broker. Never reused, so rows of a deleted entity can be dropped at leisure. A
/// queue's dead-letter subqueue is an entity with its own number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntityId(pub u32);

impl EntityId {
    /// No entity has this number: it stands for one that is not there.
    pub(crate) const NOBODY: EntityId = EntityId(u32::MAX);
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// An entity's number for a message: rising, without gaps, never reused, starting at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// What the first message of an entity gets.
    pub const FIRST: SequenceNumber = SequenceNumber(1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        SequenceNumber(self.0 + 1)
    }

    /// The number as AMQP writes it, which is signed.
    pub fn as_amqp(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a message session: the group-id of its messages. Compared octet by octet; the empty id is a
/// legal one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageSessionId(Arc<str>);

impl MessageSessionId {
    /// Characters of an id, by the documentation.
    pub const LEN_MAX: usize = 128;

    /// Nothing if the id is too long.
    pub fn new(id: &str) -> Option<Self> {
        Self::is_valid(id).then(|| MessageSessionId(id.into()))
    }

    /// Whether an id is not too long.
    pub fn is_valid(id: &str) -> bool {
        id.len() <= Self::LEN_MAX || id.chars().nth(Self::LEN_MAX).is_none()
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transaction that is open. Numbers are given anew after each start; who uses one must be on the
/// connection that declared it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(pub u64);

/// Names one peek-lock on one message. It travels as a delivery-tag and as a uuid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockToken(pub [u8; 16]);

impl LockToken {
    /// A token out of random octets.
    ///
    /// Clients turn a delivery-tag, which they read as a Guid (first groups little-endian), into a
    /// uuid (big-endian), and not all of them swap the octets. Tokens that read the same both ways
    /// leave nothing to get wrong; 96 random bits remain.
    pub const fn from_random(octets: [u8; 16]) -> Self {
        let mut token = octets;
        token[2] = token[1];
        token[3] = token[0];
        token[5] = token[4];
        token[7] = token[6];
        LockToken(token)
    }
}

/// As a uuid is written.
impl fmt::Display for LockToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockToken({self})")
    }
}

/// Hashes for tables keyed by lock tokens. Only tokens we drew ourselves are ever inserted, so their
/// random octets are the hash; a peer can look up what it likes, and finds nothing slowly or fast.
#[derive(Default)]
pub(crate) struct TokenHasher(u64);

pub(crate) type TokenMap<V> =
    std::collections::HashMap<LockToken, V, BuildHasherDefault<TokenHasher>>;

impl Hasher for TokenHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((_, octets)) = bytes.split_last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*octets);
        }
    }

    // An array announces its length before its octets; every token is as long as the next.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Who asked, as the shell knows them. Handed back untouched with the reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin {
    /// The connection.
    pub connection: u64,
    /// The link on it.
    pub link: u64,
    /// The delivery or request on the link.
    pub delivery: u32,
}

/// A receiving link. The shell chooses the numbers and does not use a pair again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReceiverId {
    /// The connection.
    pub connection: u64,
    /// The link on it.
    pub link: u64,
}

/// A read that the shell was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// Where unguessable numbers come from: the operating system in the server, a seed in tests.
pub trait IdSource {
    /// A token that was never drawn before; see [`LockToken::from_random`].
    fn lock_token(&mut self) -> LockToken;
}

/// Tokens from a seed (SplitMix64): for tests and simulations, which must repeat. Anyone who has
/// seen a token can compute the next one, so a server must not use it.
#[derive(Clone, Debug)]
pub struct SeededIds(u64);

impl SeededIds {
    /// The same seed gives the same tokens.
    pub const fn new(seed: u64) -> Self {
        SeededIds(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl IdSource for SeededIds {
    fn lock_token(&mut self) -> LockToken {
        let both = (u128::from(self.draw()) << 64) | u128::from(self.draw());
        LockToken::from_random(both.to_be_bytes())
    }
}

/// Hashes for tables keyed by numbers that our own shell chose: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct NumberHasher(u64);

pub(crate) type NumberMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<NumberHasher>>;

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for octet in bytes {
            self.write_u64(u64::from(*octet));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn a_token_reads_the_same_as_guid_and_as_uuid() {
        let mut ids = SeededIds::new(7);
        for _ in 0..100 {
            let LockToken(t) = ids.lock_token();
            let swapped = [
                t[3], t[2], t[1], t[0], t[5], t[4], t[7], t[6], t[8], t[9], t[10], t[11], t[12],
                t[13], t[14], t[15],
            ];
            assert_eq!(t, swapped);
        }
    }

    #[test]
    fn tokens_of_one_seed_differ_and_repeat() {
        let draw = |seed| {
            let mut ids = SeededIds::new(seed);
            (0..1000).map(|_| ids.lock_token()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(draw(1).len(), 1000);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_token_is_written_as_a_uuid() {
        let token =
            LockToken([0, 17, 17, 0, 68, 68, 102, 102, 136, 153, 170, 187, 204, 221, 238, 255]);
        assert_eq!(token.to_string(), "00111100-4444-6666-8899-aabbccddeeff");
    }

    #[test]
    fn hashes_of_tokens_are_their_random_octets() {
        let hash = BuildHasherDefault::<TokenHasher>::default();
        let mut ids = SeededIds::new(1);
        let hashes: std::collections::BTreeSet<u64> =
            (0..1000).map(|_| hash.hash_one(ids.lock_token())).collect();
        assert_eq!(hashes.len(), 1000);
    }

    #[test]
    fn hashes_of_links_spread_over_low_and_high_bits() {
        let hash = BuildHasherDefault::<NumberHasher>::default();
        let hashes = |shift: u32| {
            (0..64_u64)
                .flat_map(|connection| (0..64_u64).map(move |link| ReceiverId { connection, link }))
                .map(|id| (hash.hash_one(id) >> shift) & 0x3FF)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert!(hashes(0) > 900, "{}", hashes(0));
        assert!(hashes(54) > 900, "{}", hashes(54));
    }
}
