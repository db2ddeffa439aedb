//! A damaged footer is rebuilt from the records of its zone, if nothing of what it said can be
//! missing from them.
//!
//! What proves that: with a good trailer, records without a gap up to its `used_len`; with the
//! trailer lost, tables on the drive that are, byte for byte, what the records give. Otherwise the
//! footer stays as it is: recovery reads the zone's records one by one and seals it again.

use tapeloop_format::{
    BLOCK, FooterBuilder, FooterEntry, FooterSummary, FooterTable, FooterTrailer, Kill, KillList,
    RecordHeader, RecordKind, ZoneHeader,
};

use super::Action;
use super::plan::Plan;
use crate::walk::{
    Footer, Found, RecordScan, Volume, WINDOW_ALL, ZoneReader, ZoneState, ZoneView, check_payload,
    payload,
};

pub(super) fn plan(volume: &Volume, zone: u32, plan: &mut Plan) {
    let view = ZoneView::read(volume, zone);
    let footer = Footer::read(volume, &view);
    let is_lost = view.state == ZoneState::Open
        && view.trailer_fault.is_some()
        && view.header_fault.is_none()
        && !view.may_have_been_open;
    let is_damaged = view.state == ZoneState::Sealed && !footer.faults.is_empty();
    if !is_lost && !is_damaged {
        return;
    }
    match rebuild(volume, &view, &footer) {
        Ok(action) => plan.actions.push(action),
        Err(why) => plan.left.push(format!(
            "footer of zone {zone}: {why}; the next start reads its records one by one"
        )),
    }
}

/// What the records of a zone add up to.
struct Records {
    puts: Vec<(u64, RecordHeader)>,
    kills: Vec<Kill>,
    lsns: (u64, u64),
    stored_ms_max: u64,
    end: u64,
}

fn rebuild(volume: &Volume, view: &ZoneView, footer: &Footer) -> Result<Action, String> {
    let zone = view.header.ok_or("its header is gone")?;
    let entries_are_good = footer.faults.iter().all(|(table, _)| *table != FooterTable::Entries);
    let kills_are_good = footer.faults.iter().all(|(table, _)| *table != FooterTable::Kills);
    let lists = view.trailer.is_some() && entries_are_good;
    let mut records = read_records(volume, view, footer, lists)?;
    if let Some(trailer) = view.trailer.filter(|trailer| trailer.used_len != records.end) {
        let (used, end) = (trailer.used_len, records.end);
        return Err(format!("its records end at {end}, it says {used}"));
    }
    if view.trailer.is_some() && kills_are_good {
        records.kills.clone_from(&footer.kills);
    }
    let mut after = encode(volume, view, &zone, &records)?;
    let room = volume.zone_size() - after.len() as u64;
    let at = volume.zone_offset(zone.zone) + room;
    let mut before = vec![0; after.len()];
    volume.read(at, &mut before).map_err(|fault| fault.to_string())?;
    let proof = match view.trailer {
        Some(_) => "no gap between them up to its used length",
        None => {
            take_kills_of(volume, &before, &after, &mut records)?;
            after = encode(volume, view, &zone, &records)?;
            tables_agree(&before, &after)?;
            "its tables are still there and say the same"
        }
    };
    let what = format!(
        "rebuild the footer of zone {} from its {} objects and {} kills: {proof}",
        zone.zone,
        records.puts.len(),
        records.kills.len(),
    );
    Ok(Action::new(volume.index(), at, what, before, after))
}

