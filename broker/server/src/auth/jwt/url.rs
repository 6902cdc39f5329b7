//! Where an issuer is asked: an address of HTTP, taken apart.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;

/// `https://HOST:PORT/PATH?QUERY`, or the same with `http`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    pub(super) is_secure: bool,
    /// Without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands in `Host`.
    pub(super) authority: String,
    /// With its query.
    pub(super) path: String,
}

impl Url {
    /// Whether nobody can read on the way what is asked and answered.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The same place with more path behind.
    pub(crate) fn join(&self, more: &str) -> Self {
        let path = self.path.split('?').next().unwrap_or_default();
        Self { path: format!("{}{more}", path.trim_end_matches('/')), ..self.clone() }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No secret of ours belongs there, and a host behind one is easily misread.
        if text.contains('@') {
            return Err("is not https://HOST/PATH: it has a user".to_owned());
        }
        let wrong = || format!("{text:?} is not https://HOST/PATH");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let named = authority.host();
        let host = named.trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong());
        }
        // What is no port would be left out of `Uri`'s.
        let port = match authority.as_str().strip_prefix(named).unwrap_or_default() {
            "" if is_secure => 443,
            "" => 80,
            port => port.trim_start_matches(':').parse().map_err(|_| wrong())?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { is_secure, host, port, authority: authority.as_str().to_owned(), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(bool, &str, u16, &str)>) {
        let url = text.parse::<Url>().ok();
        let parts = url.as_ref().map(|url| (url.is_secure, &*url.host, url.port, &*url.path));
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn addresses() {
        check("https://id.example/realms/x", Some((true, "id.example", 443, "/realms/x")));
        check("https://id.example", Some((true, "id.example", 443, "/")));
        check("http://localhost:8080/k?v=1", Some((false, "localhost", 8080, "/k?v=1")));
        check("https://[::1]:8443/", Some((true, "::1", 8443, "/")));
        for wrong in [
            "",
            "id.example",
            "/keys",
            "ftp://id.example/",
            "https://",
            "https:///keys",
            "https://user:word@id.example/",
            "https://id.example:99999/",
            "file:///etc/passwd",
            "https://id.example/a b",
            "https://id.example/\r\nX: y",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn more_path_goes_behind_the_path() {
        let joined = |text: &str| text.parse::<Url>().unwrap().join("/.well-known/x").to_string();
        assert_eq!(joined("https://h"), "https://h/.well-known/x");
        assert_eq!(joined("https://h:1/a/"), "https://h:1/a/.well-known/x");
        assert_eq!(joined("https://h/a"), "https://h/a/.well-known/x");
    }
}
