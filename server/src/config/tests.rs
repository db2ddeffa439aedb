//! What the user said and what it comes to: defaults, units, refusals that name flag and value.

use super::*;
use clap::Parser;

fn load(flags: &[&str]) -> Result<Config, String> {
    let args = Args::try_parse_from([&["tapeloop"], flags].concat()).expect("known flags");
    Config::load(&args).map_err(|error| error.to_string())
}

fn load_file(text: &str, flags: &[&str]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("writable");
    let path = file.path().to_str().expect("a plain path");
    load(&[&["--config", path], flags].concat())
}

#[test]
fn without_arguments_the_promised_defaults_hold() {
    let config = load(&[]).expect("defaults are valid");
    assert_eq!(config.data, [PathBuf::from("./tapeloop-data")]);
    assert!(!config.degraded);
    assert_eq!(config.capacity, 1 << 30);
    assert!(!config.capacity_given);
    assert_eq!(config.ram, 256 << 20);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.policies.default.ttl_ms, 24 * 3600 * 1000);
    assert_eq!(config.threads, default_threads());
}

#[test]
fn a_wrong_value_names_flag_value_and_what_is_allowed() {
    let table: &[(&[&str], [&str; 3])] = &[
        (&["--capacity", "lots"], ["--capacity", "\"lots\"", "32 MiB"]),
        (&["--capacity", "1MiB"], ["--capacity", "\"1MiB\"", "32 MiB"]),
        (&["--ram", "1"], ["--ram", "\"1\"", "16 MiB"]),
        (&["--ttl", "60"], ["--ttl", "\"60\"", "1s to 3650d"]),
        (&["--listen", "8080"], ["--listen", "\"8080\"", "127.0.0.1:8080"]),
        (&["--admin-listen", "x"], ["--admin-listen", "\"x\"", "127.0.0.1:8081"]),
        (&["--threads", "0"], ["--threads", "\"0\"", "1 to 256"]),
        (&["--listen", "0.0.0.0:80"], ["--listen", "0.0.0.0:80", "--insecure-no-auth"]),
        (&["--data", "a", "--data", "b", "--data", "a"], ["--data", "\"a\"", "twice"]),
        (&["--data=a"; 17], ["--data", "17 paths", "1 to 16"]),
        (&["--config", "/no/such.toml"], ["--config", "/no/such.toml", "No such file"]),
    ];
    for (flags, parts) in table {
        let error = load(flags).expect_err("refused");
        for part in parts {
            assert!(error.contains(part), "{flags:?}: {part:?} not in {error:?}");
        }
        assert!(!error.contains('\n'), "one line: {error:?}");
    }
}

#[test]
fn an_exposed_address_needs_the_word_insecure() {
    let config = load(&["--listen", "0.0.0.0:80", "--insecure-no-auth"]).expect("allowed");
    assert_eq!(config.listen.to_string(), "0.0.0.0:80");
    assert!(load(&["--listen", "[::1]:80"]).is_ok());
}

#[test]
fn every_flag_has_a_key_and_flags_win() {
    let text = "data = \"/d\"\ncapacity = \"64MiB\"\nram = \"32MiB\"\nttl = \"1h\"\n\
                listen = \"0.0.0.0:1\"\nadmin-listen = \"127.0.0.1:2\"\nthreads = 3\n\
                degraded = true\n\
                insecure-no-auth = true\n";
    let config = load_file(text, &["--ram", "48MiB"]).expect("valid");
    assert_eq!(config.data, [PathBuf::from("/d")]);
    assert!(config.degraded);
    assert_eq!((config.capacity, config.ram), (64 << 20, 48 << 20));
    assert_eq!(config.policies.default.ttl_ms, 3_600_000);
    assert_eq!(config.listen.to_string(), "0.0.0.0:1");
    assert_eq!(config.admin_listen.port(), 2);
    assert_eq!(config.threads, 3);
}

#[test]
fn an_unknown_key_or_a_wrong_value_in_the_file_is_an_error_with_its_place() {
    let error = load_file("ram = \"32MiB\"\ncapcity = \"1GiB\"\n", &[]).expect_err("refused");
    assert!(error.contains("line 2") && error.contains("capcity"), "{error}");
    assert!(!error.contains('\n'), "{error:?}");
    let error = load_file("[namespaces.live]\nack = \"maybe\"\n", &[]).expect_err("refused");
    assert!(error.contains("namespaces.live.ack") && error.contains("buffered"), "{error}");
    let error = load_file("[namespaces.\"a/b\"]\n", &[]).expect_err("refused");
    assert!(error.contains("a/b"), "{error}");
    let error = load_file("threads = 0\n", &[]).expect_err("refused");
    assert!(error.contains("threads") && !error.contains("--threads"), "{error}");
}

#[test]
fn namespaces_carry_their_rules_and_can_be_read_again() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("a plain path");
    let first = "ttl = \"2h\"\n[namespaces.live]\nttl = \"5m\"\nack = \"buffered\"\n\
                 [namespaces.dvr]\nquota = \"1GiB\"\nguaranteed = true\n";
    std::fs::write(path, first).expect("writable");
    let config = load(&["--config", path]).expect("valid");
    let live = config.policies.of_key(b"live/a").expect("listed");
    assert_eq!((live.ttl_ms, live.ack, live.group), (300_000, Ack::Buffered, 0));
    let dvr = config.policies.of_key(b"dvr/a").expect("listed");
    assert_eq!((dvr.ttl_ms, dvr.quota, dvr.guaranteed), (7_200_000, Some(1 << 30), true));
    assert_ne!(dvr.group, 0);
    assert_eq!(config.policies.groups().count(), 1);

    std::fs::write(path, "[namespaces.vod]\n").expect("writable");
    let again = config.reload_policies().expect("valid");
    assert!(again.of_key(b"live/a").is_none());
    assert_eq!(again.of_key(b"vod/a").map(|vod| vod.ttl_ms), Some(7_200_000));
    std::fs::write(path, "[namespaces.vod\n").expect("writable");
    assert!(config.reload_policies().is_err());
}
