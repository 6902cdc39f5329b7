//! Backups of a store that is a few files, without an engine below.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;
use peeklock_storage::{
    Batch, CommitPosition, Health, Key, MemStore, OnDone, ShardId, Table, format,
};
use tempfile::TempDir;

use super::manifest::{DATA_DIR, MANIFEST_FILE};
use super::restore::restore;
use super::verify::verify;
use super::*;

/// Copies of it are links to all files of its folder, and copies of what changes.
struct Files(MemStore, PathBuf);

impl Store for Files {
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        self.0.submit(shard, position, batch)
    }

    fn on_done(&self, shard: ShardId, report: OnDone) {
        self.0.on_done(shard, report);
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.0.scan(table, range, rows_max, bytes_max)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        self.0.last(table, range)
    }

    fn reclaim(&self, table: Table, range: &Range<Key>) -> Result<(), StoreError> {
        self.0.reclaim(table, range)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        fs::create_dir(dir).unwrap();
        for name in files::list(&self.1).unwrap() {
            let (from, to) = (self.1.join(&name), dir.join(&name));
            if Path::new(&name).extension().is_some_and(|extension| extension == "sst") {
                fs::hard_link(from, to).unwrap();
            } else if name == "broken" {
                return Err(StoreError::Unsupported("copies of what is broken"));
            } else {
                fs::copy(from, to).unwrap();
            }
        }
        Ok(())
    }

    fn sends_allowed(&self) -> bool {
        self.0.sends_allowed()
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.0.reopen()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}

struct World {
    dir: TempDir,
    backups: Arc<Backups>,
}

