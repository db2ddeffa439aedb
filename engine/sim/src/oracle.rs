//! What must be true of every key, known from nothing but what was asked and what was acknowledged.

use crate::reader::Seen;
use std::collections::{BTreeMap, BTreeSet};
use tapeloop_log::Ticket;

/// A zone, counted over the store, and its lap.
pub(crate) type ZoneLap = (u32, u64);

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Gone,
    /// `expires_ms` is a bound from above as long as the put was not acknowledged.
    Put {
        version: u64,
        expires_ms: u64,
        place: Option<ZoneLap>,
    },
    /// Damage hides it: any version that was ever put, or none.
    Hidden,
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

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) key: usize,
    pub(crate) version: u64,
    state: State,
}

/// Knows every key.
pub(crate) struct Oracle {
    keys: Vec<KeyModel>,
    /// Operations of this run that have not ended.
    pub(crate) pending: BTreeMap<Ticket, Asked>,
    /// Zones and laps taken back while something in them was alive.
    pub(crate) evicted: BTreeSet<ZoneLap>,
    /// Group of every version whose bytes were ever given to the log.
    put: BTreeMap<u64, u64>,
    next_version: u64,
    /// Counts the times that the store was opened.
    pub(crate) run: u64,
    pub(crate) acknowledged: u64,
}

impl Oracle {
    pub(crate) fn new(keys: usize) -> Oracle {
        let blank = KeyModel { state: State::Gone, doubts: Vec::new() };
        Oracle {
            keys: vec![blank; keys],
            pending: BTreeMap::new(),
            evicted: BTreeSet::new(),
            put: BTreeMap::new(),
            next_version: 1,
            run: 0,
            acknowledged: 0,
        }
    }

    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn next_version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version - 1
    }

    /// What `next_version` would say.
    pub(crate) fn version_after(&self) -> u64 {
        self.next_version
    }

    /// `put`: earliest expiry and group.
    pub(crate) fn asked(
        &mut self,
        ticket: Ticket,
        key: usize,
        version: u64,
        put: Option<(u64, u64)>,
    ) {
        let mut expires_min_ms = 0;
        let mut state = State::Gone;
        if let Some((expires_ms, group)) = put {
            expires_min_ms = expires_ms;
            state = State::Put { version, expires_ms: u64::MAX, place: None };
            self.put.insert(version, group);
        }
        self.keys[key].doubts.push(Doubt { version, state, expires_min_ms, run: self.run });
        assert!(self.pending.insert(ticket, Asked { key, version, state }).is_none());
    }

    pub(crate) fn stored(&mut self, ticket: Ticket, expires_ms: u64, place: ZoneLap) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        assert!(matches!(asked.state, State::Put { .. }), "a put ends as stored");
        let version = asked.version;
        self.settle_one(asked, State::Put { version, expires_ms, place: Some(place) });
    }

    pub(crate) fn deleted(&mut self, ticket: Ticket, existed: bool, now_ms: u64) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        assert_eq!(asked.state, State::Gone, "a delete ends as deleted");
        if let State::Put { expires_ms, place, .. } = self.keys[asked.key].state {
            let alive = expires_ms > now_ms && !self.is_evicted(place);
            assert!(existed || !alive, "a delete of a live object says that it existed");
        }
        self.settle_one(asked, State::Gone);
    }

    fn is_evicted(&self, place: Option<ZoneLap>) -> bool {
        place.is_some_and(|place| self.evicted.contains(&place))
    }

    fn settle_one(&mut self, asked: Asked, state: State) {
        let key = &mut self.keys[asked.key];
        assert!(
            key.doubts.iter().all(|doubt| doubt.version != asked.version || doubt.run == self.run),
            "an event belongs to this run"
        );
        key.state = state;
        key.doubts.retain(|doubt| doubt.version > asked.version);
        self.acknowledged += 1;
    }

    /// `certain`: nothing can have reached the drive.
    pub(crate) fn failed(&mut self, ticket: Ticket, certain: bool) {
        let asked = self.pending.remove(&ticket).expect("an operation ends once");
        if certain {
            self.keys[asked.key].doubts.retain(|doubt| doubt.version != asked.version);
        }
    }

    /// What is known of every key, for telling one state of the world from another.
    #[cfg(test)]
    pub(crate) fn hash_models(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        format!("{:?}", self.keys).hash(hasher);
    }

    /// The process ended: what had not ended never will.
    pub(crate) fn process_gone(&mut self) {
        self.pending.clear();
        self.run += 1;
    }

    /// Groups of the live objects in a zone's lap.
    pub(crate) fn alive_in(&self, place: ZoneLap, now_ms: u64) -> Vec<u64> {
        let alive = self.keys.iter().filter_map(|key| match key.state {
            State::Put { version, expires_ms, place: Some(at) }
                if at == place && expires_ms > now_ms =>
            {
                Some(self.put[&version])
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

    /// May the key be absent after a crash?
    pub(crate) fn may_be_absent(&self, key: usize, now_ms: u64) -> bool {
        self.check_recovered(key, &Seen::Nothing, now_ms, self.run).is_ok()
    }

    /// Where damage may hide things: whatever is found was once put under this key.
    pub(crate) fn check_genuine(&self, key: usize, seen: &Seen, now_ms: u64) -> Result<(), String> {
        match self.matches(&State::Hidden, seen, now_ms) {
            true => Ok(()),
            false => Err(format!("key {key} at {now_ms}: found {seen:?}, never put or expired")),
        }
    }

    fn matches(&self, state: &State, seen: &Seen, now_ms: u64) -> bool {
        match (state, seen) {
            (State::Gone, seen) => *seen == Seen::Nothing,
            (State::Put { expires_ms, place, .. }, Seen::Nothing) => {
                *expires_ms <= now_ms || self.is_evicted(*place)
            }
            (
                State::Put { version, expires_ms, .. },
                Seen::Object { version: found, expires_ms: found_ms, .. },
            ) => version == found && found_ms <= expires_ms && *found_ms > now_ms,
            // The reader compared the payload with what that version of that key was put with.
            (State::Hidden, Seen::Object { version, expires_ms, .. }) => {
                self.put.contains_key(version) && *expires_ms > now_ms
            }
            (State::Hidden, _) => true,
            (State::Put { .. }, Seen::Damaged { .. } | Seen::Unavailable { .. }) => false,
        }
    }

    /// After a crash a key is what was acknowledged last, or an operation in doubt: one of a run
    /// before `run`.
    pub(crate) fn check_recovered(
        &self,
        key: usize,
        seen: &Seen,
        now_ms: u64,
        run: u64,
    ) -> Result<(), String> {
        let model = &self.keys[key];
        if self.matches(&model.state, seen, now_ms) {
            return Ok(());
        }
        let doubts = model.doubts.iter().filter(|doubt| doubt.run < run);
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
            Seen::Damaged { .. } | Seen::Unavailable { .. } => State::Hidden,
        };
    }
}
