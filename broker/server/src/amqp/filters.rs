//! Filters of a link that receives: selectors (Apache's registered filters of AMQP §3.5.8), and what is
//! said of all the others.

use peeklock_core::filter::SqlFilter;
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Str, Symbol, Value};

const SELECTOR: &str = "apache.org:selector-filter:string";
const SELECTOR_CODE: u64 = 0x0000_468C_0000_0004;

/// How a source gives its messages to links (AMQP §3.5.4): those that copy leave them where they are.
pub(super) const COPY: &str = "copy";

/// Whether a link only wants to look.
pub(super) fn browses(source: &Source) -> bool {
    source.distribution_mode.as_ref().is_some_and(|mode| *mode == *COPY)
}

/// A selector as JMS clients put it on a link.
pub(super) fn selector(text: &Str) -> Map {
    let described =
        Value::Described(Box::new((Value::Ulong(SELECTOR_CODE), Value::String(text.clone()))));
    Map::new().with(Symbol::from_static("jms-selector"), described)
}

/// What a link asks for that does not ask for a session.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) selector: Option<Box<SqlFilter>>,
    /// The source with the filters that are in place, if others were asked for too. AMQP §3.5.3: the
    /// sending side says which filters are in place.
    pub(super) in_place: Option<Box<Source>>,
}

/// Finds out which filters a link asks for.
pub(super) fn requested(source: &Source) -> Result<Filters, ErrorInfo> {
    let mut found = Filters::default();
    let Some(filters) = &source.filter else { return Ok(found) };
    let mut kept = Map::new();
    for (key, value) in filters {
        let Some(text) = selector_of(key, value) else { continue };
        if !kept.is_empty() {
            return Err(invalid("A link has one selector at most."));
        }
        let Value::String(text) = text else { return Err(invalid("A selector is a string.")) };
        // JMS: one without text means the same as none.
        if !text.trim().is_empty() {
            let selector = SqlFilter::selector(text)
                .map_err(|error| invalid(&format!("The selector is not valid: {error}.")))?;
            found.selector = Some(Box::new(selector));
        }
        kept.insert(key.clone(), value.clone());
    }
    if kept.len() != filters.len() {
        let filter = (!kept.is_empty()).then_some(kept);
        found.in_place = Some(Box::new(Source { filter, ..source.clone() }));
    }
    Ok(found)
}

/// What a selector is made of; none if it is another filter. Clients give selectors names of their own,
/// and describe them by number or by symbol; a few do not describe them.
fn selector_of<'a>(key: &Value, value: &'a Value) -> Option<&'a Value> {
    let (is_selector, text) = match value.as_described() {
        Some((descriptor, text)) => {
            let by_code = descriptor.as_u64() == Some(SELECTOR_CODE);
            (by_code || descriptor.is_text(SELECTOR), text)
        }
        None => (key.is_text(SELECTOR), value),
    };
    is_selector.then_some(text)
}

fn invalid(text: &str) -> ErrorInfo {
    ErrorInfo::new(condition::INVALID_FIELD, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(descriptor: impl Into<Value>, value: impl Into<Value>) -> Value {
        Value::Described(Box::new((descriptor.into(), value.into())))
    }

    fn source(filters: &[(&'static str, Value)]) -> Source {
        let with = |map: Map, (key, value): &(&'static str, Value)| {
            map.with(Symbol::from_static(key), value.clone())
        };
        Source::new("q").with_filter(filters.iter().fold(Map::new(), with))
    }

    #[track_caller]
    fn check(filters: &[(&'static str, Value)], text: Option<&str>, in_place: Option<&Source>) {
        let found = requested(&source(filters)).unwrap();
        assert_eq!(found.selector.as_ref().map(|selector| selector.text()), text);
        assert_eq!(found.in_place.as_deref(), in_place);
    }

    #[test]
    fn selectors_are_known_by_their_descriptors() {
        let by_code = described(Value::Ulong(SELECTOR_CODE), "a = 1");
        let by_name = described(Symbol::from_static(SELECTOR), "a = 1");
        check(&[("jms-selector", by_code.clone())], Some("a = 1"), None);
        check(&[("selector", by_name)], Some("a = 1"), None);
        check(&[(SELECTOR, "a = 1".into())], Some("a = 1"), None);
        check(&[("x", described(Value::Ulong(SELECTOR_CODE), " "))], None, None);
        assert!(requested(&Source::new("q")).unwrap().selector.is_none());
        // What is not done is not said to be.
        let no_local = described(Value::Ulong(0x0000_468C_0000_0003), Value::List(Vec::new()));
        let both = [("jms-selector", by_code.clone()), ("no-local", no_local.clone())];
        check(&both, Some("a = 1"), Some(&source(&[("jms-selector", by_code)])));
        check(&[("no-local", no_local)], None, Some(&Source::new("q")));
    }

    #[test]
    fn a_selector_that_cannot_be_meant_is_refused() {
        let selector = |value: Value| described(Value::Ulong(SELECTOR_CODE), value);
        let long = format!("a = '{}'", "x".repeat(1024));
        for (filters, text) in [
            (vec![("s", selector("a = ".into()))], "at character 5"),
            (vec![("s", selector(long.as_str().into()))], "more than 1024 characters"),
            (vec![("s", selector(Value::Int(1)))], "is a string"),
            (
                vec![("s", selector("a = 1".into())), ("t", selector("b = 1".into()))],
                "one selector",
            ),
        ] {
            let error = requested(&source(&filters)).unwrap_err();
            assert_eq!(error.condition, *"amqp:invalid-field");
            let description = error.description.unwrap();
            assert!(description.contains(text), "{description}");
        }
    }
}
