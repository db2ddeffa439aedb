//! Limits that the bench and the servers it starts live with.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one; children inherit it.
pub(crate) fn raise_files_max() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A limit that stays low is told by the first connection that fails.
    let _ = setrlimit(Resource::Nofile, limit);
}
