//! Arrows between crates, as the manifests draw them.

use super::Violation;

/// A crate of the house and the crates of the house it may depend on.
pub(super) struct Crate {
    pub(super) folder: &'static str,
    pub(super) package: &'static str,
    pub(super) may_use: &'static [&'static str],
}

const FORMAT: &str = "tapeloop-format";
const LOG: &str = "tapeloop-log";
const IO: &str = "tapeloop-io";
const SIM: &str = "tapeloop-sim";
const ENGINE: &str = "tapeloop-engine";
const SERVER: &str = "tapeloop-server";

/// The house, from the ground up. A new crate needs a place here before anything may use it.
pub(super) const HOUSE: [Crate; 11] = [
    Crate { folder: "engine/format", package: FORMAT, may_use: &[] },
    Crate { folder: "engine/log", package: LOG, may_use: &[FORMAT] },
    Crate { folder: "engine/io", package: IO, may_use: &[FORMAT] },
    Crate { folder: "engine/sim", package: SIM, may_use: &[LOG, FORMAT] },
    Crate { folder: "engine", package: ENGINE, may_use: &[IO, LOG, FORMAT] },
    Crate { folder: "server", package: SERVER, may_use: &[ENGINE] },
    Crate {
        folder: "tools/fuzz",
        package: "tapeloop-fuzz",
        may_use: &[SERVER, ENGINE, LOG, FORMAT],
    },
    Crate { folder: "tools/xtask", package: "xtask", may_use: &[] },
    Crate { folder: "tools", package: "tapeloop-tools", may_use: &[ENGINE, FORMAT] },
    Crate {
        folder: "benches",
        package: "tapeloop-benches",
        may_use: &[SERVER, ENGINE, IO, LOG, FORMAT],
    },
    // No member of the workspace: it needs RocksDB.
    Crate { folder: "benches/engines", package: "tapeloop-engines", may_use: &[ENGINE] },
];

/// The crate a file belongs to: the deepest folder that holds it.
pub(super) fn crate_of(path: &str) -> Option<&'static Crate> {
    let holds = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    HOUSE.iter().filter(|home| holds(home.folder)).max_by_key(|home| home.folder.len())
}

/// What to say when `user` reaches for `used`.
pub(super) fn advice(user: &Crate, used: &str) -> String {
    let allowed = match user.may_use {
        [] => "nothing of ours".to_owned(),
        some => some.join(", "),
    };
    format!(
        "{} may not use {used}: arrows point downward only (it may use {allowed}). Move what is \
         needed down into a crate both may see, or pass it in as an argument.",
        user.package,
    )
}

/// The arrows of one manifest.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    let violation =
        |line, message| Violation { path: path.to_owned(), line, rule: "arrows", message };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(cause) => return vec![violation(1, format!("is not TOML: {}", cause.message()))],
    };
    let Some(package) = table.get("package") else {
        return Vec::new(); // the workspace root only names versions
    };
    let name = package.get("name").and_then(|name| name.as_str()).unwrap_or("?");
    let Some(home) = HOUSE.iter().find(|home| path == format!("{}/Cargo.toml", home.folder)) else {
        let message = format!("{name} has no place in the house yet: give it one in HOUSE, tidy");
        return vec![violation(1, message)];
    };
    if home.package != name {
        let message = format!("{name} lives where {} is expected: see HOUSE in tidy", home.package);
        return vec![violation(1, message)];
    }

    let ours = dependencies(&table).into_iter().filter(|used| used.starts_with("tapeloop-"));
    ours.filter(|used| !home.may_use.contains(&used.as_str()))
        .map(|used| {
            let line = text.lines().position(|line| line.contains(&used)).unwrap_or(0) + 1;
            violation(line, advice(home, &used))
        })
        .collect()
}

/// Package names from every dependency table of a manifest, renames undone.
fn dependencies(table: &toml::Table) -> Vec<String> {
    let mut places = vec![table];
    if let Some(targets) = table.get("target").and_then(|targets| targets.as_table()) {
        places.extend(targets.values().filter_map(|target| target.as_table()));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = places.iter().flat_map(|place| kinds.iter().filter_map(|kind| place.get(*kind)));
    tables
        .filter_map(|dependencies| dependencies.as_table())
        .flatten()
        .map(|(key, value)| {
            let renamed = value.get("package").and_then(|package| package.as_str());
            renamed.unwrap_or(key).to_owned()
        })
        .collect()
}
