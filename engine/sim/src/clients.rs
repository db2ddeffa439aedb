//! Simulated clients: encoders that push segments and playlists, or anything anywhere; uploads
//! that take their time, some of which are aborted; overwrites, deletes, lives of all lengths.

use crate::swarm::{GUARANTEED, LIMITED};
use crate::world::{Upload, World, note};

/// Uploads in progress at once.
const UPLOADS_MAX: usize = 6;

impl World {
    /// One thing that some client does.
    pub(crate) fn client(&mut self) {
        if !self.uploads.is_empty() && self.rng.permille(600) {
            return self.upload_on();
        }
        let key = self.pick_key();
        if self.rng.permille(self.swarm.deletes) {
            return self.delete(key);
        }
        let version = self.oracle.next_version();
        let len = self.pick_len();
        let mut upload = Upload { key, version, len, pieces_left: 0 };
        if self.uploads.len() < UPLOADS_MAX && self.rng.permille(self.swarm.slow_uploads) {
            upload.pieces_left = self.rng.within(1, 5);
            self.uploads.push(upload);
        } else {
            self.put(&upload);
        }
    }

    fn pick_key(&mut self) -> usize {
        let keys = self.oracle.key_count();
        if !self.swarm.is_stream {
            return self.rng.index(keys);
        }
        // Key 0 is the playlist, the others are the window of segments.
        self.next_segment += 1;
        match self.next_segment.is_multiple_of(2) {
            true => 0,
            false => 1 + self.next_segment / 2 % (keys - 1),
        }
    }

    fn pick_len(&mut self) -> u64 {
        let max = tapeloop_log::object_len_max(self.swarm.geometry.volume());
        if self.swarm.is_constant {
            return self.swarm.lens[0].min(max);
        }
        if self.rng.permille(40) {
            return max - self.rng.below(3) * 4096;
        }
        let bound = *self.rng.pick(self.swarm.lens);
        self.rng.below(bound.min(max))
    }

    fn upload_on(&mut self) {
        let at = self.rng.index(self.uploads.len());
        if self.rng.permille(80) {
            // The encoder is gone: this version must never be seen.
            let upload = self.uploads.swap_remove(at);
            return note!(self, "upload of key {} version {} aborted", upload.key, upload.version);
        }
        self.uploads[at].pieces_left -= 1;
        if self.uploads[at].pieces_left == 0 {
            let upload = self.uploads.swap_remove(at);
            self.put(&upload);
        }
    }

    fn delete(&mut self, key: usize) {
        let version = self.oracle.next_version();
        let ticket = self.rig.delete(key);
        note!(self, "delete key {key} as {version}");
        self.oracle.asked(ticket, key, version, None);
        self.observe();
    }

    fn put(&mut self, upload: &Upload) {
        let Upload { key, len, .. } = *upload;
        // An upload is numbered when it is complete: the log orders versions as they come to it.
        let version = match upload.version + 1 == self.oracle.version_after() {
            true => upload.version,
            false => self.oracle.next_version(),
        };
        let ttl_ms = self.rng.within(1, 1500) * self.rng.pick(self.swarm.ttls) / 1000 + 1;
        let group = match self.swarm.groups.is_empty() {
            true => 0,
            false => *self.rng.pick(&[0, 0, 0, LIMITED, GUARANTEED]),
        };
        // Waiting for a busy key puts the expiry off, nothing brings it forward.
        let expires_min_ms = self.rig.now_ms() + ttl_ms;
        let ticket = self.rig.put(key, version, len, ttl_ms, group);
        note!(self, "put key {key} version {version} len {len} ttl {ttl_ms} group {group}");
        self.oracle.asked(ticket, key, version, Some((expires_min_ms, group)));
        self.observe();
    }
}
