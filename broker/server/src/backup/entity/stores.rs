//! The two stores of which one gets an entity of the other.

use std::path::Path;

use peeklock_core::transplant::{Transplant, Wish};
use peeklock_storage::rocks::{Options, Reserve, RocksReader, RocksStore};
use peeklock_storage::{Store, StoreError};

use super::{Order, Restored, RestoredPart};
use crate::backup::manifest::{DATA_DIR, StoreFiles, store_dir};
use crate::backup::restore::readable;
use crate::backup::verify::faults;
use crate::backup::{BackupError, files};
use crate::check::{Writer, look_at};
use crate::clock::Clock;

/// See the module above. The backup is compared with its manifest before anything of it is read.
pub(crate) fn restore_entity(order: &Order) -> Result<Restored, BackupError> {
    let Order { backup, data_dir, namespace, .. } = order;
    let manifest = readable(backup)?;
    let Some(store) = manifest.namespaces.iter().find(|store| store.name == *namespace) else {
        let dir = backup.display();
        return Err(BackupError::Other(format!("{dir} has no namespace {namespace}")));
    };
    let dir = store_dir(data_dir, namespace);
    // Whoever has it open is told at once, and nobody opens it in the meantime.
    let target = open(&dir)?;
    let restored = verified(backup, store).and_then(|source| copy(order, &source, &target, &dir));
    target.close()?;
    let entities = restored?;
    let check = order.check.then(|| look_at(data_dir, [namespace.clone()])).transpose()?;
    Ok(Restored { created: manifest.created, entities, check })
}

/// The store that the entity goes to, which has to be there: a name mistyped makes no new one.
fn open(dir: &Path) -> Result<RocksStore, BackupError> {
    if !peeklock_storage::rocks::is_store(dir) {
        let what = "there is no store in it".to_owned();
        return Err(StoreError::Open { dir: dir.to_owned(), what }.into());
    }
    let options = Options { reserve: Reserve::NONE, ..Options::default() };
    Ok(RocksStore::open(dir, options)?)
}

fn verified(backup: &Path, store: &StoreFiles) -> Result<RocksReader, BackupError> {
    let faults = faults(backup, store);
    if let Some(first) = faults.first() {
        let (dir, count) = (backup.display(), faults.len());
        return Err(BackupError::Other(format!("{dir} has {count} faults: {first}")));
    }
    let source = RocksReader::open(store_dir(&backup.join(DATA_DIR), &store.name))?;
    match source.log_damage() {
        Some(damage) => Err(damage.clone().into()),
        None => Ok(source),
    }
}

fn copy(
    order: &Order,
    source: &dyn Store,
    target: &dyn Store,
    dir: &Path,
) -> Result<Vec<RestoredPart>, BackupError> {
    let (entity, name) = (order.entity.clone(), order.name.clone());
    let wish = Wish { entity, name, now: Clock::real().now() };
    let mut transplant = Transplant::plan(source, target, &wish)?;
    let bytes = transplant.parts().first().map_or(0, |part| part.bytes);
    let free = files::free_bytes(dir)?;
    if free < bytes {
        let dir = dir.display();
        return Err(BackupError::Other(format!("{dir} has {free} octets left, and needs {bytes}")));
    }
    let mut writer = Writer::new(target);
    while let Some(batch) = transplant.next_batch()? {
        writer.write(batch)?;
    }
    Ok(transplant.parts().iter().map(RestoredPart::from).collect())
}
