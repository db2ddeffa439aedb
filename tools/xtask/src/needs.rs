//! What the checks need from the machine. A missing tool is an error that says how to get it: a
//! test that skips itself when its tool is away is a test that cannot fail.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A tool, how to see that it is there, and how to get it.
pub(crate) struct Need {
    name: &'static str,
    probe: &'static [&'static str],
    remedy: Remedy,
}

enum Remedy {
    /// A package of Debian or Ubuntu.
    Apt(&'static str),
    /// A command of its own.
    Run(&'static str),
}

const CARGO_DENY: Need = Need {
    name: "cargo-deny",
    probe: &["cargo", "deny", "--version"],
    remedy: Remedy::Run("cargo install cargo-deny --locked --version 0.20.2"),
};

const VALGRIND: Need =
    Need { name: "valgrind", probe: &["valgrind", "--version"], remedy: Remedy::Apt("valgrind") };

/// For the checks that run nothing.
pub(crate) const LINT: [Need; 1] = [CARGO_DENY];

/// For counting instructions.
pub(crate) const INSTRUCTIONS: [Need; 1] = [VALGRIND];

/// For all tests.
pub(crate) const ALL: [Need; 8] = [
    CARGO_DENY,
    VALGRIND,
    Need { name: "ffmpeg", probe: &["ffmpeg", "-version"], remedy: Remedy::Apt("ffmpeg") },
    Need { name: "ffprobe", probe: &["ffprobe", "-version"], remedy: Remedy::Apt("ffmpeg") },
    Need { name: "chromium", probe: &["chromium", "--version"], remedy: Remedy::Apt("chromium") },
    Need { name: "node", probe: &["node", "--version"], remedy: Remedy::Apt("nodejs") },
    Need { name: "npm", probe: &["npm", "--version"], remedy: Remedy::Apt("npm") },
    Need {
        name: "hls.js and playwright-core",
        probe: &["test", "-d", "tests/browser/node_modules/playwright-core"],
        remedy: Remedy::Run("npm ci --prefix tests/browser"),
    },
];

/// For the real faults of tests/faults.
pub(crate) const FAULTS: [Need; 7] = [
    Need {
        name: "root (mounts and loop devices)",
        probe: &["sh", "-c", "test $(id -u) = 0 || sudo -n true"],
        remedy: Remedy::Run("run it as root, or let sudo ask for no password"),
    },
    Need { name: "python3", probe: &["python3", "-c", "1"], remedy: Remedy::Apt("python3") },
    Need {
        name: "user-mode-linux",
        probe: &["linux.uml", "--version"],
        remedy: Remedy::Apt("user-mode-linux"),
    },
    Need {
        name: "libfaketime",
        probe: &["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"],
        remedy: Remedy::Apt("libfaketime"),
    },
    Need {
        name: "mkfs.ext4",
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin mkfs.ext4 -V"],
        remedy: Remedy::Apt("e2fsprogs"),
    },
    Need {
        name: "mkfs.xfs",
        probe: &["sh", "-c", "PATH=$PATH:/usr/sbin mkfs.xfs -V"],
        remedy: Remedy::Apt("xfsprogs"),
    },
    Need {
        name: "/dev/loop-control and /dev/fuse",
        probe: &["test", "-e", "/dev/loop-control", "-a", "-e", "/dev/fuse"],
        remedy: Remedy::Run("modprobe loop fuse"),
    },
];

/// The tools that are missing and the lines that bring them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    names: Vec<&'static str>,
    commands: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "missing: {}. Install with:", self.names.join(", "))?;
        for command in &self.commands {
            writeln!(out, "  {command}")?;
        }
        Ok(())
    }
}

/// Tries every tool and names all that do not run.
pub(crate) fn check<'a>(
    root: &Path,
    needs: impl IntoIterator<Item = &'a Need>,
) -> Result<(), Missing> {
    let missing: Vec<&Need> = needs.into_iter().filter(|need| !runs(root, need.probe)).collect();
    if missing.is_empty() { Ok(()) } else { Err(remedies(&missing)) }
}

fn runs(root: &Path, probe: &[&str]) -> bool {
    let mut command = Command::new(probe[0]);
    command.args(&probe[1..]).current_dir(root);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn remedies(missing: &[&Need]) -> Missing {
    let names = missing.iter().map(|need| need.name).collect();
    let mut packages = Vec::new();
    let mut commands = Vec::new();
    for need in missing {
        match need.remedy {
            Remedy::Apt(package) if !packages.contains(&package) => packages.push(package),
            Remedy::Apt(_) => {}
            Remedy::Run(command) => commands.push(command.to_owned()),
        }
    }
    if !packages.is_empty() {
        commands.insert(0, format!("sudo apt-get install -y {}", packages.join(" ")));
    }
    Missing { names, commands }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_the_line_that_installs_it() {
        let needs = [
            Need { name: "here", probe: &["true"], remedy: Remedy::Apt("never-asked-for") },
            Need { name: "a", probe: &["no-such-program-a"], remedy: Remedy::Apt("pack") },
            Need { name: "b", probe: &["false"], remedy: Remedy::Apt("pack") },
            Need { name: "c", probe: &["false"], remedy: Remedy::Run("get c") },
        ];
        let missing = check(Path::new("/"), &needs).expect_err("three are missing");
        assert_eq!(
            missing.to_string(),
            "missing: a, b, c. Install with:\n  sudo apt-get install -y pack\n  get c\n",
        );
        assert_eq!(check(Path::new("/"), &needs[..1]), Ok(()));
    }
}
