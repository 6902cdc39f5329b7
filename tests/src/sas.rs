//! Shared access signatures, made the way the SDKs make them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// A token for `resource` that expires at `expires_at`, in seconds since 1970.
pub fn token(resource: &str, rule: &str, key: &str, expires_at: u64) -> String {
    let sr = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let sig = signature(&sr, key, expires_at);
    format!("SharedAccessSignature sr={sr}&sig={sig}&se={expires_at}&skn={rule}")
}

/// The signature over a resource that is percent-encoded already, percent-encoded itself.
pub fn signature(sr: &str, key: &str, expires_at: u64) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key will do");
    mac.update(format!("{sr}\n{expires_at}").as_bytes());
    let sig = STANDARD.encode(mac.finalize().into_bytes());
    utf8_percent_encode(&sig, NON_ALPHANUMERIC).to_string()
}
