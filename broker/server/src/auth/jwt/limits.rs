//! What one token, and one answer of an identity provider, may take.

use std::time::Duration;

/// Bytes of a token. A token with the two hundred groups that Entra ID puts into one has about 9 KiB.
pub(super) const TOKEN_LEN_MAX: usize = 16 * 1024;

/// Bytes of a set of keys, or of the document that says where it is. A key has half a KiB, with a
/// certificate chain some KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Keys of a set. Issuers have two or three, Entra ID about ten.
pub(super) const KEYS_MAX: usize = 100;

/// Bytes of the head of an answer, and its headers. The rest is the issuer's advertising.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// See [`HEAD_BYTES_MAX`].
pub(super) const HEADERS_MAX: usize = 100;

/// For one answer, from looking up the host to the last byte. Whoever waits for it needs nothing else
/// of it, and keys are asked for long before they are needed.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Between two questions that unknown keys gave rise to: whoever sends tokens with invented keys must
/// not make us flood the issuer.
pub(super) const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// The first pause after a question that failed, and the longest. Each is twice the one before.
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`RETRY_MIN`].
pub(super) const RETRY_MAX: Duration = Duration::from_mins(1);
