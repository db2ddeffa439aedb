//! `tapectl load get` and `tapectl load put`: one kind of request over N kept connections, for
//! benches. With a rate the requests are due by the clock; without one each connection sends its
//! next request when the last has ended.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::client::{Client, RequestError};
use super::content::{Content, mix};
use super::pace::{Pace, PaceOptions};
use super::plan::{GetPlan, PutPlan, object_path};
use super::reader::get_checked;
use super::report;
use super::run::{Shared, Span, cpu_seconds, on_threads};
use super::stats::{Class, Due};
use super::target::Target;
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;

/// Runs `tapectl load get`.
pub(crate) fn get(plan: &GetPlan) -> Result<Outcome, ToolError> {
    output::plan(&format!(
        "load get {}: {} connections, {}, {:?}",
        plan.target.url,
        plan.connections,
        words(plan.pace),
        plan.duration,
    ));
    let start = Start { all: Barrier::new(plan.threads), at: OnceLock::new() };
    let bar = progress::clock(format!("reading for {:?}", plan.duration));
    let recorder =
        on_threads(plan.threads, |thread, shared| get_thread(plan, thread, &start, shared))?;
    bar.finish_and_clear();
    let measured = start.wait_over().elapsed().saturating_sub(plan.ramp);
    report::print(recorder.report(measured, cpu_seconds()), plan.json)
}

/// Runs `tapectl load put`.
pub(crate) fn put(plan: &PutPlan) -> Result<Outcome, ToolError> {
    output::plan(&format!(
        "load put {}: {} objects of {} bytes over {} connections, {}; existing objects of those \
         names are overwritten",
        plan.target.url,
        plan.count,
        plan.bytes,
        plan.connections,
        words(plan.pace),
    ));
    let start = Instant::now();
    let bar = progress::count(plan.count, "writing");
    let recorder = on_threads(plan.threads, |thread, shared| {
        put_thread(plan, thread, start, bar.clone(), shared)
    })?;
    bar.finish_and_clear();
    report::print(recorder.report(start.elapsed(), cpu_seconds()), plan.json)
}

fn words(pace: PaceOptions) -> String {
    pace.rate.map_or("as fast as answered".to_owned(), |rate| format!("{rate} requests per second"))
}

/// The moment from which requests are due: that at which all connections of all threads are open
/// and have had an answer. What a server does with many new connections at once is no latency of
/// connections that are kept.
struct Start {
    all: Barrier,
    at: OnceLock<Instant>,
}

impl Start {
    /// Waits for the other threads.
    fn wait(&self) -> Instant {
        self.all.wait();
        self.wait_over()
    }

    /// The same for who need not wait any more.
    fn wait_over(&self) -> Instant {
        *self.at.get_or_init(Instant::now)
    }
}

/// What a GET is compared with.
enum Expected {
    /// Objects made by `tapectl load put`: content follows from the path.
    Made { bytes: u64 },
    /// Any other object: whatever the first GET gave.
    Same { body: Vec<u8> },
}

async fn get_thread(
    plan: &GetPlan,
    thread: usize,
    start: &Start,
    shared: Shared,
) -> Result<(), ToolError> {
    let opened = open(plan, thread, &shared).await;
    // The others wait for this thread also when it has failed.
    let start = start.wait();
    let (expected, clients) = opened?;
    let measure = start + plan.ramp;
    let span = Span { start, measure, end: measure + plan.duration };
    let pace = Pace::new(plan.pace, thread, plan.threads, start).map_err(ToolError::Runtime)?;
    let mut actors = Vec::new();
    let open = Rc::new(Cell::new(clients.len()));
    let common = Common { pace: pace.clone(), span, open, expected, shared: Rc::clone(&shared) };
    for (index, client) in clients {
        let connection = get_connection(plan.clone(), index, client, common.clone());
        actors.push(tokio::task::spawn_local(connection));
    }
    join(actors).await?;
    for due in pace.unsent(span.end).await {
        shared.borrow_mut().unsent(Class::Get, due, span.end);
    }
    Ok(())
}

/// The connections of a thread with their numbers, each after a first GET, and what every body is
/// compared with.
async fn open(
    plan: &GetPlan,
    thread: usize,
    shared: &Shared,
) -> Result<(Rc<Expected>, Vec<(usize, Client)>), ToolError> {
    let expected = Rc::new(match plan.bytes {
        Some(bytes) => Expected::Made { bytes },
        None => Expected::Same { body: first_body(plan).await? },
    });
    let mut opening = Vec::new();
    for index in (thread..plan.connections).step_by(plan.threads) {
        let mut client = client(&plan.target, plan.timeout);
        let path = object_path(&plan.target.path, index as u64 % plan.object_count.max(1));
        let (expected, shared) = (Rc::clone(&expected), Rc::clone(shared));
        opening.push(tokio::task::spawn_local(async move {
            let sent = Due::sent_now(Instant::now());
            let result = expected.get(&mut client, &path).await;
            if result.is_err() {
                shared.borrow_mut().ended(Class::Get, sent, &path, &result);
            }
            (index, client)
        }));
    }
    let mut clients = Vec::with_capacity(opening.len());
    for client in opening {
        clients.push(client.await.map_err(|error| ToolError::Runtime(io::Error::other(error)))?);
    }
    Ok((expected, clients))
}

