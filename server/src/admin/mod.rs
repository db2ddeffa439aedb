//! The admin plane: health, metrics, status and listing, on a listener, thread and runtime of its
//! own, so that no load on the data plane delays it, nor it them. It only reads, but for
//! a scrub that it may begin.

mod metrics;
mod scrub;
mod status;

use crate::net::Counters;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tapeloop_engine::{Engine, Health};
use tokio::sync::oneshot;

/// Entries of a listing when nobody says how many.
const LIST_DEFAULT: usize = 1000;
/// Most entries of a listing.
const LIST_MAX: usize = 10_000;

/// What the admin plane looks at.
#[derive(Debug)]
pub struct Watched {
    /// The most memory that the process will take, in bytes.
    pub memory_max_bytes: u64,
    /// The store.
    pub engine: EngineHandle,
    /// One set of counters per front-end thread.
    pub counters: Vec<Arc<Counters>>,
    /// Address of the data plane.
    pub data_addr: SocketAddr,
    /// When the process began to serve.
    pub started: Instant,
    /// Set while the server is draining.
    pub is_stopping: AtomicBool,
    /// Set when a front-end thread has died.
    pub has_failed: AtomicBool,
}

/// The engine, with a `Debug` that says nothing.
pub struct EngineHandle(pub Engine);

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// A running admin plane.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

/// Listens and answers until `Admin::stop`.
pub fn start(listener: TcpListener, watched: Arc<Watched>) -> io::Result<Admin> {
    let addr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let serving = axum::serve(listener, router(watched)).into_future();
            tokio::select! {
                ended = serving => ended,
                _ = stopped => Ok(()),
            }
        })
    })?;
    Ok(Admin { addr, stop, thread })
}

impl Admin {
    /// The address that is listened on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the admin plane.
    pub fn stop(self) {
        let _ = self.stop.send(());
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("admin plane: {error}"),
            Err(_) => tracing::error!("admin plane: panicked"),
        }
    }
}

fn router(watched: Arc<Watched>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(api_status))
        .route("/api/v1/objects", get(api_objects))
        .route("/api/v1/scrub", get(scrub::show).post(scrub::begin))
        .with_state(watched)
}

async fn index() -> &'static str {
    "tapeloop admin plane\n\n/healthz\n/readyz\n/metrics\n/api/v1/status\n\
     /api/v1/objects?prefix=&after=&limit=\n/api/v1/scrub\n"
}

/// Alive, and able to keep its promises with all volumes.
async fn healthz(State(watched): State<Arc<Watched>>) -> Response {
    health(&watched, false)
}

/// Willing to take more, if need be with the volumes that are left.
async fn readyz(State(watched): State<Arc<Watched>>) -> Response {
    health(&watched, true)
}

fn health(watched: &Watched, wants_ready: bool) -> Response {
    let health = watched.engine.0.health();
    let cause = if watched.has_failed.load(Ordering::Relaxed) {
        Some("a front-end thread has died".to_owned())
    } else if wants_ready && watched.is_stopping.load(Ordering::Relaxed) {
        Some("shutting down".to_owned())
    } else {
        status::health_cause(&health)
    };
    // A store that has lost a volume still takes uploads, and encoders have nowhere better to go.
    let takes_work = wants_ready && matches!(health, Health::Degraded { .. });
    let (status, text) = match cause {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(cause) if takes_work && cause.starts_with(status::DEGRADED) => {
            (StatusCode::OK, format!("{cause}\n"))
        }
        Some(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")),
    };
    (status, text).into_response()
}

async fn metrics(State(watched): State<Arc<Watched>>) -> Response {
    match metrics::render(watched) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn api_status(State(watched): State<Arc<Watched>>) -> Response {
    axum::Json(status::of(&watched)).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
}

/// Keys in order. `next` is what to pass as `after` for the following page.
async fn api_objects(
    State(watched): State<Arc<Watched>>,
    Query(query): Query<ListQuery>,
) -> Response {
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        let text = format!("limit: {limit} is not a number from 1 to {LIST_MAX}\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let engine = watched.engine.0.clone();
    // Reads key tables from the drive, so it has no place on the runtime's own thread.
    let listed = tokio::task::spawn_blocking(move || {
        let after = query.after.as_deref().map(str::as_bytes);
        engine.list(query.prefix.as_bytes(), after, limit)
    });
    let entries = match listed.await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
        }
        Err(_) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "listing failed\n").into_response();
        }
    };
    axum::Json(status::Listing::new(&entries, limit)).into_response()
}

/// True when the store can do its work.
pub fn is_healthy(health: &Health) -> bool {
    *health == Health::Ok
}
