//! foyer's hybrid cache over its block engine. It is a cache: a put is done when the drive has been
//! written to, without a flush to stable storage, and an object may be gone (a miss).

use super::wrong;
use crate::Result;
use crate::work::{Client, MEMORY_BYTES, OBJECT_BYTES, Op, Store};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FileDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig,
};
use std::path::Path;
use tokio::runtime::Runtime;

const BLOCK_BYTES: usize = 64 << 20;

pub(super) struct Foyer {
    cache: HybridCache<u64, Vec<u8>>,
    runtime: Runtime,
}

impl Foyer {
    pub(super) fn open(folder: &Path, objects: u64) -> Result<Foyer> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let capacity = (2 * objects as usize * OBJECT_BYTES).next_multiple_of(BLOCK_BYTES);
        let device = FileDeviceBuilder::new(folder.join("foyer.cache"))
            .with_capacity(capacity + 4 * BLOCK_BYTES)
            .with_direct(true)
            .build()?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(BLOCK_BYTES)
            .with_buffer_pool_size(MEMORY_BYTES / 2);
        let cache = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(MEMORY_BYTES / 2)
            .with_weighter(|_: &u64, value: &Vec<u8>| value.len())
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .build();
        let cache = runtime.block_on(cache)?;
        Ok(Foyer { cache, runtime })
    }
}

impl Store for Foyer {
    fn serve(&self, client: &mut Client<'_>) -> Result<()> {
        while let Some(op) = client.next() {
            match op {
                Op::Put(number) => {
                    self.cache.insert(number, client.bytes(number).to_vec());
                    self.runtime.block_on(self.cache.storage().wait());
                    client.done();
                }
                Op::Get(number) => match self.runtime.block_on(self.cache.get(&number))? {
                    Some(entry) if **entry.value() != *client.bytes(number) => {
                        return wrong(number);
                    }
                    Some(_) => client.done(),
                    None => client.missed(),
                },
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        self.runtime.block_on(self.cache.storage().wait());
        Ok(())
    }
}
