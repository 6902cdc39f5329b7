//! Entities and rules, as the management API describes them.

use hyper::{Method, StatusCode};

use super::failure::{Failure, for_people};
use super::http::{HttpClient, Question, Response};
use super::properties::Kind;
use super::server::Server;
use crate::http::atom::xml::{self, ATOM, Element, SCHEMA_INSTANCE, SERVICE_BUS, Space};

/// Entries asked for at once, as SDKs do.
const PAGE: usize = 100;

/// What names another entity, and the header for a token for that.
const FORWARDS: [(&str, &str); 2] = [
    ("ForwardTo", "servicebussupplementaryauthorization"),
    ("ForwardDeadLetteredMessagesTo", "servicebusdlqsupplementaryauthorization"),
];

/// See the module.
pub(super) struct Management<'s> {
    http: HttpClient<'s>,
}

/// An entity or rule.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) name: String,
    /// `QueueDescription` and the like.
    pub(super) element: Element,
}

impl<'s> Management<'s> {
    pub(super) const fn new(server: &'s Server) -> Self {
        Self { http: HttpClient::new(server) }
    }

    /// What is at a path, if that is what it should be.
    pub(super) async fn find(
        &mut self,
        path: &str,
        kind: &str,
    ) -> Result<Option<Described>, Failure> {
        let answer = self.http.ask(Question { path, ..Question::default() }).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let root = document(path, &answer)?;
        // Without such an entity the answer is an empty feed.
        Ok(described(&root).filter(|found| found.element.name == kind))
    }

    /// The same for what has to be there.
    pub(super) async fn need(&mut self, path: &str, kind: &str) -> Result<Described, Failure> {
        let found = self.find(path, kind).await?;
        found.ok_or_else(|| Failure::NotFound(format!("there is no {} {path}", noun(kind))))
    }

    /// All of a list.
    pub(super) async fn list(&mut self, path: &str) -> Result<Vec<Described>, Failure> {
        let mut all = Vec::new();
        loop {
            let query = format!("&$skip={}&$top={PAGE}", all.len());
            let answer =
                self.http.ask(Question { path, query: &query, ..Question::default() }).await?;
            let root = document(path, &answer)?;
            let entries = root.children.iter().filter(|child| child.name == "entry");
            let page: Vec<Described> = entries.filter_map(described).collect();
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Creates or changes what the description is of.
    pub(super) async fn put(
        &mut self,
        path: &str,
        description: &str,
        update: bool,
    ) -> Result<Described, Failure> {
        let body = format!(
            "<entry xmlns=\"{ATOM}\"><content type=\"application/xml\">{description}</content>\
             </entry>"
        );
        let parsed = xml::parse(description.as_bytes()).ok();
        let target = |(element, header)| {
            let target = parsed.as_ref()?.text_of(element)?;
            Some((header, Kind::Entity.show(target)))
        };
        let forwards_to = FORWARDS.into_iter().filter_map(target).collect();
        let method = Method::PUT;
        let question = Question { method, path, update, body, forwards_to, ..Question::default() };
        let answer = self.http.ask(question).await?;
        let root = document(path, &answer)?;
        described(&root).ok_or_else(|| unexpected(path))
    }

    pub(super) async fn delete(&mut self, path: &str) -> Result<(), Failure> {
        let question = Question { method: Method::DELETE, path, ..Question::default() };
        let answer = self.http.ask(question).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(Failure::NotFound(format!("there is nothing at {path}")));
        }
        check(path, &answer)
    }
}

/// How people call what a description is of.
pub(super) fn noun(kind: &str) -> String {
    kind.trim_end_matches("Description").to_ascii_lowercase()
}

/// The start of a description, up to its properties.
pub(super) fn opening(kind: &str) -> String {
    format!("<{kind} xmlns=\"{SERVICE_BUS}\" xmlns:i=\"{SCHEMA_INSTANCE}\">")
}

/// Writes an element again with all that stands in it, as far as it belongs to Service Bus.
pub(super) fn write_again(element: &Element, out: &mut xml::Writer) {
    let attributes: &[(&str, &str)] = match &element.kind {
        Some(kind) => &[("i:type", kind)],
        None => &[],
    };
    out.open(&element.name, attributes);
    if element.children.is_empty() {
        out.text(&element.text);
    }
    for child in element.children.iter().filter(|child| child.space == Space::ServiceBus) {
        write_again(child, out);
    }
    out.close(&element.name);
}

fn described(entry: &Element) -> Option<Described> {
    if entry.name != "entry" {
        return None;
    }
    let content = entry.child(Space::Atom, "content")?;
    let element = content.children.iter().find(|child| child.space == Space::ServiceBus)?;
    let name = entry.child(Space::Atom, "title").map(|title| title.text.clone());
    Some(Described { name: name.unwrap_or_default(), element: element.clone() })
}

fn document(path: &str, answer: &Response) -> Result<Element, Failure> {
    check(path, answer)?;
    xml::parse(&answer.body).map_err(|_| unexpected(path))
}

fn unexpected(path: &str) -> Failure {
    Failure::Other(format!("{path}: the answer is not that of a management API"))
}

/// Turns a refusal into its failure.
fn check(path: &str, answer: &Response) -> Result<(), Failure> {
    if answer.status.is_success() {
        return Ok(());
    }
    let said = xml::parse(&answer.body).ok();
    let detail = said.as_ref().and_then(|said| {
        said.children.iter().find(|child| child.name == "Detail").map(|child| child.text.as_str())
    });
    let said = match detail {
        Some(detail) => for_people(detail),
        None => format!("the broker answers {}", answer.status),
    };
    let text = format!("{path}: {said}");
    Err(answer.failure(text))
}
