//! What one writer knows: the last acknowledged state of each of its keys, and the operation that
//! was under way when the server died.

use std::fmt;

use super::Random;
use super::client::Client;
use super::server::Server;

/// Keys of one writer. Few enough that most PUTs are overwrites.
const KEYS: usize = 48;

/// Whether an acknowledged object may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    Never,
    Happens,
}

/// What a run has shown.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) kills: u64,
    pub(crate) recoveries_killed: u64,
    pub(crate) stored_bytes: u64,
    /// Keys read after a restart and found as they should be.
    pub(crate) verified: u64,
    pub(crate) verified_bytes: u64,
    /// Operations that a kill cut short.
    pub(crate) in_doubt: u64,
    pub(crate) in_doubt_happened: u64,
    pub(crate) evicted: u64,
    pub(crate) slowest_restart_ms: u128,
}

/// An object, known by what its bytes follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    seed: u64,
    len: usize,
}

impl Version {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut random = Random::new(self.seed);
        let mut bytes = Vec::with_capacity(self.len + 8);
        while bytes.len() < self.len {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }
}

/// A key's state: an object, or none.
type State = Option<Version>;

/// The keys of one writer.
pub(crate) struct Oracle {
    writer: usize,
    pub(crate) random: Random,
    eviction: Eviction,
    states: Vec<State>,
    under_way: Option<(usize, State)>,
}

/// The promise that was broken.
#[derive(Debug)]
pub(crate) struct Wrong {
    path: String,
    expected: Vec<State>,
    status: u16,
    body_len: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { path, expected, status, body_len } = self;
        write!(f, "{path}: {status} with {body_len} bytes, none of {expected:?}")
    }
}

impl Oracle {
    pub(crate) fn new(writer: usize, seed: u64, eviction: Eviction) -> Oracle {
        let states = vec![None; KEYS];
        Oracle { writer, random: Random::new(seed), eviction, states, under_way: None }
    }

    pub(crate) fn path(&self, key: usize) -> String {
        format!("/crash/w{}/key-{key}.m4s", self.writer)
    }

    pub(crate) fn any_key(&mut self) -> usize {
        self.random.below(KEYS as u64) as usize
    }

    /// Another object than any before.
    pub(crate) fn new_version(&mut self) -> Version {
        let len = match self.random.below(16) {
            0 => 0,
            1..=7 => self.random.below(4_000),
            8..=13 => self.random.below(100_000),
            14 => self.random.below(400_000),
            _ => 65_536 * self.random.below(4),
        };
        Version { seed: self.random.next(), len: len as usize }
    }

    /// From now until `acknowledged` the key's state is in doubt.
    pub(crate) fn begin(&mut self, key: usize, state: State) {
        assert!(self.under_way.is_none());
        self.under_way = Some((key, state));
    }

    pub(crate) fn acknowledged(&mut self) {
        let (key, state) = self.under_way.take().expect("an operation under way");
        self.states[key] = state;
    }

    /// Whether it would be right that the key is not there.
    pub(crate) fn may_be_gone(&self, key: usize) -> bool {
        self.states[key].is_none() || self.eviction == Eviction::Happens
    }

    /// Reads a key that nothing is under way for.
    pub(crate) fn check(
        &mut self,
        client: &mut Client,
        key: usize,
    ) -> std::io::Result<Result<bool, Wrong>> {
        let path = self.path(key);
        let answer = client.get(&path)?;
        let expected = self.states[key];
        if matches(expected, &answer.body, answer.status) {
            return Ok(Ok(true));
        }
        if self.eviction == Eviction::Happens && answer.status == 404 {
            self.states[key] = None;
            return Ok(Ok(false));
        }
        let (status, body_len) = (answer.status, answer.body.len());
        Ok(Err(Wrong { path, expected: vec![expected], status, body_len }))
    }

    /// After a restart: reads every key and learns which way the operation in doubt went. From then
    /// on that must not change any more.
    pub(crate) fn settle(&mut self, server: &Server, tally: &mut Tally) -> Result<(), Wrong> {
        let mut client = Client::connect(server.addr()).unwrap();
        if let Some((key, new)) = self.under_way.take() {
            tally.in_doubt += 1;
            let path = self.path(key);
            let answer = client.get(&path).unwrap();
            let old = self.states[key];
            let (status, body_len) = (answer.status, answer.body.len());
            let is_evicted = self.eviction == Eviction::Happens && status == 404;
            if matches(new, &answer.body, status) {
                tally.in_doubt_happened += 1;
                self.states[key] = new;
            } else if is_evicted {
                self.states[key] = None;
            } else if !matches(old, &answer.body, status) {
                return Err(Wrong { path, expected: vec![old, new], status, body_len });
            }
        }
        for key in 0..KEYS {
            match self.check(&mut client, key).unwrap()? {
                true => tally.verified += 1,
                false => tally.evicted += 1,
            }
            tally.verified_bytes += self.states[key].map_or(0, |version| version.len as u64);
        }
        Ok(())
    }
}

fn matches(state: State, body: &[u8], status: u16) -> bool {
    match state {
        None => status == 404,
        Some(version) => status == 200 && body.len() == version.len && body == version.bytes(),
    }
}
