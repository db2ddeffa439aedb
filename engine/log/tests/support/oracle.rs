//! What must be true of every key, known from nothing but what was asked and what was acknowledged.

use super::rig::Seen;
use std::collections::{BTreeMap, BTreeSet};
use tapeloop_log::Ticket;

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Gone,
    /// `expires_ms` is a bound from above as long as the put was not acknowledged.
    Put {
        version: u64,
        expires_ms: u64,
        place: Option<(u32, u64)>,
    },
}

/// An operation that has not been acknowledged, and may still turn out to have happened.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    version: u64,
    state: State,
    /// The put may have expired from here on.
    expires_min_ms: u64,
    run: u64,
}

#[derive(Clone, Debug)]
struct KeyModel {
    state: State,
    doubts: Vec<Doubt>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) key: usize,
    pub(crate) version: u64,
    pub(crate) group: u64,
    state: State,
}

pub(crate) struct Oracle {
    keys: Vec<KeyModel>,
    /// Operations of this run that have not ended.
    pub(crate) pending: BTreeMap<Ticket, Asked>,
    /// Zones and laps taken back while something in them was alive.
    pub(crate) evicted: BTreeSet<(u32, u64)>,
    groups: BTreeMap<u64, u64>,
    next_version: u64,
    /// Counts the times that the store was opened.
    pub(crate) run: u64,
}

impl Oracle {
    pub(crate) fn new(keys: usize) -> Oracle {
        let blank = KeyModel { state: State::Gone, doubts: Vec::new() };
        Oracle {
            keys: vec![blank; keys],
            pending: BTreeMap::new(),
            evicted: BTreeSet::new(),
            groups: BTreeMap::new(),
            next_version: 1,
            run: 0,
        }
    }

    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version - 1
    }

    pub(crate) fn asked(
        &mut self,
        ticket: Ticket,
        key: usize,
        version: u64,
        put: Option<(u64, u64)>,
    ) {
        let state = match put {
            None => State::Gone,
            Some(_) => State::Put { version, expires_ms: u64::MAX, place: None },
        };
        let group = put.map_or(0, |(_, group)| group);
        self.groups.insert(version, group);
        let expires_min_ms = put.map_or(0, |(expires_min_ms, _)| expires_min_ms);
        let doubt = Doubt { version, state, expires_min_ms, run: self.run };
        self.keys[key].doubts.push(doubt);
        assert!(self.pending.insert(ticket, Asked { key, version, group, state }).is_none());
    }

    pub(crate) fn stored(&mut self, ticket: Ticket, expires_ms: u64, place: (u32, u64)) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        assert!(matches!(asked.state, State::Put { .. }), "a put ends as stored");
        let version = asked.version;
        self.settle_one(asked, State::Put { version, expires_ms, place: Some(place) });
    }

    pub(crate) fn deleted(&mut self, ticket: Ticket, existed: bool, now_ms: u64) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        assert_eq!(asked.state, State::Gone, "a delete ends as deleted");
        if let State::Put { expires_ms, place, .. } = self.keys[asked.key].state {
            let evicted = place.is_some_and(|place| self.evicted.contains(&place));
            let alive = expires_ms > now_ms && !evicted;
            assert!(existed || !alive, "a delete of a live object says that it existed");
        }
        self.settle_one(asked, State::Gone);
    }

    fn settle_one(&mut self, asked: Asked, state: State) {
        let key = &mut self.keys[asked.key];
        assert!(
            key.doubts.iter().all(|doubt| doubt.version != asked.version || doubt.run == self.run),
            "an event belongs to this run"
        );
        key.state = state;
        key.doubts.retain(|doubt| doubt.version > asked.version);
    }

    /// `certain`: nothing can have reached the drive.
    pub(crate) fn failed(&mut self, ticket: Ticket, certain: bool) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        if certain {
            self.keys[asked.key].doubts.retain(|doubt| doubt.version != asked.version);
        }
    }

    /// The process ended: what had not ended never will.
    pub(crate) fn process_gone(&mut self) {
        self.pending.clear();
        self.run += 1;
    }

    /// Groups of the live objects in a zone's lap.
    pub(crate) fn alive_in(&self, place: (u32, u64), now_ms: u64) -> Vec<u64> {
        let alive = self.keys.iter().filter_map(|key| match key.state {
            State::Put { version, expires_ms, place: Some(at) }
                if at == place && expires_ms > now_ms =>
            {
                Some(self.groups[&version])
            }
            _ => None,
        });
        alive.collect()
    }

    /// While the log runs a key is what was acknowledged last.
    pub(crate) fn check(&self, key: usize, seen: &Seen, now_ms: u64) -> Result<(), String> {
        let model = &self.keys[key];
        self.matches(&model.state, seen, now_ms)
            .then_some(())
            .ok_or_else(|| format!("key {key} at {now_ms}: found {seen:?}, must be {model:?}"))
    }

    fn matches(&self, state: &State, seen: &Seen, now_ms: u64) -> bool {
        match (state, seen) {
            (State::Gone, seen) => *seen == Seen::Nothing,
            (State::Put { expires_ms, place, .. }, Seen::Nothing) => {
                *expires_ms <= now_ms || place.is_some_and(|place| self.evicted.contains(&place))
            }
            (
                State::Put { version, expires_ms, .. },
                Seen::Object { version: found, expires_ms: found_ms, .. },
            ) => version == found && found_ms <= expires_ms && *found_ms > now_ms,
        }
    }

    /// After a crash a key is what was acknowledged last, or an operation in doubt.
    pub(crate) fn check_recovered(
        &self,
        key: usize,
        seen: &Seen,
        now_ms: u64,
    ) -> Result<(), String> {
        let model = &self.keys[key];
        let doubts = model.doubts.iter().filter(|doubt| doubt.run < self.run);
        let mut allowed = vec![model.state];
        for doubt in doubts {
            allowed.push(doubt.state);
            if doubt.expires_min_ms <= now_ms {
                allowed.push(State::Gone);
            }
        }
        if allowed.iter().any(|state| self.matches(state, seen, now_ms)) {
            return Ok(());
        }
        let run = self.run;
        Err(format!("key {key} at {now_ms}, run {run}: found {seen:?}, must be one of {allowed:?}"))
    }

    /// The store serves: what was found is from now on what must be there.
    pub(crate) fn settle(&mut self, key: usize, seen: &Seen) {
        let run = self.run;
        let model = &mut self.keys[key];
        model.doubts.retain(|doubt| doubt.run >= run);
        model.state = match *seen {
            Seen::Nothing => State::Gone,
            Seen::Object { version, expires_ms, zone, lap } => {
                State::Put { version, expires_ms, place: Some((zone, lap)) }
            }
        };
    }
}
