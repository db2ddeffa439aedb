//! The hub over two drives in memory that answer, are slow or hang as told, under a clock that only
//! the test moves. Appenders are calls of `turn`.

use super::*;
use crate::admission::Admission;
use tapeloop_format::{Geometry, Key, KeyHasher, StoreGeometry, StoreId};
use tapeloop_io::{ARENA_BLOCK, Arena, VolumeFile};
use tapeloop_log::{MachineTime, Put, Recovery};
use tokio::sync::oneshot;

const STORE: StoreId = StoreId(*b"0123456789abcdef");
const STEP_MS: u64 = 50;

/// A drive in memory.
struct Disk {
    bytes: Vec<u8>,
    hangs: bool,
    /// Not answered yet, and since when.
    pending: Vec<(Work, u64)>,
    /// Records that were written.
    records: u32,
    /// Asked whether it answers, and since when.
    asked_ms: Option<u64>,
    turn: Turn,
}

impl Disk {
    /// Does what is pending.
    fn answer(&mut self) {
        self.asked_ms = None;
        for (work, _) in self.pending.drain(..) {
            let result = match work.op {
                IoOp::Record { offset, header, .. } => {
                    self.records += 1;
                    self.bytes[offset as usize..][..header.len()].copy_from_slice(&header);
                    Vec::new()
                }
                IoOp::Write { offset, bytes } => {
                    self.bytes[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
                    Vec::new()
                }
                IoOp::Flush => Vec::new(),
                IoOp::Read { offset, len } => self.bytes[offset as usize..][..len].to_vec(),
            };
            self.turn.answers.push((work.id, Ok(result)));
        }
    }
}

struct Rig {
    hub: Hub,
    disks: Vec<Disk>,
    commands: mpsc::Sender<Command>,
    admission: Admission,
    now_ms: u64,
    _dir: tempfile::TempDir,
}

fn log(geometry: StoreGeometry, disks: &[Disk]) -> (Log, StoreClock) {
    let mut recovery = Recovery::new(STORE, geometry, &[]);
    while !recovery.is_done() {
        let read = recovery.poll_read().expect("reads are answered at once");
        let bytes = &disks[usize::from(read.volume)].bytes;
        recovery.read_done(read.id, Ok(&bytes[read.offset as usize..][..read.len]));
    }
    let machine = MachineTime { boot_id: [1; 16], boottime_ms: 1_000, wall_ms: 1_000 };
    let (log, clock, _) = recovery.finish(Vec::new(), machine, 1);
    (log, clock)
}

impl Rig {
    fn new() -> Rig {
        let geometry = Geometry::new(64 << 10, 8).expect("a geometry");
        let store = StoreGeometry::new(geometry, 2).expect("a geometry");
        let disk = |_| Disk {
            bytes: vec![0; geometry.volume_len() as usize],
            hangs: false,
            pending: Vec::new(),
            records: 0,
            asked_ms: None,
            turn: Turn::default(),
        };
        let disks: Vec<Disk> = (0..2).map(disk).collect();
        let (log, clock) = log(store, &disks);
        let dir = tempfile::tempdir().expect("a directory");
        let drive = |number: u16| {
            let path = dir.path().join(format!("volume-{number}"));
            std::fs::write(&path, b"stands for a volume").expect("written");
            Drive::new(Arc::new(VolumeFile::open_read_only(&path).expect("opened")), number)
        };
        let (commands, receiver) = mpsc::channel(16);
        let hub = Hub::new(log, clock, vec![drive(0), drive(1)], receiver);
        let admission = Admission::new(Arena::new(8 * ARENA_BLOCK).expect("memory"), 1);
        let mut rig = Rig { hub, disks, commands, admission, now_ms: 1_000, _dir: dir };
        rig.run(1_000);
        rig
    }

