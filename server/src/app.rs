//! The whole program: configuration, store, planes, signals, and the way down again.

use crate::admin::{self, Admin, EngineHandle, Watched};
use crate::config::{Args, Command, Config, ConfigError, Policies, format_duration, format_size};
use crate::memory::MemoryMax;
use crate::net::{self, DataPlane, Limits, ServeError, Serving};
use crate::store::{self, StoreError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tapeloop_engine::{Engine, RecoverySummary, probe, socket};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often the threads are looked after.
const WATCH: Duration = Duration::from_secs(1);

/// Why the program ended other than by a signal. One line each.
#[derive(Debug, Error)]
pub enum AppError {
    /// Flags or file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine cannot run it.
    #[error(transparent)]
    Probe(#[from] probe::ProbeError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No data plane.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No admin plane.
    #[error("admin plane: cannot listen on {addr}: {cause}")]
    Admin {
        /// The address.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// No runtime, no signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A front-end thread died.
    #[error("a front-end thread has died")]
    ThreadDied,
}

/// Runs until a signal ends it.
pub fn run(args: &Args) -> Result<(), AppError> {
    let config = Config::load(args)?;
    if args.check {
        return check(&config);
    }
    // Signals are taken from here on: one that comes while the store is created is not lost.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AppError::Signals)?;
    let mut signals = runtime.block_on(async { Signals::new() }).map_err(AppError::Signals)?;
    let _ = socket::raise_nofile_limit();
    let admin_listener = bind_admin(&config)?;
    let bound = net::bind(&DataPlane::of(&config, Limits::default()))?;
    let (engine, summary) = store::open(&config)?;
    let (policies, receiver) = watch::channel(Arc::new(config.policies.clone()));
    let serving = net::serve(bound, &engine, &receiver)?;
    let stats = engine.stats();
    let memory = MemoryMax::of(&config, u64::from(stats.zones) * stats.zone_bytes);
    let watched = Arc::new(Watched {
        memory_max_bytes: memory.all(),
        engine: EngineHandle(engine.clone()),
        counters: serving.counters(),
        data_addr: serving.addr(),
        started: Instant::now(),
        is_stopping: AtomicBool::new(false),
        has_failed: AtomicBool::new(false),
    });
    let admin = admin::start(admin_listener, Arc::clone(&watched))
        .map_err(|cause| AppError::Admin { addr: config.admin_listen, cause })?;
    print_banner(&watched, &summary, &memory, admin.addr());
    let demo = matches!(args.command, Some(Command::Demo)).then(|| Demo::start(serving.addr()));
    let ended =
        runtime.block_on(wait_for_end(&mut signals, &config, &policies, &serving, &watched));
    stop(demo, serving, admin, engine, &watched)?;
    ended
}

fn bind_admin(config: &Config) -> Result<TcpListener, AppError> {
    let addr = config.admin_listen;
    TcpListener::bind(addr).map_err(|cause| AppError::Admin { addr, cause })
}

/// Requests in progress finish first, then what they were promised is made durable.
fn stop(
    demo: Option<Demo>,
    serving: Serving,
    admin: Admin,
    engine: Engine,
    watched: &Watched,
) -> Result<(), AppError> {
    watched.is_stopping.store(true, Ordering::Relaxed);
    if let Some(demo) = demo {
        demo.stop();
    }
    let drained = serving.stop();
    admin.stop();
    engine.close();
    drained.map_err(AppError::from)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn wait_for_end(
    signals: &mut Signals,
    config: &Config,
    policies: &watch::Sender<Arc<Policies>>,
    serving: &Serving,
    watched: &Watched,
) -> Result<(), AppError> {
    let mut looks = tokio::time::interval(WATCH);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => reload(config, policies),
            _ = looks.tick() => if serving.has_failed() {
                watched.has_failed.store(true, Ordering::Relaxed);
                return Err(AppError::ThreadDied);
            },
        }
    }
}

/// A file that is wrong changes nothing.
fn reload(config: &Config, policies: &watch::Sender<Arc<Policies>>) {
    match config.reload_policies() {
        Err(error) => tracing::error!("configuration not reloaded: {error}"),
        Ok(fresh) => {
            let groups = |of: &Policies| of.groups().cloned().collect::<Vec<_>>();
            if groups(&fresh) != groups(&config.policies) {
                tracing::warn!("changes of quota or guaranteed take effect at the next start");
            }
            policies.send_replace(Arc::new(fresh));
            tracing::info!("configuration reloaded");
        }
    }
}

/// The built-in stream, pushed through the door everybody else uses.
struct Demo {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Demo {
    fn start(data_addr: SocketAddr) -> Demo {
        println!("demo stream  {}", crate::demo::urls(data_addr));
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if let Err(error) = crate::demo::run(data_addr, told) {
                tracing::error!("demo: {error}");
            }
        });
        Demo { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("demo: panicked");
        }
    }
}

fn print_banner(
    watched: &Watched,
    summary: &RecoverySummary,
    memory: &MemoryMax,
    admin_addr: SocketAddr,
) {
    let stats = watched.engine.0.stats();
    let capacity = format_size(u64::from(stats.zones) * stats.zone_bytes);
    let data = watched.data_addr;
    println!("tapeloop {}", env!("CARGO_PKG_VERSION"));
    let volumes = watched.engine.0.volumes();
    let paths: Vec<PathBuf> = volumes.iter().filter_map(|volume| volume.path.clone()).collect();
    println!(
        "store        {}, {capacity}, {} objects recovered in {} ms",
        store::list(&paths),
        summary.report.objects,
        summary.duration.as_millis(),
    );
    for volume in &summary.missing {
        let count = volumes.len();
        println!("degraded     volume {volume} of {count} is missing; what it holds is given up");
    }
    if summary.report.findings_count > 0 {
        let count = summary.report.findings_count;
        println!("damage       {count} findings; `tapectl fsck` names every object they touch");
    }
    println!("memory       {memory}");
    println!("data plane   http://{data}");
    println!("admin plane  http://{admin_addr}");
    println!(
        "push         ffmpeg -re -f lavfi -i testsrc2=size=640x360:rate=25 -c:v libx264 -g 50 \
         -f hls -hls_time 2 -hls_flags delete_segments -method PUT \
         http://{data}/live/stream.m3u8"
    );
    println!("play         ffplay http://{data}/live/stream.m3u8");
}

/// Says what would be done, after trying what can be tried without doing it.
fn check(config: &Config) -> Result<(), AppError> {
    let volumes = store::volumes(config);
    let place = |path: &PathBuf| match path.exists() {
        true => probe::probe(path),
        false => probe::probe(nearest_directory(path)),
    };
    let machines = volumes.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let machine = machines.first().expect("a store has a place");
    drop(net::bind(&DataPlane::of(config, Limits::default()))?);
    drop(bind_admin(config)?);
    let list = store::list(&volumes);
    if store::exists(config) {
        let degraded = if config.degraded { ", whichever of them are there" } else { "" };
        println!("store        would open {list}{degraded}");
    } else {
        let each = if volumes.len() > 1 { " each" } else { "" };
        println!("store        would create {list} of {}{each}", format_size(config.capacity));
    }
    println!("memory       {}", MemoryMax::of(config, store::capacity_bytes(config)));
    println!("data plane   http://{} on {} threads", config.listen, config.threads);
    println!("admin plane  http://{}", config.admin_listen);
    println!("ttl          {} unless said otherwise", ttl(config));
    println!("scrub        {}", scrub(config));
    let names: Vec<String> = config.policies.names().collect();
    let namespaces = if names.is_empty() { "any".to_owned() } else { names.join(", ") };
    println!("namespaces   {namespaces}");
    let registered = if machine.registered_buffers { "can" } else { "cannot" };
    println!("machine      Linux {}, read buffers {registered} be registered", machine.kernel);
    Ok(())
}

fn ttl(config: &Config) -> String {
    format_duration(config.policies.default.ttl_ms)
}

fn scrub(config: &Config) -> String {
    let percent = f64::from(config.scrub.share_permille) / 10.0;
    match config.scrub.cycle {
        None => format!("only when asked, with {percent} % of each drive's time"),
        Some(cycle) => format!(
            "all within {}, with {percent} % of each drive's time",
            format_duration(cycle.as_millis() as u64),
        ),
    }
}

/// The directory itself, or the closest one above that exists.
fn nearest_directory(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}
