//! Writers that go on until the server is gone, and the kill.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::oracle::Oracle;
use super::server::Server;

/// Runs every oracle's writer, kills the server `linger_us` after so many acknowledgements, and
/// gives the payload bytes acknowledged.
pub(crate) fn until_killed(
    server: &mut Server,
    oracles: &mut [Oracle],
    kill_after: u64,
    linger_us: u64,
) -> u64 {
    let addr = server.addr();
    let (sender, acknowledged) = channel();
    thread::scope(|scope| {
        for oracle in oracles {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut client = Client::connect(addr).expect("a server that just answered");
                while write_one(oracle, &mut client, &sender).is_ok() {}
            });
        }
        drop(sender);
        let mut stored = 0;
        for _ in 0..kill_after {
            stored += acknowledged.recv().expect("writers go on until the kill");
        }
        // Not a wait for anything: it moves the kill away from the acknowledgement it follows.
        thread::sleep(Duration::from_micros(linger_us));
        server.kill();
        stored += acknowledged.iter().sum::<u64>();
        server.reap();
        stored
    })
}

/// One operation. An error means that the connection ended before the answer did.
fn write_one(
    oracle: &mut Oracle,
    client: &mut Client,
    acknowledged: &Sender<u64>,
) -> std::io::Result<()> {
    let key = oracle.any_key();
    let path = oracle.path(key);
    let mut stored = 0;
    match oracle.random.below(8) {
        0 => {
            let may_be_gone = oracle.may_be_gone(key);
            oracle.begin(key, None);
            let status = client.delete(&path)?;
            assert!(status == 204 || (status == 404 && may_be_gone), "DELETE {path}: {status}");
            oracle.acknowledged();
        }
        1 | 2 => {
            let checked = oracle.check(client, key)?;
            checked.unwrap_or_else(|wrong| panic!("while serving: {wrong}"));
        }
        way => {
            let version = oracle.new_version();
            let body = version.bytes();
            oracle.begin(key, Some(version));
            let status = client.put(&path, &body, way == 3)?;
            assert!(matches!(status, 201 | 204), "PUT {path}: {status}");
            oracle.acknowledged();
            stored = body.len() as u64;
        }
    }
    // The main thread hears of the end of the run when all senders are gone.
    let _ = acknowledged.send(stored);
    Ok(())
}
