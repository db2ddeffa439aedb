//! Encoders that push small objects until their origin is killed, and remember what was
//! acknowledged.

use super::objects;
use crate::client::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const PUSHERS: u32 = 8;

/// Pushing threads.
pub(super) struct Pushers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Pushers {
    pub(super) fn start(address: SocketAddr, round: u32) -> Pushers {
        let over = Arc::new(AtomicBool::new(false));
        let push = |pusher| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || push(address, round, pusher, &over))
        };
        let threads = (0..PUSHERS).map(push).collect();
        Pushers { over, threads }
    }

    /// Keys whose PUT was acknowledged.
    pub(super) fn stop(self) -> Vec<String> {
        self.over.store(true, Ordering::Release);
        let acked = self.threads.into_iter().map(|thread| thread.join());
        acked.flat_map(|keys| keys.expect("a pusher does not panic")).collect()
    }
}

fn push(address: SocketAddr, round: u32, pusher: u32, over: &AtomicBool) -> Vec<String> {
    let mut acked = Vec::new();
    let Ok(mut client) = Client::connect(address, super::TIMEOUT) else { return acked };
    for number in 0.. {
        if over.load(Ordering::Acquire) {
            break;
        }
        let key = format!("restart/round-{round}/{pusher}-{number}.m4s");
        match client.put(&super::path(&key), &objects::payload(&key)) {
            Ok(answer) if matches!(answer.status, 201 | 204) => acked.push(key),
            // The kill.
            Ok(_) | Err(_) => break,
        }
    }
    acked
}
