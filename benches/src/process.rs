//! Child processes that never outlive the bench.
//!
//! Each child leads a process group. It is killed with its group when its handle is dropped, when
//! the bench gets a signal, and (by `setpriv --pdeathsig`, where that is installed) when the bench
//! is killed.

use crate::error::{BenchError, Context, Result};
use crate::proc_fs;
use crate::scratch;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A signal ends the bench: its thread does the rest.
static STOPPING: AtomicBool = AtomicBool::new(false);
static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
/// How often a condition of another process is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// The same of a child that runs for long: whoever looks takes the processor from somebody.
const LOOK_AT_CHILD: Duration = Duration::from_millis(10);

/// A running child and its group.
pub(crate) struct Running {
    child: Child,
    program: String,
    log: PathBuf,
    ended: bool,
}

impl Running {
    /// Starts `program` with standard error, and standard output unless it is piped, in `log`.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        log: PathBuf,
        options: &StartOptions<'_>,
    ) -> Result<Running> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut words: Vec<String> = Vec::new();
        if let Some(signal) = options.on_bench_death.filter(|_| has_setpriv()) {
            words.extend(["setpriv", "--pdeathsig", signal, "--"].map(str::to_owned));
        }
        if let Some(group) = options.cgroup {
            let procs = group.join("cgroup.procs");
            let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", procs.display());
            words.extend(["sh".to_owned(), "-c".to_owned(), script]);
        }
        words.push(program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).process_group(0);
        command.stdin(if options.pipe_stdin { Stdio::piped() } else { Stdio::null() });
        command.envs(options.environment.iter().copied());
        if let Some(folder) = options.current_dir {
            command.current_dir(folder);
        }
        let file = File::create(&log).context(format!("creating {}", log.display()))?;
        let stdout = file.try_clone().context("a second handle of the log")?;
        command.stderr(file);
        command.stdout(if options.pipe_stdout { Stdio::piped() } else { stdout.into() });
        let child = command.spawn().context(format!("starting {name}"))?;
        GROUPS.lock().expect("no panic while held").insert(child.id());
        Ok(Running { child, program: name, log, ended: false })
    }

    /// Its process id, which is also the number of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The end of what it printed, on one line.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Polls `ready` until it gives a value; fails when the child ends or `limit` has passed.
    pub(crate) fn wait_ready<T>(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait().context("waiting for a child")? {
                let (program, tail) = (self.program.clone(), self.last_words());
                return Err(BenchError::Ended { program, status: status.to_string(), tail });
            }
            if begun.elapsed() > limit {
                let (program, tail) = (self.program.clone(), self.last_words());
                return Err(BenchError::Silent { program, waited: limit, tail });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for its end; kills it when that takes too long.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.wait_end_while(limit, &mut || {})
    }

    /// The same, calling `meanwhile` again and again.
    pub(crate) fn wait_end_while(
        &mut self,
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            meanwhile();
            if let Some(status) = self.child.try_wait().context("waiting for a child")? {
                self.gone();
                return Ok(status);
            }
            if begun.elapsed() > limit {
                self.kill();
                return Err(BenchError::TooSlow { program: self.program.clone(), waited: limit });
            }
            std::thread::sleep(LOOK_AT_CHILD);
        }
    }

    /// Asks it to end, as an operator would, and waits.
    pub(crate) fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        signal_group(self.child.id(), Signal::TERM);
        self.wait_end(limit)
    }

    /// SIGKILL to the group; returns when the leader is gone.
    pub(crate) fn kill(&mut self) {
        if !self.ended {
            signal_group(self.child.id(), Signal::KILL);
            let _ = self.child.wait();
            self.gone();
        }
    }

    fn gone(&mut self) {
        // Workers of a leader that has ended must not stay behind.
        signal_group(self.child.id(), Signal::KILL);
        GROUPS.lock().expect("no panic while held").remove(&self.child.id());
        self.ended = true;
    }

    pub(crate) fn usage(&self) -> proc_fs::Usage {
        proc_fs::usage_of_group(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a child is started.
#[derive(Default)]
pub(crate) struct StartOptions<'a> {
    pub(crate) cgroup: Option<&'a Path>,
    pub(crate) current_dir: Option<&'a Path>,
    /// Variables beside those of the bench.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// For programs that end with their input: it stays open as long as the handle.
    pub(crate) pipe_stdin: bool,
    pub(crate) pipe_stdout: bool,
    /// Signal it gets when the bench itself is killed.
    pub(crate) on_bench_death: Option<&'static str>,
}

fn has_setpriv() -> bool {
    ["/usr/bin/setpriv", "/bin/setpriv"].iter().any(|path| Path::new(path).exists())
}

fn signal_group(group: u32, signal: Signal) {
    let pid = i32::try_from(group).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is as good.
        let _ = kill_process_group(pid, signal);
    }
}

/// Never returns while a signal is being obeyed: what failed then failed because of it.
pub(crate) fn wait_if_stopping() {
    while STOPPING.load(Ordering::Acquire) {
        std::thread::park();
    }
}

/// Ends all children and removes what lies in scratch folders when the bench is asked to stop.
pub(crate) fn clean_up_on_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let begun = std::thread::Builder::new().name("signals".into()).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            STOPPING.store(true, Ordering::Release);
            for group in GROUPS.lock().expect("no panic while held").iter() {
                signal_group(*group, Signal::KILL);
            }
            scratch::remove_all();
            std::process::exit(130);
            #[expect(unreachable_code, reason = "names the error type of the block")]
            Ok::<(), std::io::Error>(())
        })
    });
    begun.expect("one more thread can be started");
}
