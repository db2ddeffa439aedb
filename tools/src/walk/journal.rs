//! The carry journal of a volume: every record in it, and whether what ends the list is damage.

use tapeloop_format::{
    BLOCK, CARRY_JOURNAL_LEN, CARRY_JOURNAL_OFFSET, CHUNK, Kill, KillList, RecordHeader,
    RecordKind, Salt, ZoneLap,
};

use super::fault::Fault;
use super::mend::mend_carry;
use super::reader::{WINDOW_HEADERS, ZoneReader};
use super::store::Store;
use super::volume::Volume;
use super::zone::{ZoneState, ZoneView};

/// What the journal holds.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The kills of every record that verifies.
    pub(crate) kills: Vec<Kill>,
    pub(crate) record_count: u32,
    /// What each of them is for.
    pub(super) owed: Vec<OwedCarry>,
    /// What does not verify behind the last record that does: mostly left over from before.
    pub(crate) end: Option<JournalEnd>,
}

/// A record for the start of a zone, which the zone may have got or not.
#[derive(Debug)]
pub(super) struct OwedCarry {
    pub(super) zone_lap: ZoneLap,
    pub(super) position: u64,
    pub(super) len: u64,
}

/// A record that should be there, or was there once.
#[derive(Debug)]
pub(crate) struct JournalEnd {
    /// On the volume.
    pub(crate) offset: u64,
    pub(crate) fault: Fault,
    /// What the record is for, as far as it can be made out: zone, lap, position.
    meant_for: Option<MeantFor>,
}

/// Zone, lap and position that a record is to have in its zone.
type MeantFor = (ZoneLap, u64);

/// A carry record that verifies.
struct Carry {
    place: OwedCarry,
    kills: Vec<Kill>,
}

pub(super) fn read_journal(volume: &Volume) -> Journal {
    let mut journal = Journal::default();
    let mut bytes = vec![0; CARRY_JOURNAL_LEN as usize];
    let mut at = 0;
    if let Err(fault) = volume.read(CARRY_JOURNAL_OFFSET, &mut bytes) {
        journal.end = Some(JournalEnd { offset: CARRY_JOURNAL_OFFSET, fault, meant_for: None });
        return journal;
    }
    while at < bytes.len() {
        match carry(&bytes[at..], volume.salt()) {
            Ok(carry) => {
                at += carry.place.len as usize;
                journal.record_count += 1;
                if carry.place.position >= volume.given_up_below() {
                    journal.kills.extend(carry.kills);
                    journal.owed.push(carry.place);
                }
            }
            Err((fault, meant_for)) => {
                let offset = CARRY_JOURNAL_OFFSET + at as u64;
                journal.end = Some(JournalEnd { offset, fault, meant_for });
                break;
            }
        }
    }
    journal
}

/// The carry record at the start of `bytes`; or why there is none, and what it was for.
fn carry(bytes: &[u8], salt: Salt) -> Result<Carry, (Fault, Option<MeantFor>)> {
    let meant_for =
        |header: &RecordHeader| (ZoneLap { zone: header.zone, lap: header.lap }, header.position);
    let header = match RecordHeader::decode(bytes, salt) {
        Ok(header) => header,
        Err(error) => {
            return Err((error.into(), mend_carry(bytes, salt).as_ref().map(meant_for)));
        }
    };
    let shape = header.shape();
    if header.kind != RecordKind::Carry || shape.record_len > bytes.len() {
        return Err((Fault::Overruns { len: shape.record_len as u64 }, Some(meant_for(&header))));
    }
    let payload = &bytes[shape.payload_offset..][..header.payload_len as usize];
    for (index, chunk) in payload.chunks(CHUNK).enumerate() {
        if let Err(error) = header.verify_chunk(salt, index, chunk) {
            return Err((error.into(), Some(meant_for(&header))));
        }
    }
    let kills = KillList::new(payload).map(Iterator::collect).unwrap_or_default();
    let (zone_lap, position) = meant_for(&header);
    Ok(Carry { place: OwedCarry { zone_lap, position, len: shape.record_len as u64 }, kills })
}

impl JournalEnd {
    /// The journal is written over whenever a zone with kills is reused, and a crash may tear it. A
    /// record in it is needed only while the lap it is for has begun and does not have it yet.
    pub(crate) fn is_needed(&self, store: &Store) -> bool {
        let Some((meant, position)) = self.meant_for else { return false };
        let Some(volume) = store.volume_of(meant.zone) else { return false };
        let view = ZoneView::read(volume, meant.zone);
        let Some(zone) = view.header.filter(|_| view.state == ZoneState::Open) else {
            return false;
        };
        if zone.lap != meant.lap || zone.base_position + BLOCK as u64 != position {
            return false;
        }
        let mut reader = ZoneReader::new(volume, meant.zone, WINDOW_HEADERS);
        let first = reader.block(BLOCK as u64).unwrap_or(&[]);
        let first = RecordHeader::decode(first, volume.salt());
        !first.is_ok_and(|first| first.lap == meant.lap && first.position == position)
    }
}
