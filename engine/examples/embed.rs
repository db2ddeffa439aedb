//! Embedding the engine: create a store, put an object, follow an upload, read a range, list,
//! close.
//!
//! `cargo run -p tapeloop-engine --example embed -- /tmp/embedded.tape`

use std::path::PathBuf;
use tapeloop_engine::{Ack, Engine, Key, Options, PutOptions, block_on};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = PathBuf::from(std::env::args().nth(1).ok_or("usage: embed VOLUME")?);
    if !path.exists() {
        tapeloop_engine::format(std::slice::from_ref(&path), 64 << 20, &mut |_, _| {})?;
    }
    let (engine, recovery) =
        Engine::open(Options { arena_bytes: 32 << 20, ..Options::new(&path) })?;
    println!("store {}: {} objects found", recovery.store_id, recovery.report.objects);
    block_on(256, use_store(&engine))??;
    for entry in engine.list(b"live/", None, 10)? {
        println!("{}: {} bytes", entry.key, entry.len);
    }
    engine.close();
    Ok(())
}

async fn use_store(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
    let key = Key::new(*b"live/seg-1.m4s")?;
    let options = PutOptions { ttl_ms: 60_000, ..PutOptions::default() };
    let mut upload = engine.put(&key, options).await?;
    upload.write(b"the first half, ").await?;

    // What has arrived can be followed before the upload is complete.
    let object = engine.get(&key).await?.ok_or("an upload in progress is found")?;
    let mut follower = object.follow();
    if let Some(chunk) = follower.next().await {
        println!("so far: {:?}", String::from_utf8_lossy(&chunk?));
    }

    upload.write(b"the second half").await?;
    let committed = upload.commit(Ack::Durable).await?;
    println!("{} bytes on stable storage", committed.len);

    let object = engine.get(&key).await?.ok_or("just stored")?;
    let mut range = object.read(4..9);
    while let Some(chunk) = range.next().await {
        println!("bytes 4 to 8: {:?}", String::from_utf8_lossy(&chunk?));
    }
    Ok(())
}
