//! The way of one operation: find what it supersedes, place its record, write it, end it.

use crate::directory::Location;
use crate::ghost::VICTIMS_MAX;
use crate::log::{Flying, Log, PLACEMENTS_MAX, Pending, Purpose, Victim, Written};
use crate::read::decode;
use crate::types::{Append, AppendError, Event, Io, IoFailure, IoOp, Op};
use crate::zone::Listed;
use tapeloop_format::{
    ClassId, KeyHash, Kill, METADATA_LEN_MAX, RecordHeader, RecordKind, RecordShape, ZoneLap,
};

impl Log {
    /// Looks for the version that an operation supersedes.
    pub(crate) fn find_victim(&mut self, append: Append) {
        if let Some((location, expires_ms)) = self.recent.get(&append.hash)
            && self.directory.is_present(&location)
        {
            return self.begin(append, Some(Victim { location, expires_ms }));
        }
        let mut candidates = self.directory.lookup_present(&append.hash);
        if planted!(Bug::ForgetUnserved) {
            candidates.retain(|at| self.directory.is_servable(at.zone, at.lap));
        }
        // Where nothing can be read any more comes last: another one may turn out to be it.
        candidates.sort_by_key(|location| self.is_readable(location.zone));
        self.verify_next_victim(append, candidates);
    }

    fn is_readable(&self, zone: u32) -> bool {
        self.volume(self.volume_of(zone)).is_usable()
    }

    pub(crate) fn verify_next_victim(&mut self, append: Append, mut candidates: Vec<Location>) {
        let Some(location) = candidates.pop() else { return self.begin(append, None) };
        if !self.is_readable(location.zone) {
            return self.begin(append, Some(Victim { location, expires_ms: u64::MAX }));
        }
        // As far as the header may reach: its metadata is not known here.
        let shape = RecordShape::of(append.key.len(), METADATA_LEN_MAX, u64::from(location.len));
        let room = (self.options.geometry.zone_size() - location.offset) as usize;
        let len = shape.header_blocks_len().min(room);
        let purpose = Purpose::VictimHeader { append, location, others: candidates };
        self.want_zone_read(location.zone, location.offset, len, purpose);
    }

    pub(crate) fn victim_read(
        &mut self,
        append: Append,
        location: Location,
        others: Vec<Location>,
        result: Result<Vec<u8>, IoFailure>,
    ) {
        // An unreadable header, or one that belongs elsewhere, is taken for the victim: superseding
        // a damaged record loses nothing, while leaving its entry beside the new one could bring
        // the old version back.
        let header = result
            .ok()
            .and_then(|bytes| decode(&self.directory, self.salt, &location, &bytes).ok());
        match header {
            Some(header) if header.key != append.key => self.verify_next_victim(append, others),
            Some(header) => {
                let expires_ms = header.expires_ms;
                self.begin(append, Some(Victim { location, expires_ms }))
            }
            None => self.begin(append, Some(Victim { location, expires_ms: u64::MAX })),
        }
    }

    /// The operation knows what it supersedes: give it a class and a place.
    pub(crate) fn begin(&mut self, append: Append, victim: Option<Victim>) {
        let victim = victim.filter(|victim| self.directory.is_present(&victim.location));
        let (class, expires_ms) = match &append.op {
            Op::Put(put) => {
                let bucket = ClassId::ttl_bucket(put.ttl_ms);
                (ClassId { bucket, group: put.group }, self.now_ms.saturating_add(put.ttl_ms))
            }
            Op::Delete => {
                let known = victim.map(|victim| victim.location.zone);
                // What the index knows nothing of may still come back.
                let ghost = self.ghosts.of(&append.hash).first().map(|place| place.zone);
                let Some(zone) = known.or(ghost) else {
                    let ticket = append.ticket;
                    let event = Event::Deleted { ticket, existed: false };
                    return self.finish(&append.hash, event);
                };
                (self.zones[zone as usize].class, 0)
            }
        };
        self.place(Pending { append, victim, attempts: 0, expires_ms, class });
    }

