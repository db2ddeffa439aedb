//! The TOML file as written. Unknown keys are errors: a misspelt limit must not pass for none.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) data: Option<OneOrMany>,
    pub(super) degraded: Option<bool>,
    pub(super) capacity: Option<String>,
    pub(super) ram: Option<String>,
    pub(super) ttl: Option<String>,
    pub(super) listen: Option<String>,
    #[serde(alias = "admin_listen")]
    pub(super) admin_listen: Option<String>,
    pub(super) threads: Option<u64>,
    #[serde(alias = "scrub_cycle")]
    pub(super) scrub_cycle: Option<String>,
    #[serde(alias = "scrub_share")]
    pub(super) scrub_share: Option<String>,
    #[serde(alias = "insecure_no_auth")]
    pub(super) insecure_no_auth: Option<bool>,
    #[serde(default)]
    pub(super) namespaces: BTreeMap<String, RawNamespace>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a path, or a list of paths")]
pub(super) enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamespace {
    pub(super) ttl: Option<String>,
    pub(super) ack: Option<String>,
    pub(super) quota: Option<String>,
    pub(super) guaranteed: Option<bool>,
}

/// The parser's message on one line, with the line it is about.
pub(super) fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        None => message,
        Some(span) => {
            let line = 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count();
            format!("line {line}: {message}")
        }
    }
}
