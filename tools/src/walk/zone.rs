//! What a zone is at first sight: its header, its trailer, and what the checkpoint says of it.

use tapeloop_format::{BLOCK, ClassId, FooterTrailer, ZoneHeader};

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
}

impl ZoneState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ZoneState::Unused => "unused",
            ZoneState::Open => "open",
            ZoneState::Sealed => "sealed",
            ZoneState::Unreadable => "unreadable",
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
        };
        match (header, trailer) {
            (Ok(header), trailer) => view.with_header(header, trailer),
            (Err(fault), Ok(trailer)) => {
                // Only a blank header with no trailer is a zone that was never opened.
                view.header = Some(stand_in(&trailer));
                view.trailer = Some(trailer);
                view.header_fault = Some(fault);
                view.state = ZoneState::Sealed;
            }
            (Err(header), Err(trailer)) if header.is_blank() && trailer.is_blank() => {}
            (Err(header), Err(trailer)) => {
                view.state =
                    if header.is_blank() { ZoneState::Unused } else { ZoneState::Unreadable };
                view.header_fault = (!header.is_blank()).then_some(header);
                view.trailer_fault = (!trailer.is_blank()).then_some(trailer);
            }
        }
        view.durable_len = durable_len(volume, &view);
        view
    }

    fn with_header(&mut self, header: ZoneHeader, trailer: Result<FooterTrailer, Fault>) {
        self.header = Some(header);
        self.state = ZoneState::Open;
        match trailer {
            Ok(trailer) if trailer.lap == header.lap => {
                self.state = ZoneState::Sealed;
                self.trailer = Some(trailer);
            }
            // The footer of an earlier lap stays until this lap is sealed.
            Ok(trailer) if trailer.lap < header.lap => {}
            Ok(trailer) => {
                let zone_size = trailer.zone_size;
                let place = trailer.expect(self.zone, header.lap, zone_size);
                self.trailer_fault = place.err().map(Fault::Format);
            }
            Err(fault) if fault.is_blank() => {}
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
    let block = volume.read_block(volume.geometry().zone_offset(zone))?;
    let header = ZoneHeader::decode(&block[..], volume.store_id())?;
    header.expect(zone)?;
    Ok(header)
}

fn read_trailer(volume: &Volume, zone: u32) -> Result<FooterTrailer, Fault> {
    let geometry = volume.geometry();
    let offset = geometry.zone_offset(zone) + geometry.zone_size() - BLOCK as u64;
    let block = volume.read_block(offset)?;
    let trailer = FooterTrailer::decode(&block[..], volume.store_id())?;
    trailer.expect(zone, trailer.lap, geometry.zone_size())?;
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

fn durable_len(volume: &Volume, view: &ZoneView) -> u64 {
    let marks = volume.checkpoint().map_or(&[][..], |checkpoint| &checkpoint.open_zones);
    let own = marks
        .iter()
        .find(|mark| mark.zone_lap.zone == view.zone && mark.zone_lap.lap == view.lap());
    let most = volume.geometry().zone_size() - BLOCK as u64;
    own.map_or(BLOCK as u64, |mark| mark.durable_len.clamp(BLOCK as u64, most))
}
