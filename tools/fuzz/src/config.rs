//! Configuration files: any text gives a configuration within its bounds or one line of cause.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use clap::Parser;
use tapeloop_server::config::{Args, Config};

struct Place {
    file: File,
    args: Args,
}

thread_local! {
    /// One file per thread, in memory where the machine has a place for that, and without a name:
    /// it is gone with the process however that ends.
    static PLACE: RefCell<Place> = RefCell::new({
        let folder = PathBuf::from("/dev/shm");
        let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
        let thread = std::thread::current().id();
        let path = folder.join(format!("tapeloop-fuzz-{}-{thread:?}.toml", std::process::id()));
        let file = File::create(&path).expect("a scratch file");
        std::fs::remove_file(&path).expect("the file just made");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Place { file, args: Args::parse_from(["tapeloop", "--config", &path]) }
    });
}

/// A configuration file of any bytes.
pub fn config(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        place.file.set_len(0).expect("scratch space");
        place.file.write_all_at(bytes, 0).expect("scratch space");
        match Config::load(&place.args) {
            Ok(config) => check(&config),
            Err(error) => {
                let line = error.to_string();
                assert!(!line.contains(['\n', '\r']), "more than one line: {line:?}");
                assert!(line.len() <= 4096 + 16 * bytes.len(), "a cause of {} bytes", line.len());
            }
        }
    });
}

fn check(config: &Config) {
    assert!(config.capacity >= 32 << 20 && config.ram >= 16 << 20);
    assert!((1..=256).contains(&config.threads) || config.threads > 0);
    let ttl = |ttl_ms: u64| (1000..=3650 * 86_400_000).contains(&ttl_ms);
    assert!(ttl(config.policies.default.ttl_ms));
    for name in config.policies.names() {
        let key = format!("{name}/x");
        let namespace = config.policies.of_key(key.as_bytes()).expect("it is listed");
        assert!(ttl(namespace.ttl_ms));
        assert!(namespace.quota.is_none_or(|quota| quota >= 1 << 20));
    }
    let again = config.reload_policies().expect("what was loaded loads again");
    assert_eq!(again, config.policies);
}