    /// One turn of each appender in `volumes`.
    fn step(&mut self, volumes: &[usize]) {
        self.now_ms += STEP_MS;
        for &volume in volumes {
            let disk = &mut self.disks[volume];
            let mut room = Room { operations: 1024, operations_kept: 16, bytes: u64::MAX };
            self.hub.turn(volume as u16, self.now_ms, &mut room, &mut disk.turn);
            disk.pending.extend(disk.turn.work.drain(..).map(|work| (work, self.now_ms)));
            if disk.asked_ms.is_none() && self.hub.drives[volume].wants_answer() {
                disk.asked_ms = Some(self.now_ms);
            }
            if !disk.hangs {
                disk.answer();
            }
            let oldest_ms = disk.pending.iter().map(|(_, since_ms)| *since_ms).chain(disk.asked_ms);
            self.hub.drives[volume].set_waiting(oldest_ms.min().unwrap_or(0));
        }
    }

    fn run(&mut self, for_ms: u64) {
        for _ in 0..for_ms / STEP_MS {
            self.step(&[0, 1]);
        }
    }

    fn put(&self, name: &str) -> oneshot::Receiver<Result<bool, crate::error::PutError>> {
        let key = Key::new(name.as_bytes()).expect("a key");
        let hash = KeyHasher::new(&STORE).hash(name.as_bytes());
        let body = Arc::new(Body::new(key, hash, Arc::from(&b""[..]), 0));
        let put = Put {
            metadata: Box::default(),
            payload_len: 0,
            chunk_crcs: Box::default(),
            content_hash: [0; 16],
            ttl_ms: 3_600_000,
            group: 0,
            created_wall_ms: 0,
        };
        let append = Append { ticket: 0, hash, key: name.as_bytes().into(), op: Op::Put(put) };
        let (reply, answer) = oneshot::channel();
        let claim = self.admission.claim();
        let sent = self.commands.try_send(Command::Put { append, body, claim, reply });
        assert!(sent.is_ok(), "a place in the queue");
        answer
    }

    /// The drive that holds a record back.
    fn holder(&self) -> Option<usize> {
        let is_record = |(work, _): &(Work, u64)| matches!(work.op, IoOp::Record { .. });
        self.disks.iter().position(|disk| disk.pending.iter().any(is_record))
    }

    fn fenced(&self) -> Vec<usize> {
        let drives = self.hub.drives.iter().enumerate();
        drives.filter(|(_, drive)| drive.fence().is_some()).map(|(index, _)| index).collect()
    }

