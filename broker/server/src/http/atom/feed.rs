//! Lists of entries, as feeds of Atom.

use peeklock_core::time::Timestamp;

use super::entry::{Entry, Place};
use super::time;
use super::xml::{ATOM, Writer};

/// A page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Feed<'a> {
    /// Of what.
    pub(super) title: &'static str,
    /// What was asked for.
    pub(super) url: &'a str,
    /// Where the page behind this one is, if there is one.
    pub(super) next: Option<String>,
    /// What stands before the names of the entries in their addresses.
    pub(super) parent: &'a str,
    /// What stands behind them.
    pub(super) query: &'a str,
    pub(super) namespace: &'a str,
    pub(super) updated: Timestamp,
    pub(super) entries: Vec<Entry>,
}

impl Feed<'_> {
    /// The whole document. Python takes the second link for the next page, so there is none but these
    /// two, and in this order.
    pub(super) fn document(&self) -> String {
        let mut writer = Writer::default();
        writer.open("feed", &[("xmlns", ATOM)]);
        writer.leaf_with("title", &[("type", "text")], self.title);
        writer.leaf("id", self.url);
        writer.leaf("updated", &time::show_moment(self.updated));
        writer.leaf_with("link", &[("rel", "self"), ("href", self.url)], "");
        if let Some(next) = &self.next {
            writer.leaf_with("link", &[("rel", "next"), ("href", next)], "");
        }
        for entry in &self.entries {
            let id = format!("{}{}{}", self.parent, entry.title, self.query);
            let link = format!("{}{}", entry.title, self.query);
            let (namespace, base) = (self.namespace, Some(self.url));
            entry.write(&mut writer, Place { id: &id, link: &link, namespace, base });
        }
        writer.close("feed");
        writer.finish()
    }
}

/// What the service shows where nothing is. All SDKs know it, and some by its title.
pub(super) fn nothing_here(now: Timestamp, unique: u128) -> String {
    let mut writer = Writer::default();
    writer.open("feed", &[("xmlns", ATOM)]);
    writer.leaf_with("title", &[("type", "text")], "Publicly Listed Services");
    let subtitle = "This is the list of publicly-listed services currently available.";
    writer.leaf_with("subtitle", &[("type", "text")], subtitle);
    writer.leaf("id", &format!("uuid:{unique:032x};id=1"));
    writer.leaf("updated", &time::show_moment(now));
    writer.leaf("generator", "Service Bus 1.1");
    writer.close("feed");
    writer.finish()
}