    /// Writes the operation's record into an open zone of its class, or lets it wait for one.
    pub(crate) fn place(&mut self, pending: Pending) {
        if self.victims_of(&pending).len() > VICTIMS_MAX {
            return self.too_many_ghosts(pending);
        }
        let shape = shape_of(&pending.append);
        let class = self.class_for(pending.class);
        let key_len = pending.append.key.len();
        let Some(zone) = self.zone_with_room(class, &shape, key_len) else {
            self.classes[class].waiting.push_back(pending);
            return self.prepare_next();
        };
        self.write_record(zone, &shape, pending);
        self.prepare_ahead(class, zone);
    }

    /// Every place on a drive where a version of the key may lie that this operation supersedes.
    fn victims_of(&self, pending: &Pending) -> Vec<ZoneLap> {
        let known = pending.victim.and_then(|victim| self.victim_on_drive(&victim.location));
        let mut victims: Vec<ZoneLap> = known.into_iter().collect();
        let ghosts = self.ghosts.of(&pending.append.hash).iter();
        victims.extend(ghosts.copied().filter(|ghost| known != Some(*ghost)));
        victims
    }

    /// A record that does not name them all would let one of them come back.
    fn too_many_ghosts(&mut self, pending: Pending) {
        let append = pending.append;
        let failure = self.ghosts.failure(&append.hash).expect("there are ghosts");
        let error = AppendError::WriteFailed { attempts: pending.attempts, failure };
        self.finish(&append.hash, Event::Failed { ticket: append.ticket, error });
    }

    pub(crate) fn write_record(&mut self, zone: u32, shape: &RecordShape, pending: Pending) {
        let is_put = matches!(pending.append.op, Op::Put(_));
        let put_key_len = is_put.then_some(pending.append.key.len());
        let victims = self.victims_of(&pending);
        let lsn = self.take_lsn();
        let open = self.open.get_mut(&zone).expect("a zone with room is open");
        let record_len = shape.record_len as u64;
        let offset = open.place(lsn, record_len, put_key_len, victims.len() as u64);
        let header = self.record_header(zone, offset, lsn, &victims, &pending);
        let bytes = header.encode(self.salt);
        let len = match &pending.append.op {
            Op::Put(put) => put.payload_len as u32,
            Op::Delete => 0,
        };
        let location = Location { zone, lap: header.lap, offset, len };
        let meta = &mut self.zones[zone as usize];
        meta.max_expires_ms = meta.max_expires_ms.max(pending.expires_ms);
        let ticket = pending.append.ticket;
        self.flying.insert(lsn, Flying { pending, location, record_len, victims });
        let volume = self.volume_of(zone);
        let id = self.io_id(volume, Purpose::Record { lsn });
        let offset = self.options.geometry.zone_offset(zone) + offset;
        let op = IoOp::Record { offset, header: bytes, shape: *shape, ticket };
        self.volume_mut(volume).records_wanted.push_back(Io { id, op });
    }

    pub(crate) fn record_header(
        &self,
        zone: u32,
        offset: u64,
        lsn: u64,
        victims: &[ZoneLap],
        pending: &Pending,
    ) -> RecordHeader {
        let meta = &self.zones[zone as usize];
        let append = &pending.append;
        let mut header = RecordHeader {
            kind: RecordKind::Tombstone,
            zone,
            lap: meta.lap,
            position: meta.base_position + offset,
            lsn,
            incarnation: self.options.incarnation,
            durable_lsn: self.durable_lsn(),
            stored_ms: self.now_ms,
            expires_ms: pending.expires_ms,
            created_wall_ms: 0,
            payload_len: 0,
            hole_len: 0,
            content_hash: [0; 16],
            key_hash: append.hash,
            victim: victims.first().copied(),
            more_victims: victims.get(1..).unwrap_or_default().into(),
            key: append.key.clone(),
            metadata: Box::default(),
            chunk_crcs: Box::default(),
        };
        if let Op::Put(put) = &append.op {
            header.kind = RecordKind::Put;
            header.created_wall_ms = put.created_wall_ms;
            header.payload_len = put.payload_len;
            header.content_hash = put.content_hash;
            header.metadata = put.metadata.clone();
            header.chunk_crcs = put.chunk_crcs.clone();
        }
        header
    }

    /// The victim's zone and lap, as long as the drive still holds them.
    pub(crate) fn victim_on_drive(&self, victim: &Location) -> Option<ZoneLap> {
        let zone = &self.zones[victim.zone as usize];
        (zone.lap == victim.lap).then_some(ZoneLap { zone: victim.zone, lap: victim.lap })
    }

