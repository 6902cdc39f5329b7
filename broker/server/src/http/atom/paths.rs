//! What a request is about: its path, in any spelling, and its query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::Fault;
use super::limits::{PAGE_DEFAULT, PAGE_MAX};

/// What a path names. Names are as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target<'a> {
    NamespaceInfo,
    Queues,
    Topics,
    /// A queue or a topic.
    Entity(&'a str),
    Subscriptions(&'a str),
    Subscription(&'a str, &'a str),
    Rules(&'a str, &'a str),
    Rule(&'a str, &'a str, &'a str),
}

/// A path without its escapes and the slashes at its ends. None if that is no text.
pub(in crate::http) fn decode(path: &str) -> Option<String> {
    let decoded: Cow<'_, str> = percent_decode_str(path).decode_utf8().ok()?;
    Some(decoded.trim_matches('/').to_owned())
}

impl<'a> Target<'a> {
    /// Takes a decoded path apart, from its end: names of queues and topics may have slashes.
    pub(super) fn of(path: &'a str) -> Self {
        if path.eq_ignore_ascii_case("$namespaceinfo") {
            return Target::NamespaceInfo;
        }
        if path.eq_ignore_ascii_case("$resources/queues") {
            return Target::Queues;
        }
        if path.eq_ignore_ascii_case("$resources/topics") {
            return Target::Topics;
        }
        if let Some((before, rule)) = member(path, "rules")
            && let Some((topic, subscription)) = member(before, "subscriptions")
        {
            return Target::Rule(topic, subscription, rule);
        }
        if let Some(before) = collection(path, "rules")
            && let Some((topic, subscription)) = member(before, "subscriptions")
        {
            return Target::Rules(topic, subscription);
        }
        if let Some((topic, subscription)) = member(path, "subscriptions") {
            return Target::Subscription(topic, subscription);
        }
        if let Some(topic) = collection(path, "subscriptions") {
            return Target::Subscriptions(topic);
        }
        Target::Entity(path)
    }
}

/// What stands before and behind `/{segment}/`, when one name is behind it.
fn member<'a>(path: &'a str, segment: &str) -> Option<(&'a str, &'a str)> {
    let (before, name) = path.rsplit_once('/')?;
    Some((collection(before, segment)?, name))
}

/// What stands before `/{segment}` at the end.
fn collection<'a>(path: &'a str, segment: &str) -> Option<&'a str> {
    let (before, last) = path.rsplit_once('/')?;
    last.eq_ignore_ascii_case(segment).then_some(before)
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) skip: usize,
    pub(super) top: usize,
}

/// The query of a request, as pairs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        };
        Self(query.split('&').filter(|text| !text.is_empty()).map(pair).collect())
    }

    pub(super) fn page(&self) -> Result<Page, Fault> {
        let skip = self.number("$skip")?.unwrap_or(0);
        let top = self.number("$top")?.unwrap_or(PAGE_DEFAULT);
        if top == 0 {
            return Err(Fault::invalid("The value of $top has to be one at least."));
        }
        Ok(Page { skip, top: top.min(PAGE_MAX) })
    }

    /// As it stands behind an address; nothing when there is none.
    pub(super) fn show(&self) -> String {
        self.with_page(None)
    }

    /// The part that the addresses of entries have, too.
    pub(super) fn api_version(&self) -> String {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case("api-version"));
        found.map_or_else(String::new, |(key, value)| format!("?{key}={value}"))
    }

    /// The same, but for another page.
    pub(super) fn with_page(&self, page: Option<Page>) -> String {
        let is_page = |key: &str| ["$skip", "$top"].iter().any(|own| own.eq_ignore_ascii_case(key));
        let kept = self.0.iter().filter(|(key, _)| page.is_none() || !is_page(key));
        let mut pairs: Vec<_> = kept.map(|(key, value)| format!("{key}={value}")).collect();
        if let Some(Page { skip, top }) = page {
            pairs.push(format!("$skip={skip}"));
            pairs.push(format!("$top={top}"));
        }
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    fn number(&self, wanted: &str) -> Result<Option<usize>, Fault> {
        let found = self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
        let Some((_, value)) = found else { return Ok(None) };
        let number = value.parse::<u32>().ok().and_then(|number| usize::try_from(number).ok());
        let wrong = || Fault::invalid(format!("The value of {wanted} is not a number from zero."));
        number.ok_or_else(wrong).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Target<'_>) {
        let decoded = decode(path).unwrap();
        assert_eq!(Target::of(&decoded), expected, "{path}");
    }

    #[test]
    fn paths_as_clients_write_them() {
        check("/$namespaceinfo", Target::NamespaceInfo);
        check("/$NamespaceInfo", Target::NamespaceInfo);
        check("/$Resources/queues", Target::Queues);
        check("/$Resources/Queues/", Target::Queues);
        check("/%24Resources/topics", Target::Topics);
        check("/q", Target::Entity("q"));
        check("/q/2", Target::Entity("q/2"));
        check("/q%2F2", Target::Entity("q/2"));
        check("/t/Subscriptions/", Target::Subscriptions("t"));
        check("/t/subscriptions", Target::Subscriptions("t"));
        check("/a/b/subscriptions/s", Target::Subscription("a/b", "s"));
        check("/t/Subscriptions/s/Rules/", Target::Rules("t", "s"));
        check("/t/subscriptions/s/rules", Target::Rules("t", "s"));
        check("/t/Subscriptions/s/rules/%24Default", Target::Rule("t", "s", "$Default"));
        check("/a%2Fb/Subscriptions/s/Rules/r", Target::Rule("a/b", "s", "r"));
        check("/q/rules", Target::Entity("q/rules"));
        check("/subscriptions", Target::Entity("subscriptions"));
        check("/", Target::Entity(""));
        assert_eq!(decode("/%ff"), None);
    }

    #[test]
    fn pages_are_bounded_and_follow_each_other() {
        let page = |query: &str| Query::parse(query).page();
        assert_eq!(page("api-version=2021-05"), Ok(Page { skip: 0, top: 100 }));
        assert_eq!(page("%24skip=200&$TOP=50"), Ok(Page { skip: 200, top: 50 }));
        assert_eq!(page("$top=100000"), Ok(Page { skip: 0, top: 1000 }));
        for wrong in ["$top=0", "$top=x", "$skip=-1", "$skip=", "$skip=99999999999"] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
        let query = Query::parse("api-version=2021-05&%24skip=0&$top=2&enrich=False");
        assert_eq!(query.show(), "?api-version=2021-05&$skip=0&$top=2&enrich=False");
        let next = query.with_page(Some(Page { skip: 2, top: 2 }));
        assert_eq!(next, "?api-version=2021-05&enrich=False&$skip=2&$top=2");
        assert_eq!(Query::parse("").show(), "");
    }
}