/// Every record of the zone; an error if a byte of it holds none.
fn read_records(
    volume: &Volume,
    view: &ZoneView,
    footer: &Footer,
    lists: bool,
) -> Result<Records, String> {
    let nothing = Footer::default();
    let mut reader = ZoneReader::new(volume, view.zone, WINDOW_ALL);
    // Without what the footer lists: a place it lists and that holds no record must show as a gap.
    let mut scan = RecordScan::new(volume, view, &nothing).ok_or("its header is gone")?;
    let mut records = Records {
        puts: Vec::new(),
        kills: Vec::new(),
        lsns: (u64::MAX, 0),
        stored_ms_max: 0,
        end: BLOCK as u64,
    };
    while let Some(found) = scan.next(&mut reader) {
        let Found::Record { offset, header } = found else {
            return Err("not all of its records can be read".to_owned());
        };
        assert_eq!(offset, records.end, "a scan reports every gap");
        records.end = offset + header.shape().record_len as u64;
        records.lsns = (records.lsns.0.min(header.lsn), records.lsns.1.max(header.lsn));
        records.stored_ms_max = records.stored_ms_max.max(header.stored_ms);
        let is_whole = check_payload(&mut reader, volume.salt(), offset, &header).is_none();
        match header.kind {
            RecordKind::Put if lists && footer.put_at(offset).is_none() => {
                return Err(format!("it does not list the object at offset {offset}"));
            }
            // Recovery would not count it: its predecessor may be alive.
            RecordKind::Put if !lists && !is_whole => {
                return Err(format!("the object at offset {offset} is damaged"));
            }
            RecordKind::Put => records.put(offset, header),
            RecordKind::Carry if !is_whole => {
                return Err(format!("the carry at offset {offset} is damaged"));
            }
            RecordKind::Carry => {
                let bytes = payload(&mut reader, offset, &header).map_err(|f| f.to_string())?;
                let kills = KillList::new(bytes).map_err(|error| error.to_string())?;
                records.kills.extend(kills);
            }
            RecordKind::Tombstone => records.kills.extend(header.kills()),
            RecordKind::Void => {}
        }
    }
    match lists && records.puts.len() != footer.puts.len() {
        true => Err("it lists objects where none lie".to_owned()),
        false => Ok(records),
    }
}

impl Records {
    fn put(&mut self, offset: u64, header: RecordHeader) {
        self.kills.extend(header.kills());
        self.puts.push((offset, header));
    }
}

fn encode(
    volume: &Volume,
    view: &ZoneView,
    zone: &ZoneHeader,
    records: &Records,
) -> Result<Vec<u8>, String> {
    let mut builder = FooterBuilder::new();
    for (_, header) in &records.puts {
        builder.push_put(&FooterEntry::of(header, zone), &header.key);
    }
    records.kills.iter().for_each(|kill| builder.push_kill(kill));
    let zone_size = volume.zone_size();
    if records.end + builder.encoded_len() > zone_size {
        return Err("it would not fit behind the records".to_owned());
    }
    let expires_ms_max = records.puts.iter().map(|(_, put)| put.expires_ms).max().unwrap_or(0);
    let lsn_first = records.lsns.0.min(records.lsns.1);
    let summary = match &view.trailer {
        Some(trailer) => FooterSummary {
            sealed_store_ms: trailer.sealed_store_ms,
            used_len: trailer.used_len,
            lsn_first: trailer.lsn_first,
            lsn_last: trailer.lsn_last,
            expires_ms_max: trailer.expires_ms_max,
        },
        None => FooterSummary {
            sealed_store_ms: records.stored_ms_max.max(zone.opened_store_ms),
            used_len: records.end,
            lsn_first,
            lsn_last: records.lsns.1,
            expires_ms_max,
        },
    };
    Ok(builder.encode(volume.store_id(), zone, zone_size, &summary))
}

fn trailer_of(volume: &Volume, footer: &[u8]) -> Result<FooterTrailer, String> {
    FooterTrailer::decode(&footer[footer.len() - BLOCK..], volume.store_id())
        .map_err(|error| error.to_string())
}

/// The kills as they stand on the drive, if they are the ones that the records give: their order is
/// that of becoming durable, which records do not tell.
fn take_kills_of(
    volume: &Volume,
    before: &[u8],
    after: &[u8],
    records: &mut Records,
) -> Result<(), String> {
    let trailer = trailer_of(volume, after)?;
    let span = trailer.table(FooterTable::Kills);
    let start = (span.offset - trailer.footer_offset()) as usize;
    let found =
        KillList::new(&before[start..start + span.len]).map_err(|error| error.to_string())?;
    let found: Vec<Kill> = found.collect();
    let sorted = |kills: &[Kill]| {
        let mut bytes: Vec<Vec<u8>> =
            kills.iter().map(|kill| Kill::encode_list(std::slice::from_ref(kill))).collect();
        bytes.sort();
        bytes
    };
    if sorted(&found) != sorted(&records.kills) {
        return Err("its trailer is lost and its kills are not those of the records".to_owned());
    }
    records.kills = found;
    Ok(())
}

/// All but the trailer.
fn tables_agree(before: &[u8], after: &[u8]) -> Result<(), String> {
    let tables = after.len() - BLOCK;
    match tables > 0 && before[..tables] == after[..tables] {
        true => Ok(()),
        false => Err("its trailer is lost and its tables do not prove the records complete".into()),
    }
}