    pub(crate) fn record_written(&mut self, lsn: u64, failure: Option<IoFailure>) {
        let flying = &self.flying[&lsn];
        let (record_len, volume) = (flying.record_len, self.volume_of(flying.location.zone));
        self.volume_mut(volume).record_bytes_in_flight -= record_len;
        self.stats.bytes_written += record_len;
        match failure {
            None if planted!(Bug::AckBeforeFlush) => self.record_durable(lsn),
            None => self.written(volume, Written::Record { lsn }),
            Some(_) if planted!(Bug::IgnoreWriteError) => {
                self.written(volume, Written::Record { lsn })
            }
            Some(failure) => self.record_failed(lsn, failure),
        }
    }

    /// A zone that refused a write takes no more; the record is tried elsewhere within its PUT.
    pub(crate) fn record_failed(&mut self, lsn: u64, failure: IoFailure) {
        let zone = self.flying[&lsn].location.zone;
        let mut pending = self.give_up_record(lsn, failure);
        self.zones[zone as usize].bad = true;
        self.close_zone(zone);
        pending.attempts += 1;
        if pending.attempts < PLACEMENTS_MAX {
            self.stats.records_replaced += 1;
            return self.place(pending);
        }
        let (hash, ticket, attempts) =
            (pending.append.hash, pending.append.ticket, pending.attempts);
        let error = AppendError::WriteFailed { attempts, failure };
        self.finish(&hash, Event::Failed { ticket, error });
    }

    pub(crate) fn record_durable(&mut self, lsn: u64) {
        let flying = self.flying.remove(&lsn).expect("a written record");
        self.resolve_lsn(lsn);
        let Flying { pending, location, victims, .. } = flying;
        let Pending { append, victim: old, expires_ms, .. } = pending;
        let open = self.open.get_mut(&location.zone).expect("records fly in open zones");
        open.resolve(location.offset, true);
        let named = match append.op {
            Op::Delete if planted!(Bug::LoseTombstone) => &[][..],
            Op::Put(_) if planted!(Bug::LoseOverwrite) => &[][..],
            _ => &victims,
        };
        open.kills.extend(named.iter().map(|victim| Kill::new(append.hash, lsn, *victim)));
        self.ghosts.lay(&append.hash, &victims);
        let replaced = old.is_some_and(|old| old.expires_ms > self.now_ms);
        let old = old.map(|old| old.location);
        let ticket = append.ticket;
        let event = match append.op {
            Op::Put(put) => {
                open.listed.push(Listed {
                    hash: append.hash,
                    lsn,
                    offset: location.offset,
                    payload_len: location.len,
                    expires_ms,
                    metadata_len: put.metadata.len() as u16,
                    key: append.key,
                });
                self.stats.records_stored += 1;
                self.stats.payload_bytes_stored += put.payload_len;
                let old = old.filter(|_| !planted!(Bug::KeepOldEntry));
                self.directory.publish(&append.hash, old.as_ref(), &location);
                self.recent.insert(append.hash, location, expires_ms);
                Event::Stored { ticket, lsn, location, expires_ms, replaced }
            }
            Op::Delete => {
                self.stats.tombstones += 1;
                if let Some(old) = old.filter(|_| !planted!(Bug::KeepDeleted)) {
                    self.directory.retract(&append.hash, &old);
                }
                self.recent.remove(&append.hash);
                Event::Deleted { ticket, existed: replaced }
            }
        };
        self.zones[location.zone as usize].record_count += 1;
        self.zones[location.zone as usize].used_len = self.open[&location.zone].used;
        self.finish(&append.hash, event);
        self.seal_if_quiet(location.zone);
    }

    /// Ends an operation and starts the next one on the same key.
    pub(crate) fn finish(&mut self, hash: &KeyHash, event: Event) {
        self.events.push_back(event);
        self.stats.backlog -= 1;
        let queue = self.busy.get_mut(hash).expect("an operation under way keeps its key busy");
        match queue.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.busy.remove(hash)),
        }
    }
}

pub(crate) fn shape_of(append: &Append) -> RecordShape {
    match &append.op {
        Op::Put(put) => RecordShape::of(append.key.len(), put.metadata.len(), put.payload_len),
        Op::Delete => RecordShape::of(append.key.len(), 0, 0),
    }
}
