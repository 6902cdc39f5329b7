//! An answer about one thing, as an entry of Atom.

use peeklock_core::time::Timestamp;

use super::time;
use super::xml::{ATOM, Writer};

/// What is answered about one thing: a queue, a rule, ….
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Its own name.
    pub(super) title: String,
    pub(super) published: Option<Timestamp>,
    pub(super) updated: Timestamp,
    /// Whether the namespace is named as its author.
    pub(super) has_author: bool,
    /// The description, as XML.
    pub(super) content: String,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// JavaScript takes names from it.
    pub(super) id: &'a str,
    pub(super) link: &'a str,
    pub(super) namespace: &'a str,
    /// The feed around it.
    pub(super) base: Option<&'a str>,
}

impl Entry {
    /// The whole document.
    pub(super) fn document(&self, place: Place<'_>) -> String {
        let mut writer = Writer::default();
        self.write(&mut writer, place);
        writer.finish()
    }

    pub(super) fn write(&self, writer: &mut Writer, place: Place<'_>) {
        match place.base {
            Some(base) => writer.open("entry", &[("xml:base", base)]),
            None => writer.open("entry", &[("xmlns", ATOM)]),
        }
        writer.leaf("id", place.id);
        writer.leaf_with("title", &[("type", "text")], &self.title);
        if let Some(published) = self.published {
            writer.leaf("published", &time::show_moment(published));
        }
        writer.leaf("updated", &time::show_moment(self.updated));
        if self.has_author {
            writer.open("author", &[]);
            writer.leaf("name", place.namespace);
            writer.close("author");
        }
        writer.leaf_with("link", &[("rel", "self"), ("href", place.link)], "");
        writer.open("content", &[("type", "application/xml")]);
        writer.raw(&self.content);
        writer.close("content");
        writer.close("entry");
    }
}
