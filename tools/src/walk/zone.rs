//! What a zone is at first sight: its header, its trailer, and what the checkpoint says of it.

use tapeloop_format::{
    BLOCK, Checkpoint, ClassId, FooterTrailer, FormatError, RECORD_HEADER_LEN_MAX, RecordHeader,
    Structure, ZoneHeader, round_up,
};

use super::fault::Fault;
use super::volume::Volume;

/// Where a zone is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZoneState {
    /// Never opened.
    Unused,
    /// Opened and not sealed: it takes records, or did when the server stopped.
    Open,
    /// Full, with a footer of its current lap.
    Sealed,
    /// Its header cannot be read and no footer stands in for it.
    Unreadable,
    /// Left over from before the store went on without this volume; nothing in it counts.
    GivenUp,
}

impl ZoneState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ZoneState::Unused => "unused",
            ZoneState::Open => "open",
            ZoneState::Sealed => "sealed",
            ZoneState::Unreadable => "unreadable",
            ZoneState::GivenUp => "given up",
        }
    }
}

/// Header and trailer of one zone.
#[derive(Debug, Clone)]
pub(crate) struct ZoneView {
    pub(crate) zone: u32,
    pub(crate) state: ZoneState,
    /// As read, or as far as the trailer can stand in for it.
    pub(crate) header: Option<ZoneHeader>,
    /// The trailer of the current lap.
    pub(crate) trailer: Option<FooterTrailer>,
    pub(crate) header_fault: Option<Fault>,
    pub(crate) trailer_fault: Option<Fault>,
    /// Bytes that the checkpoint calls durable; the zone header alone if it names none.
    pub(crate) durable_len: u64,
    /// Up to here a record counts whoever wrote it.
    pub(crate) counted_len: u64,
    /// The lap was open at the newest checkpoint or was opened since: a seal may have been under
    /// way. Any other lap has had its footer.
    pub(crate) may_have_been_open: bool,
    /// Nobody knows what of an open lap was durable: what is invalid is torn.
    pub(crate) is_unsure: bool,
    /// Records at or beyond `counted_len` count only if they are of this incarnation or later.
    pub(crate) incarnation_min: u64,
}

impl ZoneView {
    pub(crate) fn read(volume: &Volume, zone: u32) -> ZoneView {
        let header = read_header(volume, zone);
        let trailer = read_trailer(volume, zone);
        let mut view = ZoneView {
            zone,
            state: ZoneState::Unused,
            header: None,
            trailer: None,
            header_fault: None,
            trailer_fault: None,
            durable_len: BLOCK as u64,
            counted_len: BLOCK as u64,
            may_have_been_open: true,
            is_unsure: false,
            incarnation_min: 0,
        };
        match (header, trailer) {
            (Ok(header), trailer) => view.with_header(volume, header, trailer),
            (Err(fault), trailer) => view.without_header(volume, fault, trailer),
        }
        let Some(header) = view.header else { return view };
        if header.base_position < volume.given_up_below() {
            view.give_up();
            return view;
        }
        if let Some(checkpoint) = volume.checkpoint() {
            view.compare(volume, checkpoint, &header);
        }
        view
    }

    fn give_up(&mut self) {
        self.state = ZoneState::GivenUp;
        self.trailer = None;
        self.header_fault = None;
        self.trailer_fault = None;
    }

    /// What the checkpoint says of the lap.
    fn compare(&mut self, volume: &Volume, checkpoint: &Checkpoint, header: &ZoneHeader) {
        let own = checkpoint.open_zones.iter().find(|mark| mark.zone_lap == header.zone_lap());
        self.may_have_been_open =
            own.is_some() || header.base_position >= checkpoint.next_base_position;
        if self.may_have_been_open {
            self.incarnation_min = checkpoint.incarnation;
        }
        if let Some(mark) = own {
            let most = volume.zone_size() - BLOCK as u64;
            self.counted_len = mark.durable_len.clamp(BLOCK as u64, most);
            self.durable_len = self.counted_len;
        }
        if !volume.was_flushed() {
            self.is_unsure = true;
            self.durable_len = BLOCK as u64;
        }
        let has_lost_footer = self.state == ZoneState::Open && !self.may_have_been_open;
        if has_lost_footer && self.trailer_fault.is_none() && self.header_fault.is_none() {
            self.trailer_fault = Some(Fault::NoFooter);
        }
    }

