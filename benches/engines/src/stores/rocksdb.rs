//! RocksDB with values in blob files. Every put is synced to its write-ahead log; with direct I/O
//! the page cache holds nothing of the values, and blobs have no cache.
//!
//! Linked with the library of the system (`apt install librocksdb-dev libclang-dev`), which
//! .cargo/config.toml names.

use super::{key, wrong};
use crate::Result;
use crate::work::{Client, MEMORY_BYTES, Op, Store};
use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteOptions};
use std::path::Path;

/// Options of blob files can be set on an open store only, with this binding.
const BLOBS: [(&str, &str); 4] = [
    ("enable_blob_files", "true"),
    ("min_blob_size", "4096"),
    ("enable_blob_garbage_collection", "true"),
    ("blob_file_size", "268435456"),
];

pub(super) struct Rocks {
    db: DB,
}

impl Rocks {
    pub(super) fn open(folder: &Path) -> Result<Rocks> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_use_direct_reads(true);
        options.set_use_direct_io_for_flush_and_compaction(true);
        options.set_max_background_jobs(2);
        // Half of the memory for what is written, half for blocks of the index.
        options.set_write_buffer_size(MEMORY_BYTES / 4);
        options.set_max_write_buffer_number(2);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(MEMORY_BYTES / 2)?);
        options.set_block_based_table_factory(&table);
        let db = DB::open(&options, folder.join("rocksdb"))?;
        db.set_options(&BLOBS)?;
        Ok(Rocks { db })
    }
}

impl Store for Rocks {
    fn serve(&self, client: &mut Client<'_>) -> Result<()> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        while let Some(op) = client.next() {
            match op {
                Op::Put(number) => {
                    self.db.put_opt(key(number), client.bytes(number), &durable)?;
                    client.done();
                }
                Op::Get(number) => {
                    let found = self.db.get_pinned(key(number))?;
                    let bytes = found.ok_or_else(|| format!("object {number} is gone"))?;
                    if *bytes != *client.bytes(number) {
                        return wrong(number);
                    }
                    client.done();
                }
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }
}