    /// Puts `name` and lets the drive hang that its record goes to.
    fn put_on_a_drive_that_hangs(
        &mut self,
        name: &str,
    ) -> (usize, oneshot::Receiver<Result<bool, crate::error::PutError>>) {
        self.disks.iter_mut().for_each(|disk| disk.hangs = true);
        let answer = self.put(name);
        let stuck = loop {
            self.step(&[0, 1]);
            if let Some(stuck) = self.holder() {
                break stuck;
            }
            // A zone has to be made ready first.
            self.disks.iter_mut().for_each(Disk::answer);
        };
        self.disks[1 - stuck].hangs = false;
        (stuck, answer)
    }
}

#[test]
fn an_upload_on_a_drive_that_hangs_is_stored_on_another_within_five_seconds() {
    let mut rig = Rig::new();
    let (stuck, mut answer) = rig.put_on_a_drive_that_hangs("a/1");
    let begun_ms = rig.now_ms;
    let stored = loop {
        // The appender of the drive that hangs gets no turn either.
        rig.step(&[1 - stuck]);
        match answer.try_recv() {
            Ok(stored) => break stored,
            Err(_) => assert!(rig.now_ms < begun_ms + 5_000, "too late"),
        }
    };
    assert!(!stored.expect("stored"), "nothing was replaced");
    assert!(rig.now_ms >= begun_ms + 4_000, "not before the drive was given its time");
    assert_eq!(rig.fenced(), [stuck]);
    assert!(rig.hub.drives[stuck].fence().is_some_and(|cause| cause.contains("not answered")));
    for n in 0..20 {
        let mut answer = rig.put(&format!("a/more-{n}"));
        rig.run(500);
        assert!(answer.try_recv().expect("ended").is_ok());
    }
    let before = rig.disks[1 - stuck].records;
    rig.disks[stuck].hangs = false;
    rig.disks[stuck].answer();
    rig.run(1_000);
    let mut answer = rig.put("a/last");
    rig.run(1_000);
    assert!(answer.try_recv().expect("ended").is_ok());
    assert_eq!(rig.disks[1 - stuck].records, before + 1, "fenced stays fenced");
}

#[test]
fn the_last_drive_is_not_fenced_for_hanging_and_goes_on_when_it_answers() {
    let mut rig = Rig::new();
    rig.disks.iter_mut().for_each(|disk| disk.hangs = true);
    let mut answer = rig.put("a/1");
    rig.run(60_000);
    assert_eq!(rig.fenced(), [] as [usize; 0], "no drive answers, so none is better");
    assert!(answer.try_recv().is_err(), "not ended");
    for disk in &mut rig.disks {
        disk.hangs = false;
        disk.answer();
    }
    rig.run(1_000);
    assert!(answer.try_recv().expect("ended").is_ok());
}

#[test]
fn a_drive_with_nothing_to_do_is_asked_before_it_counts_as_better() {
    let mut rig = Rig::new();
    let (stuck, mut answer) = rig.put_on_a_drive_that_hangs("a/1");
    let is_idle = |rig: &Rig| rig.disks[1 - stuck].pending.is_empty();
    while !is_idle(&rig) {
        rig.disks[1 - stuck].answer();
        rig.step(&[1 - stuck]);
    }
    rig.disks[1 - stuck].hangs = true;
    rig.run(4_500);
    assert!(is_idle(&rig), "the log wants nothing of it");
    rig.run(60_000);
    assert_eq!(rig.fenced(), [] as [usize; 0]);
    rig.disks[1 - stuck].hangs = false;
    rig.disks[1 - stuck].answer();
    rig.run(1_000);
    assert_eq!(rig.fenced(), [stuck], "now another one answers");
    assert!(answer.try_recv().expect("ended").is_ok());
}

#[test]
fn a_slow_drive_gets_no_new_records_until_it_answers() {
    let mut rig = Rig::new();
    let (slow, mut first) = rig.put_on_a_drive_that_hangs("a/1");
    rig.run(500);
    let before = rig.disks[slow].records;
    for n in 0..5 {
        let mut answer = rig.put(&format!("a/other-{n}"));
        // The first may have to wait for a zone to be made ready on the other drive.
        rig.run(500);
        assert!(answer.try_recv().expect("ended").is_ok(), "not held up by the slow drive");
    }
    assert_eq!(rig.disks[slow].records, before);
    rig.disks[slow].hangs = false;
    rig.disks[slow].answer();
    rig.run(500);
    assert!(first.try_recv().expect("ended").is_ok());
    assert_eq!(rig.fenced(), [] as [usize; 0]);
    let mut answers = Vec::new();
    for n in 0..200 {
        answers.push(rig.put(&format!("a/again-{n}")));
        rig.run(200);
    }
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_ok_and(|ended| ended.is_ok())));
    assert!(rig.disks[slow].records > before, "it takes its turn again");
}

#[test]
fn any_appender_takes_commands_and_keeps_time() {
    let mut rig = Rig::new();
    for volume in [0, 1] {
        rig.commands.try_reserve().expect("room");
        let mut answer = rig.put(&format!("a/{volume}"));
        rig.step(&[volume]);
        assert_eq!(rig.commands.capacity(), rig.commands.max_capacity(), "taken by {volume}");
        rig.run(500);
        assert!(answer.try_recv().expect("ended").is_ok());
    }
}

#[test]
fn what_is_abandoned_ends_and_nothing_is_taken_afterwards() {
    let mut rig = Rig::new();
    let (_, mut answer) = rig.put_on_a_drive_that_hangs("a/1");
    let mut queued = rig.put("a/2");
    rig.hub.abandon();
    for answer in [&mut answer, &mut queued] {
        let ended = answer.try_recv().expect("ended");
        assert!(matches!(ended, Err(crate::error::PutError::Log(AppendError::Closing))));
    }
    assert!(rig.hub.is_closed() && rig.commands.is_closed());
    rig.disks.iter_mut().for_each(|disk| disk.hangs = false);
    rig.run(500);
    assert!(rig.disks.iter().all(|disk| disk.turn.work.is_empty()));
}