    /// What else on the zone tells its lap: its first record, or the trailer of a sealed lap.
    fn without_header(
        &mut self,
        volume: &Volume,
        fault: Fault,
        trailer: Result<FooterTrailer, Fault>,
    ) {
        let first = by_first_record(volume, self.zone);
        match (first, trailer) {
            (Some(header), Ok(trailer)) if trailer.lap >= header.lap => self.sealed(trailer),
            (Some(header), trailer) => self.with_header(volume, header, trailer),
            (None, Ok(trailer)) => self.sealed(trailer),
            (None, Err(trailer)) => {
                let is_unused = volume.was_never_written(&fault);
                self.state = if is_unused { ZoneState::Unused } else { ZoneState::Unreadable };
                self.trailer_fault = (!volume.was_never_written(&trailer)).then_some(trailer);
                self.header_fault = (!is_unused).then_some(fault);
                return;
            }
        }
        self.header_fault = Some(fault);
    }

    fn sealed(&mut self, trailer: FooterTrailer) {
        self.header = Some(stand_in(&trailer));
        self.trailer = Some(trailer);
        self.state = ZoneState::Sealed;
    }

    fn with_header(
        &mut self,
        volume: &Volume,
        header: ZoneHeader,
        trailer: Result<FooterTrailer, Fault>,
    ) {
        self.header = Some(header);
        self.state = ZoneState::Open;
        match trailer {
            Ok(trailer) if trailer.lap == header.lap => {
                self.state = ZoneState::Sealed;
                self.trailer = Some(trailer);
            }
            // The footer of an earlier lap stays until this lap is sealed.
            Ok(trailer) if trailer.lap < header.lap => {}
            // Headers are durable before the lap's first record: this one was written over.
            Ok(trailer) => {
                let (expected, found) = (trailer.lap, header.lap);
                let what = Structure::ZoneHeader;
                let fault = FormatError::Misplaced { what, field: "lap", expected, found };
                self.sealed(trailer);
                self.header_fault = Some(fault.into());
            }
            Err(fault) if volume.was_never_written(&fault) => {}
            Err(fault) => self.trailer_fault = Some(fault),
        }
    }

    pub(crate) fn lap(&self) -> u64 {
        self.header.map_or(0, |header| header.lap)
    }

    pub(crate) fn class(&self) -> ClassId {
        self.header.map_or(ClassId { bucket: 0, group: 0 }, |header| header.class)
    }
}

fn read_header(volume: &Volume, zone: u32) -> Result<ZoneHeader, Fault> {
    let block = volume.read_block(volume.zone_offset(zone))?;
    let header = ZoneHeader::decode(&block[..], volume.store_id())?;
    header.expect(zone)?;
    Ok(header)
}

fn read_trailer(volume: &Volume, zone: u32) -> Result<FooterTrailer, Fault> {
    let offset = volume.zone_offset(zone) + volume.zone_size() - BLOCK as u64;
    let block = volume.read_block(offset)?;
    let trailer = FooterTrailer::decode(&block[..], volume.store_id())?;
    trailer.expect(zone, trailer.lap, volume.zone_size())?;
    Ok(trailer)
}

/// The trailer repeats all of the zone header but the incarnation.
fn stand_in(trailer: &FooterTrailer) -> ZoneHeader {
    ZoneHeader {
        zone: trailer.zone,
        lap: trailer.lap,
        base_position: trailer.base_position,
        class: trailer.class,
        opened_store_ms: trailer.opened_store_ms,
        incarnation: 0,
    }
}

/// Rebuilds what the scan needs of a zone header. A class cannot be told from a record.
fn by_first_record(volume: &Volume, zone: u32) -> Option<ZoneHeader> {
    let mut bytes = vec![0; round_up(RECORD_HEADER_LEN_MAX, BLOCK)];
    volume.read(volume.zone_offset(zone) + BLOCK as u64, &mut bytes).ok()?;
    let record = RecordHeader::decode(&bytes, volume.salt()).ok()?;
    let base_position = record.position.checked_sub(BLOCK as u64)?;
    (record.zone == zone).then_some(ZoneHeader {
        zone,
        lap: record.lap,
        base_position,
        class: ClassId { bucket: 0, group: 0 },
        opened_store_ms: record.stored_ms,
        incarnation: record.incarnation,
    })
}
