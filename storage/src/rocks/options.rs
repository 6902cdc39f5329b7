//! How the engine is set up. The numbers were measured with queue workloads; each says why it is so.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    WriteBufferManager,
};

use super::space::Reserve;
use crate::batch::Epoch;
use crate::key::Table;

const MIB: usize = 1 << 20;

/// What the owner of a store chooses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Batches built under an older epoch are refused.
    pub epoch: Epoch,
    /// How much of the disk stays free.
    pub reserve: Reserve,
    /// Opens a store whose log is damaged before its end, and loses acknowledged writes.
    pub accept_data_loss: bool,
    /// Cache for blocks, indexes and filters. Queues read each block about once, so what it must
    /// hold is the indexes: 18 MB for ten million messages.
    pub cache_bytes: usize,
    /// Memory for rows not yet in a table file, over all tables.
    pub write_buffers_bytes: usize,
    /// Memory for message rows not yet in a table file, before they are flushed. Rows removed before
    /// that never reach a table file, so more means less work and longer recovery.
    pub message_write_buffer_bytes: usize,
    /// Recovery reads about a gigabyte of log in five seconds; this keeps it below one.
    pub log_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            epoch: Epoch::default(),
            reserve: Reserve::DEFAULT,
            accept_data_loss: false,
            cache_bytes: 64 * MIB,
            write_buffers_bytes: 256 * MIB,
            message_write_buffer_bytes: 64 * MIB,
            log_bytes_max: 160 * MIB as u64,
        }
    }
}

/// Values from this size on live in files of their own and are not rewritten by compaction. At 64 KiB
/// that halves the disk's work; at 1 KiB it makes reads half as dear again.
const BLOB_LEN_MIN: u64 = 4 * 1024;

/// How the engine reads its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LogReading {
    /// Up to the first bad record, and what was read goes into table files. The way it is done.
    Ordinary,
    /// The same, but what was read stays in memory, as there is no room for table files.
    WithoutSpace,
    /// All that can be read, bad records skipped.
    Salvage,
}

pub(super) fn database(
    options: &Options,
    reading: LogReading,
) -> Result<rocksdb::Options, rocksdb::Error> {
    let mut db = rocksdb::Options::default();
    if reading == LogReading::WithoutSpace {
        db = db.get_options_from_string("avoid_flush_during_recovery=true")?;
    }
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_max_total_wal_size(options.log_bytes_max);
    db.set_wal_recovery_mode(match reading {
        LogReading::Ordinary | LogReading::WithoutSpace => DBRecoveryMode::PointInTime,
        LogReading::Salvage => DBRecoveryMode::SkipAnyCorruptedRecord,
    });
    db.set_track_and_verify_wals_in_manifest(!options.accept_data_loss);
    // Gains 12 µs a sync, and is incompatible with telling a torn tail from an old record.
    db.set_recycle_log_file_num(0);
    db.set_max_background_jobs(2);
    db.set_max_open_files(-1);
    // A flushed table goes to the disk in small steps, or the next log sync waits for all of it.
    db.set_bytes_per_sync(MIB as u64);
    db.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
        options.write_buffers_bytes,
        false,
    ));
    // The engine's own diary; none of it is needed to recover.
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(16 * MIB);
    db.set_stats_dump_period_sec(0);
    Ok(db)
}

pub(super) fn tables(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    Table::ALL
        .into_iter()
        .map(|table| ColumnFamilyDescriptor::new(table.name(), of_table(table, options, &cache)))
        .collect()
}

fn of_table(table: Table, options: &Options, cache: &Cache) -> rocksdb::Options {
    let mut cf = rocksdb::Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    cf.set_compression_type(DBCompressionType::None);
    match table {
        Table::Message => {
            cf.set_write_buffer_size(options.message_write_buffer_bytes);
            cf.set_max_write_buffer_number(4);
            cf.set_max_bytes_for_level_base(512 * MIB as u64);
            cf.set_bottommost_compression_type(DBCompressionType::Lz4);
            cf.set_enable_blob_files(true);
            cf.set_min_blob_size(BLOB_LEN_MIN);
            // Collecting moved 5.9 GB for nothing; files full of removed values go as a whole, once
            // compaction has met the removals, which the collector sees to.
            cf.set_enable_blob_gc(false);
            cf.add_compact_on_deletion_collector_factory(1024, 512, 0.0);
        }
        Table::State => {
            cf.set_write_buffer_size(16 * MIB);
            blocks.set_bloom_filter(10.0, false);
        }
        Table::Dedup => {
            cf.set_write_buffer_size(32 * MIB);
            blocks.set_bloom_filter(10.0, false);
        }
        Table::Log => {
            cf.set_write_buffer_size(64 * MIB);
            cf.set_enable_blob_files(true);
            cf.set_min_blob_size(BLOB_LEN_MIN);
            cf.set_enable_blob_gc(false);
            blocks.set_block_size(64 * 1024);
        }
    }
    cf.set_block_based_table_factory(&blocks);
    cf
}
