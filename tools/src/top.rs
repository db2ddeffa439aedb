//! `tapectl top`: a running origin at a glance, from two looks at its status document.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::admin::{Admin, AdminUrl};
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::units;

const PATH: &str = "/api/v1/status";
/// Between two looks; rates are over this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// Clears the screen of a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// A validated `top`.
#[derive(Debug, Clone)]
pub(crate) struct TopPlan {
    pub(crate) admin: AdminUrl,
    pub(crate) once: bool,
    pub(crate) json: bool,
}

#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    uptime_s: u64,
    health: String,
    health_cause: Option<String>,
    store: Store,
    data_plane: DataPlane,
    scrub: Scrub,
}

#[derive(Debug, Deserialize)]
struct Store {
    capacity_bytes: u64,
    zones: u32,
    zones_open: u32,
    zones_sealed: u32,
    index_entries: u64,
    backlog: u32,
    volumes: Vec<Volume>,
}

#[derive(Debug, Deserialize)]
struct Volume {
    volume: u16,
    path: Option<String>,
    state: String,
    cause: Option<String>,
    zones_free: u32,
    zones_open: u32,
    zones_sealed: u32,
    zones_bad: u32,
}

#[derive(Debug, Deserialize)]
struct DataPlane {
    connections_open: u64,
    gets: u64,
    puts: u64,
    answers_5xx: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

#[derive(Debug, Deserialize)]
struct Scrub {
    damage_count: u64,
    volumes: Vec<ScrubVolume>,
}

#[derive(Debug, Deserialize)]
struct ScrubVolume {
    volume: u16,
    state: String,
    cycle: u64,
    progress: f64,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Glance<'s> {
    version: &'s str,
    uptime_s: u64,
    health: &'s str,
    health_cause: Option<&'s str>,
    capacity_bytes: u64,
    zones: u32,
    fill_percent: f64,
    objects: u64,
    backlog: u32,
    connections: u64,
    ingest_bytes_per_s: f64,
    puts_per_s: f64,
    read_bytes_per_s: f64,
    gets_per_s: f64,
    answers_5xx_per_s: f64,
    damage_count: u64,
    volumes: Vec<VolumeGlance<'s>>,
}

#[derive(Debug, Serialize)]
struct VolumeGlance<'s> {
    volume: u16,
    path: Option<&'s str>,
    state: &'s str,
    cause: Option<&'s str>,
    zones_free: u32,
    zones_open: u32,
    zones_sealed: u32,
    zones_bad: u32,
    /// `null` for a volume that is not there.
    scrub_state: Option<&'s str>,
    scrub_cycle: u64,
    scrub_progress: f64,
}

/// Looks until it is interrupted, or once.
pub(crate) fn run(plan: &TopPlan) -> Result<Outcome, ToolError> {
    let mut admin = Admin::new(&plan.admin)?;
    let is_screen = std::io::stdout().is_terminal();
    let mut before: (Instant, Status) = (Instant::now(), admin.get(PATH)?);
    loop {
        std::thread::sleep(INTERVAL);
        let now = (Instant::now(), admin.get(PATH)?);
        let glance = Glance::of(&before.1, &now.1, (now.0 - before.0).as_secs_f64());
        match (plan.json, plan.once || !is_screen) {
            (true, _) => output::json(&glance)?,
            (false, true) => output::text(&glance.as_text())?,
            (false, false) => output::text(&format!("{CLEAR}{}", glance.as_text()))?,
        }
        if plan.once || !is_screen {
            return Ok(Outcome::of_problem_count(glance.problem_count()));
        }
        before = now;
    }
}

