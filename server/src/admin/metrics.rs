//! `/metrics` in the OpenMetrics text format. Every scrape reads the counters where they are.

use super::{Watched, is_healthy};
use crate::net::{Counters, LATENCY_BOUNDS_US, Latency};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt::Error;
use std::sync::Arc;
use tapeloop_engine::VolumeStatus;

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn render(watched: Arc<Watched>) -> Result<String, Error> {
    let mut registry = Registry::with_prefix("tapeloop");
    registry.register_collector(Box::new(Scrape(watched)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Reads one counter of one thread.
type Read = fn(&Counters) -> u64;
/// Reads one gauge of one volume.
type ReadVolume = fn(&VolumeStatus) -> u64;

#[derive(Debug)]
struct Scrape(Arc<Watched>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        self.store(encoder)?;
        self.volumes(encoder)?;
        self.log(encoder)?;
        self.front_end(encoder)?;
        super::scrub::metrics(encoder, &self.0.engine.0)?;
        let gets = "Time from the head of a GET to the first byte of its answer";
        latency(encoder, "get_first_byte_seconds", gets, &self.0.counters, |one| &one.get_latency)?;
        let puts = "Time from the last body byte of a PUT to its acknowledgement";
        latency(encoder, "put_ack_seconds", puts, &self.0.counters, |one| &one.put_latency)
    }
}

impl Scrape {
    fn store(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let engine = &self.0.engine.0;
        let stats = engine.stats();
        let healthy = u64::from(is_healthy(&engine.health()));
        gauge(encoder, "healthy", "1 while all volumes read and write", healthy)?;
        let memory = "Most memory that the process will take";
        gauge(encoder, "memory_max_bytes", memory, self.0.memory_max_bytes)?;
        let arena_bytes = stats.arena_blocks * stats.arena_block_bytes;
        gauge(encoder, "arena_bytes", "Memory for payloads", arena_bytes)?;
        let uploading_bytes = stats.arena_blocks_uploading * stats.arena_block_bytes;
        gauge(encoder, "arena_uploading_bytes", "Arena held by uploads", uploading_bytes)?;
        gauge(encoder, "arena_objects", "Objects served from memory", stats.arena_objects)?;
        gauge(encoder, "index_entries", "Objects in the index", stats.index_entries)?;
        gauge(encoder, "index_bytes", "Memory of the index", stats.index_bytes)?;
        let drive_reads = stats.drive_reads;
        counter(
            encoder,
            "drive_reads",
            "Reads of objects that drives were asked for",
            drive_reads,
        )?;
        let shed = "Readers refused because too many waited for a drive";
        counter(encoder, "reads_shed", shed, stats.reads_shed)?;
        gauge(encoder, "zone_bytes", "Size of a zone", stats.zone_bytes)?;
        gauge(encoder, "zones", "Zones of the store", u64::from(stats.zones))
    }

    fn volumes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let volumes = self.0.engine.0.volumes();
        let states: [(&str, &str, &str); 4] = [
            ("volume_fenced", "1 while nothing is written to the volume any more", "fenced"),
            ("volume_hung", "1 while the drive does not answer", "hung"),
            ("volume_slow", "1 while records go elsewhere if they can", "slow"),
            ("volume_missing", "1 if the store was opened without the volume", "missing"),
        ];
        for (name, help, state) in states {
            by_volume(encoder, name, help, &volumes, |of| u64::from(of.state.name() == state))?;
        }
        let zones: [(&str, &str, ReadVolume); 4] = [
            ("volume_zones_free", "Zones that can be used at once", |of| of.zones_free.into()),
            ("volume_zones_open", "Zones being appended to", |of| of.zones_open.into()),
            ("volume_zones_sealed", "Zones full and servable", |of| of.zones_sealed.into()),
            ("volume_zones_bad", "Zones out of use after an error", |of| of.zones_bad.into()),
        ];
        zones
            .into_iter()
            .try_for_each(|(name, help, of)| by_volume(encoder, name, help, &volumes, of))
    }

    fn log(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let log = self.0.engine.0.stats().log;
        gauge(encoder, "zones_free", "Zones that can be used at once", log.zones_free.into())?;
        gauge(encoder, "zones_open", "Zones being appended to", log.zones_open.into())?;
        gauge(encoder, "zones_sealed", "Zones full and servable", log.zones_sealed.into())?;
        gauge(encoder, "zones_bad", "Zones out of use after a write error", log.zones_bad.into())?;
        gauge(encoder, "backlog", "Operations accepted and not finished", log.backlog.into())?;
        let retention = "Age of the oldest object when its zone was last evicted, milliseconds";
        gauge(encoder, "retention_achieved_ms", retention, log.retention_achieved_ms)?;
        counter(encoder, "records_stored", "Records made durable", log.records_stored)?;
        let stored = "Payload bytes made durable";
        counter(encoder, "payload_bytes_stored", stored, log.payload_bytes_stored)?;
        counter(encoder, "bytes_written", "Bytes written to the drive", log.bytes_written)?;
        counter(encoder, "tombstones", "Deletes made durable", log.tombstones)?;
        counter(encoder, "flushes", "Flushes completed", log.flushes)?;
        let replaced = "Failed writes placed again elsewhere";
        counter(encoder, "records_replaced", replaced, log.records_replaced)?;
        counter(encoder, "zones_expired", "Zones freed by expiry", log.zones_expired)?;
        counter(encoder, "zones_evicted", "Zones taken back early", log.zones_evicted)
    }

    fn front_end(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let sum = |of: Read| self.0.counters.iter().map(|one| of(one)).sum::<u64>();
        let open = sum(|one| one.connections_open.get());
        gauge(encoder, "connections_open", "Connections open now", open)?;
        let counters: [(&str, &str, Read); 13] = [
            ("connections_accepted", "Connections accepted", |c| c.connections_accepted.get()),
            ("accept_pauses", "Pauses for want of descriptors", |c| c.accept_pauses.get()),
            ("deadlines_passed", "Connections shut by a deadline", |c| c.deadlines_passed.get()),
            ("resets", "Answers cut short by a reset", |c| c.resets.get()),
            ("gets", "GET and HEAD requests", |c| c.gets.get()),
            ("puts", "PUT and POST requests", |c| c.puts.get()),
            ("deletes", "DELETE requests", |c| c.deletes.get()),
            ("answers_2xx", "Answers of class 2xx", |c| c.answers[0].get()),
            ("answers_3xx", "Answers of class 3xx", |c| c.answers[1].get()),
            ("answers_4xx", "Answers of class 4xx", |c| c.answers[2].get()),
            ("answers_5xx", "Answers of class 5xx", |c| c.answers[3].get()),
            ("bytes_received", "Body bytes received", |c| c.bytes_received.get()),
            ("bytes_sent", "Bytes sent", |c| c.bytes_sent.get()),
        ];
        for (name, help, of) in counters {
            counter(encoder, name, help, sum(of))?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), Error> {
    let metric = ConstGauge::new(value);
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

/// A gauge of every volume.
fn by_volume(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    volumes: &[VolumeStatus],
    of: impl Fn(&VolumeStatus) -> u64,
) -> Result<(), Error> {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for volume in volumes {
        let labels = [("volume", volume.volume.to_string())];
        encoder.encode_family(&labels)?.encode_gauge(&of(volume))?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), Error> {
    let metric = ConstCounter::new(value);
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

fn latency(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counters: &[Arc<Counters>],
    of: fn(&Counters) -> &Latency,
) -> Result<(), Error> {
    let mut buckets = Vec::with_capacity(LATENCY_BOUNDS_US.len() + 1);
    for at in 0..=LATENCY_BOUNDS_US.len() {
        let bound_s = LATENCY_BOUNDS_US.get(at).map_or(f64::INFINITY, |&us| us as f64 / 1e6);
        let count: u64 = counters.iter().map(|one| of(one).buckets()[at]).sum();
        buckets.push((bound_s, count));
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    let sum_us: u64 = counters.iter().map(|one| of(one).sum_us()).sum();
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(sum_us as f64 / 1e6, count, &buckets, None)
}
