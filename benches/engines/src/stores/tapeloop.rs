//! The tapeloop engine: a ring with room for the fill and the mix's puts.

use super::{key, wrong};
use crate::Result;
use crate::work::{Client, MEMORY_BYTES, OBJECT_BYTES, Op, Store};
use std::path::Path;
use tapeloop_engine::{Ack, Engine, Key, Options, PutOptions, block_on};

const TTL_MS: u64 = 3_600_000;

pub(super) struct Tape {
    engine: Engine,
}

impl Tape {
    pub(super) fn open(folder: &Path, objects: u64) -> Result<Tape> {
        let volume = folder.join("volume-0.tape");
        let capacity = (2 * objects + 4096) * OBJECT_BYTES as u64;
        tapeloop_engine::format(std::slice::from_ref(&volume), capacity, &mut |_, _| {})?;
        let options = Options { arena_bytes: MEMORY_BYTES as u64, ..Options::new(volume) };
        let (engine, _) = Engine::open(options)?;
        Ok(Tape { engine })
    }

    async fn work(&self, client: &mut Client<'_>) -> Result<()> {
        while let Some(op) = client.next() {
            match op {
                Op::Put(number) => {
                    let options = PutOptions { ttl_ms: TTL_MS, ..PutOptions::default() };
                    let mut upload =
                        self.engine.put(&Key::new(key(number).as_bytes())?, options).await?;
                    upload.write(client.bytes(number)).await?;
                    upload.commit(Ack::Durable).await?;
                    client.done();
                }
                Op::Get(number) => {
                    let found = self.engine.get(&Key::new(key(number).as_bytes())?).await?;
                    let object = found.ok_or_else(|| format!("object {number} is gone"))?;
                    let mut chunks = object.read(0..OBJECT_BYTES as u64);
                    let mut at = 0;
                    while let Some(chunk) = chunks.next().await {
                        let chunk = chunk?;
                        let expected = &client.bytes(number)[at..];
                        if !expected.starts_with(&chunk) {
                            return wrong(number);
                        }
                        at += chunk.len();
                    }
                    if at != OBJECT_BYTES {
                        return wrong(number);
                    }
                    client.done();
                }
            }
        }
        Ok(())
    }
}

impl Store for Tape {
    fn serve(&self, client: &mut Client<'_>) -> Result<()> {
        block_on(64, self.work(client))?
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
