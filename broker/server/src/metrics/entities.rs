//! What there is to say of each queue, topic and subscription, and of namespaces as a whole.
//!
//! There may be thousands of entities. Their core is asked for a page at a time, so that no message waits
//! for a scrape; the text is written with a writer of its own, which renders the labels of an entity once
//! and not for each of its samples; and no more entities are shown than the configuration wants, those
//! that hold most (`choice`). Totals of namespaces count the hidden ones too.

mod choice;
mod families;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;
use std::time::Duration;

use peeklock_core::{Command, EntityPath, EntityStatistics, OldestMessage, Timestamp};
use tokio::time::timeout;
use tracing::debug;

pub(super) use self::choice::EntitiesShown;
#[cfg(test)]
pub(super) use self::families::families;
use self::text::Labels;
use super::Pieces;
use crate::driver::Input;
use crate::namespaces::{Namespace, Namespaces};

/// What the default namespace is called.
const DEFAULT: &str = "default";

/// Entities that a driver is asked for at a time. That takes it far less than a millisecond; between two
/// pages it does what else there is to do.
const PAGE: usize = 128;

/// A driver that takes longer for a page is busy with something worse, and its namespace is left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Oldest messages that a scrape has looked up, where only the store knows when they came. A quarter of
/// what clients may wait for at a time; the next scrape goes on.
const LOOKS_MAX: usize = 256;

/// What a namespace has told.
struct Told {
    name: Arc<str>,
    /// By its own clock.
    now: Timestamp,
    /// All of them, in the order of their paths.
    entities: Vec<EntityStatistics>,
}

/// Writes the families of entities and of namespaces.
pub(super) async fn write(namespaces: &Namespaces, shown: &EntitiesShown, out: &mut Pieces) {
    let mut told = Vec::new();
    let further = namespaces.further();
    let further = further.iter().map(|(name, namespace)| (name.as_str(), namespace));
    for (name, namespace) in [(DEFAULT, namespaces.default())].into_iter().chain(further) {
        if let Some(entities) = ask(namespace).await {
            let now = namespace.settings().clock.now();
            told.push((Told { name: name.into(), now, entities }, namespace));
        } else {
            debug!(namespace = name, "the entities of a namespace are left out of the metrics");
        }
    }
    let (told, asked): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    let chosen = shown.choose(&told);
    render(&told, &chosen, out).await;
    for ((told, chosen), namespace) in told.iter().zip(&chosen).zip(asked) {
        look_for_oldest(told, chosen, shown, namespace);
    }
}

/// All entities, or nothing if the driver does not answer.
async fn ask(namespace: &Namespace) -> Option<Vec<EntityStatistics>> {
    let shard = &namespace.context().shard;
    let mut entities: Vec<EntityStatistics> = Vec::new();
    loop {
        let after: Option<EntityPath> = entities.last().map(|last| last.path.clone());
        let look = shard.query(move |core| core.entity_statistics(after.as_ref(), PAGE));
        let page = timeout(ANSWER_WITHIN, look).await.ok()?.ok()?;
        let is_last = page.len() < PAGE;
        entities.extend(page);
        if is_last {
            return Some(entities);
        }
    }
}

async fn render(told: &[Told], chosen: &[Vec<usize>], out: &mut Pieces) {
    let shown: Vec<_> = told
        .iter()
        .zip(chosen)
        .flat_map(|(told, chosen)| chosen.iter().map(move |at| (told, &told.entities[*at])))
        .collect();
    let labels = Labels::of(shown.iter().map(|(told, entity)| (&*told.name, entity.path.name())));
    for family in &families::OF_ENTITIES {
        family.write(&shown, &labels, out).await;
    }
    for family in &families::OF_NAMESPACES {
        family.write(told, chosen, out.text());
    }
}

/// Has the core find out when oldest messages came, as far as that will be shown. The next scrape tells.
fn look_for_oldest(told: &Told, chosen: &[usize], shown: &EntitiesShown, namespace: &Namespace) {
    let entities = chosen.iter().map(|at| &told.entities[*at]);
    let unknown: Vec<_> =
        entities.filter(|entity| entity.oldest == OldestMessage::Unknown).collect();
    if unknown.is_empty() {
        return;
    }
    // Not always the same ones first: of some it cannot be found out.
    let from = shown.next_look(LOOKS_MAX) % unknown.len();
    let asked = unknown.iter().cycle().skip(from).take(LOOKS_MAX.min(unknown.len()));
    let commands = asked.map(|entity| Command::FindOldest { entity: entity.entity }).collect();
    // A broker that stops has nothing to tell any more.
    let _ = namespace.context().shard.send(Input::Commands(commands));
}