impl World {
    fn new(copy: bool, keep: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("backups");
        let settings = BackupSettings { directory, keep, copy, rate: None, free_space_reserve: 0 };
        let backups = Backups::new(Some(settings), Arc::default());
        let world = Self { dir, backups };
        for namespace in ["", "other"] {
            let dir = world.store(namespace);
            fs::create_dir_all(&dir).unwrap();
            world.write(namespace, "000007.sst", "rows");
            world.write(namespace, "000009.log", "the log");
            world.write(namespace, "CURRENT", "MANIFEST-000001\n");
            let store = Arc::new(Files(MemStore::new(), dir.clone()));
            world.backups.add(Source { namespace: namespace.to_owned(), dir, store });
        }
        world
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn store(&self, namespace: &str) -> PathBuf {
        manifest::store_dir(&self.data(), namespace)
    }

    fn write(&self, namespace: &str, name: &str, text: &str) {
        fs::write(self.store(namespace).join(name), text).unwrap();
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    /// Makes one and waits until it has ended.
    fn back_up(&self) -> Ended {
        let name = self.backups.begin().unwrap();
        loop {
            let status = self.backups.status();
            if status.running.is_none()
                && let Some(last) = status.last
            {
                assert_eq!(last.name, name);
                return last;
            }
            thread::yield_now();
        }
    }

    #[track_caller]
    fn good(&self) -> (PathBuf, Summary) {
        let ended = self.back_up();
        assert!(ended.ok, "{:?}", ended.error);
        (self.directory().join(&ended.name), ended.summary.unwrap())
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_backup_comes_back_as_the_data_directory_that_it_was() {
    for copy in [false, true] {
        let world = World::new(copy, 7);
        let (backup, summary) = world.good();
        assert_eq!((summary.namespaces, summary.files), (2, 8));
        assert_eq!(summary.new_bytes, summary.bytes);
        assert!(verify(&backup).unwrap().faults.is_empty());
        let linked = inode(&backup.join(DATA_DIR).join("000007.sst"));
        assert_eq!(linked == inode(&world.data().join("000007.sst")), !copy);
        // The store goes on.
        world.write("", "000009.log", "the log, and more");
        let restored = world.dir.path().join("restored");
        assert_eq!(restore(&backup, &restored).unwrap(), summary);
        let read = |path: &str| fs::read_to_string(restored.join(path)).unwrap();
        assert_eq!(read("000009.log"), "the log");
        assert_eq!(read("namespaces/other/000007.sst"), "rows");
        assert_eq!(read("namespaces/other/FORMAT"), format!("{}\n", format::FORMAT));
        assert!(!restored.join(format::UNFINISHED_FILE).exists());
        assert_ne!(inode(&restored.join("000007.sst")), linked, "the store is apart");
        for namespace in ["", "other"] {
            let left = fs::read_dir(world.store(namespace)).unwrap();
            let names = left.map(|entry| entry.unwrap().file_name());
            let names: Vec<_> = names.filter(|name| name != "namespaces").collect();
            assert_eq!(names.len(), 3, "{names:?}");
        }
    }
}

#[test]
fn the_next_backup_shares_what_has_not_changed() {
    for copy in [false, true] {
        let world = World::new(copy, 7);
        let (first, _) = world.good();
        world.write("", "000010.sst", "more rows");
        // The number came again, as it does once an older backup was restored.
        fs::remove_file(world.store("other").join("000007.sst")).unwrap();
        world.write("other", "000007.sst", "else");
        let (second, summary) = world.good();
        let file = |backup: &Path, name: &str| backup.join(DATA_DIR).join(name);
        assert_eq!(inode(&file(&first, "000007.sst")), inode(&file(&second, "000007.sst")));
        let other = "namespaces/other/000007.sst";
        assert_ne!(inode(&file(&first, other)), inode(&file(&second, other)));
        assert_eq!(fs::read_to_string(file(&second, other)).unwrap(), "else");
        assert_eq!(summary.bytes - summary.new_bytes, 4, "what is shared: rows");
        assert!(verify(&first).unwrap().faults.is_empty());
        assert!(verify(&second).unwrap().faults.is_empty());
    }
}

#[test]
fn old_backups_go_and_those_that_stay_are_whole() {
    let world = World::new(false, 2);
    let names: Vec<PathBuf> = (0..4).map(|_| world.good().0).collect();
    let left: Vec<String> =
        world.backups.status().backups.into_iter().map(|one| one.name).collect();
    assert_eq!(left.len(), 2);
    for (place, backup) in names.iter().enumerate() {
        assert_eq!(backup.exists(), 2 <= place);
        if backup.exists() {
            assert!(verify(backup).unwrap().faults.is_empty());
        }
    }
}

#[test]
fn a_backup_that_fails_leaves_nothing_that_looks_like_one() {
    let world = World::new(false, 7);
    world.write("other", "broken", "");
    let ended = world.back_up();
    assert!(!ended.ok && ended.summary.is_none());
    let status = world.backups.status();
    assert!(status.backups.is_empty() && status.running.is_none());
    // Of a broker that was killed in the middle, here and in a store.
    let partial = world.directory().join(".partial-20260101T000000Z");
    fs::create_dir_all(partial.join(DATA_DIR)).unwrap();
    fs::create_dir_all(world.data().join(".checkpoint")).unwrap();
    fs::remove_file(world.store("other").join("broken")).unwrap();
    world.good();
    assert!(!partial.exists() && !world.data().join(".checkpoint").exists());
}

#[test]
fn a_disk_without_room_for_a_copy_is_not_filled() {
    let world = World::new(true, 7);
    let mut settings = world.backups.settings.clone().unwrap();
    settings.free_space_reserve = u64::MAX;
    let backups = Backups::new(Some(settings), Arc::default());
    *lock(&backups.sources) = lock(&world.backups.sources).clone();
    let world = World { dir: world.dir, backups };
    let ended = world.back_up();
    assert!(ended.error.unwrap().contains("stay free"));
    assert!(world.backups.status().backups.is_empty());
}

#[test]
fn what_has_changed_in_a_backup_is_found_and_not_restored() {
    let world = World::new(true, 7);
    let (backup, _) = world.good();
    let file = backup.join(DATA_DIR).join("000009.log");
    fs::write(&file, "the l0g").unwrap();
    fs::write(backup.join(DATA_DIR).join("more.sst"), "").unwrap();
    fs::remove_file(backup.join(DATA_DIR).join("CURRENT")).unwrap();
    let faults = verify(&backup).unwrap().faults;
    assert_eq!(faults.len(), 3, "{faults:?}");
    let restored = world.dir.path().join("restored");
    assert!(restore(&backup, &restored).is_err());
    assert!(restored.join(format::UNFINISHED_FILE).exists());
    assert!(format::prepare(&restored).is_err(), "and not served");
    assert!(restore(&backup, &restored).is_err(), "nor is anything written over");
}

#[test]
fn a_manifest_leads_nowhere_else() {
    let world = World::new(true, 7);
    let (backup, _) = world.good();
    let path = backup.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"000007.sst\"", "\"../../000007.sst\""),
        ("\"other\"", "\"../other\""),
        ("\"version\": 1", "\"version\": 2"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(text, changed);
        fs::write(&path, changed).unwrap();
        assert!(Manifest::read(&backup).is_err(), "{to}");
    }
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
    let newer = restore(&backup, &world.dir.path().join("restored")).unwrap_err();
    assert!(newer.to_string().contains("version 9"), "{newer}");
}

#[test]
fn without_a_directory_or_a_store_none_is_begun() {
    assert_eq!(Arc::<Backups>::default().begin(), Err(Refusal::Off));
    let world = World::new(false, 1);
    lock(&world.backups.sources).clear();
    assert_eq!(world.backups.begin(), Err(Refusal::InMemory));
}