impl<'s> Glance<'s> {
    fn of(before: &Status, now: &'s Status, seconds: f64) -> Glance<'s> {
        // A restart between two looks begins the counters anew.
        let rate = |of: fn(&DataPlane) -> u64| {
            of(&now.data_plane).saturating_sub(of(&before.data_plane)) as f64 / seconds
        };
        let store = &now.store;
        let used = store.zones_open + store.zones_sealed;
        Glance {
            version: &now.version,
            uptime_s: now.uptime_s,
            health: &now.health,
            health_cause: now.health_cause.as_deref(),
            capacity_bytes: store.capacity_bytes,
            zones: store.zones,
            fill_percent: f64::from(used) * 100.0 / f64::from(store.zones.max(1)),
            objects: store.index_entries,
            backlog: store.backlog,
            connections: now.data_plane.connections_open,
            ingest_bytes_per_s: rate(|plane| plane.bytes_received),
            puts_per_s: rate(|plane| plane.puts),
            read_bytes_per_s: rate(|plane| plane.bytes_sent),
            gets_per_s: rate(|plane| plane.gets),
            answers_5xx_per_s: rate(|plane| plane.answers_5xx),
            damage_count: now.scrub.damage_count,
            volumes: store.volumes.iter().map(|of| volume(of, &now.scrub.volumes)).collect(),
        }
    }

    fn problem_count(&self) -> u64 {
        u64::from(self.health != "ok") + self.damage_count
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "tapeloop {}, up {}: {}{}",
            self.version,
            units::duration_ms(self.uptime_s * 1000),
            self.health,
            self.health_cause.map(|cause| format!(" ({cause})")).unwrap_or_default(),
        );
        let _ = writeln!(
            text,
            "store    {}, {:.0} % of {} zones in use, {} objects",
            units::size(self.capacity_bytes),
            self.fill_percent,
            self.zones,
            self.objects,
        );
        let _ = writeln!(
            text,
            "ingest   {:.1} MB/s, {:.1} PUT/s, {} under way",
            self.ingest_bytes_per_s / 1e6,
            self.puts_per_s,
            self.backlog,
        );
        let _ = writeln!(
            text,
            "reads    {:.1} MB/s, {:.1} GET/s on {} connections, {:.1} errors/s",
            self.read_bytes_per_s / 1e6,
            self.gets_per_s,
            self.connections,
            self.answers_5xx_per_s,
        );
        for volume in &self.volumes {
            volume.write(&mut text);
        }
        let _ = match self.damage_count {
            0 => writeln!(text, "damage   none known"),
            count => writeln!(text, "damage   {count} known: `tapectl scrub` names them"),
        };
        text
    }
}

/// A volume with what its scrub does.
fn volume<'s>(of: &'s Volume, scrubs: &'s [ScrubVolume]) -> VolumeGlance<'s> {
    let scrub = scrubs.iter().find(|scrub| scrub.volume == of.volume);
    VolumeGlance {
        volume: of.volume,
        path: of.path.as_deref(),
        state: &of.state,
        cause: of.cause.as_deref(),
        zones_free: of.zones_free,
        zones_open: of.zones_open,
        zones_sealed: of.zones_sealed,
        zones_bad: of.zones_bad,
        scrub_state: scrub.map(|scrub| scrub.state.as_str()),
        scrub_cycle: scrub.map_or(0, |scrub| scrub.cycle),
        scrub_progress: scrub.map_or(0.0, |scrub| scrub.progress),
    }
}

impl VolumeGlance<'_> {
    fn write(&self, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "volume {} {}: {} sealed, {} open, {} free, {} bad",
            self.volume,
            self.cause.unwrap_or(self.state),
            self.zones_sealed,
            self.zones_open,
            self.zones_free,
            self.zones_bad,
        );
        if let Some(state) = self.scrub_state {
            let part = self.scrub_progress * 100.0;
            let _ = write!(text, "; scrub {state}, cycle {} at {part:.1} %", self.scrub_cycle);
        }
        let _ = writeln!(text, "{}", self.path.map(|path| format!("  {path}")).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: u64, health: &str, damage: u64) -> Status {
        let document = serde_json::json!({
            "version": "1", "uptime_s": 5, "health": health, "health_cause": null,
            "store": {
                "capacity_bytes": 1_073_741_824, "zones": 16, "zones_free": 4, "zones_open": 2,
                "zones_sealed": 10, "zones_bad": 0, "index_entries": 9, "backlog": 0,
                "volumes": [],
            },
            "data_plane": {
                "connections_open": 1, "gets": bytes, "puts": bytes, "answers_5xx": 0,
                "bytes_received": bytes, "bytes_sent": bytes * 2,
            },
            "scrub": { "damage_count": damage, "volumes": [] },
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn rates_are_over_the_time_between_two_looks_and_survive_a_restart() {
        let (before, now) = (status(1000, "ok", 0), status(3000, "ok", 0));
        let glance = Glance::of(&before, &now, 2.0);
        assert_eq!((glance.ingest_bytes_per_s, glance.read_bytes_per_s), (1000.0, 2000.0));
        assert_eq!((glance.fill_percent, glance.problem_count()), (75.0, 0));
        assert_eq!(Glance::of(&now, &before, 1.0).puts_per_s, 0.0);
    }

    #[test]
    fn bad_health_and_known_damage_are_problems() {
        let ok = status(0, "ok", 0);
        for (health, damage) in [("fenced", 0), ("ok", 2)] {
            let now = status(0, health, damage);
            let glance = Glance::of(&ok, &now, 1.0);
            assert!(glance.problem_count() > 0);
            assert!(glance.as_text().contains(health));
        }
    }
}