async fn first_body(plan: &GetPlan) -> Result<Vec<u8>, ToolError> {
    let mut client = client(&plan.target, plan.timeout);
    let mut body = Vec::new();
    let path = object_path(&plan.target.path, 0);
    client
        .get(&path, &mut |_, bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        })
        .await
        .map_err(|error| ToolError::Unreachable {
            url: plan.target.url.clone(),
            cause: error.to_string(),
        })?;
    Ok(body)
}

/// What the connections of a thread have in common.
#[derive(Clone)]
struct Common {
    pace: Pace,
    span: Span,
    /// Connections that still have requests to send or answers to get.
    open: Rc<Cell<usize>>,
    expected: Rc<Expected>,
    shared: Shared,
}

async fn get_connection(
    plan: GetPlan,
    index: usize,
    mut client: Client,
    common: Common,
) -> Result<(), ToolError> {
    let Common { pace, span, open, expected, shared } = common;
    let mut random = mix(plan.seed ^ index as u64);
    let mut path = object_path(&plan.target.path, 0);
    while let Some(due) = pace.next(Some(span.end)).await.map_err(ToolError::Runtime)? {
        if plan.object_count > 1 {
            random = mix(random);
            path = object_path(&plan.target.path, random % plan.object_count);
        }
        let sent = Due::sent_now(due);
        let result = expected.get(&mut client, &path).await;
        if span.measures(due) || result.is_err() {
            shared.borrow_mut().ended(Class::Get, sent, &path, &result);
        }
    }
    // The last answers find the processor as awake as the others did.
    open.set(open.get() - 1);
    while plan.pace.spin && open.get() > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

impl Expected {
    /// Reads an object and compares it.
    async fn get(&self, client: &mut Client, path: &str) -> Result<u64, RequestError> {
        match self {
            Expected::Made { bytes } => get_checked(client, path, *bytes).await,
            Expected::Same { body } => get_same(client, path, body).await,
        }
    }
}

async fn get_same(client: &mut Client, path: &str, body: &[u8]) -> Result<u64, RequestError> {
    let check = &mut |offset: u64, bytes: &[u8]| {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match body.get(at..at + bytes.len()) {
            Some(same) if same == bytes => Ok(()),
            _ => Err(super::content::WrongBytes { offset }.into()),
        }
    };
    let (received, expected) = (client.get(path, check).await?, body.len() as u64);
    if received == expected {
        Ok(received)
    } else {
        Err(RequestError::Length { expected, received })
    }
}

async fn put_thread(
    plan: &PutPlan,
    thread: usize,
    start: Instant,
    bar: ProgressBar,
    shared: Shared,
) -> Result<(), ToolError> {
    let pace = Pace::new(plan.pace, thread, plan.threads, start).map_err(ToolError::Runtime)?;
    let mut actors = Vec::new();
    // Objects are dealt out to threads in turn, and to connections as they come free.
    let next = Rc::new(Cell::new(thread as u64));
    for _ in (thread..plan.connections).step_by(plan.threads) {
        let connection = put_connection(
            plan.clone(),
            pace.clone(),
            Rc::clone(&next),
            bar.clone(),
            Rc::clone(&shared),
        );
        actors.push(tokio::task::spawn_local(connection));
    }
    join(actors).await
}

async fn put_connection(
    plan: PutPlan,
    pace: Pace,
    next: Rc<Cell<u64>>,
    bar: ProgressBar,
    shared: Shared,
) -> Result<(), ToolError> {
    let mut client = client(&plan.target, plan.timeout);
    let query = plan.ttl_seconds.map_or(String::new(), |ttl| format!("?ttl_seconds={ttl}"));
    loop {
        let object = next.get();
        if object >= plan.count {
            break;
        }
        next.set(object + plan.threads as u64);
        let due = pace.next(None).await.map_err(ToolError::Runtime)?;
        let due = due.expect("no end is set");
        let path = object_path(&plan.target.path, object);
        let content = Content::of_path(&path);
        let sent = Due::sent_now(due);
        let result = client.put(&format!("{path}{query}"), content, plan.bytes).await;
        shared.borrow_mut().ended(Class::Put, sent, &path, &result);
        bar.inc(1);
    }
    Ok(())
}

fn client(target: &Target, timeout: Duration) -> Client {
    Client::new(target.address, &target.host, timeout)
}

async fn join(
    actors: Vec<tokio::task::JoinHandle<Result<(), ToolError>>>,
) -> Result<(), ToolError> {
    for actor in actors {
        actor.await.map_err(|error| ToolError::Runtime(io::Error::other(error)))??;
    }
    Ok(())
}
