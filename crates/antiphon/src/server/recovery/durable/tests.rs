//! A log on a disk that is killed, damaged, full, and opened again.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use redb::StorageBackend;

use super::*;
use crate::server::{
    SocketId,
    recovery::log::{Stay, Stays},
};

const BOUNDS: Bounds = Bounds {
    duration: Duration::from_secs(60),
    events: 1_000,
    bytes: 1 << 20,
};

/// A disk that outlives its databases, and can be told to fail.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Platter>);

#[derive(Debug, Default)]
struct Platter {
    bytes: Mutex<Vec<u8>>,
    fails: AtomicBool,
    panics: AtomicBool,
    syncs: AtomicU64,
}

impl Disk {
    fn open(&self) -> LogFile {
        self.try_open().expect("a log")
    }

    fn try_open(&self) -> Result<LogFile, LogFileError> {
        let disk = self.clone();
        let open = move || Ok(redb::Builder::new().create_with_backend(disk.clone())?);
        LogFile::start(File::new(Box::new(open))?, None)
    }

    fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }

    /// What was on it at this moment, as if the process had been killed.
    fn killed(&self) -> Self {
        let disk = Self::default();
        *disk.bytes() = self.bytes().clone();
        disk
    }

    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().expect("bytes")
    }

    fn check(&self) -> io::Result<()> {
        assert!(!self.0.panics.load(Ordering::SeqCst), "the test's disk");
        match self.0.fails.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.bytes();
        let part = bytes.get(offset as usize..offset as usize + len);
        part.map(<[u8]>::to_vec)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        self.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let offset = offset as usize;
        self.bytes()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn event(number: u64) -> Outgoing {
    Outgoing::event("event", &number).expect("an event")
}

fn to(room: &str) -> Target {
    Target {
        rooms: vec![room.into()],
        except: Vec::new(),
    }
}

/// Waits for a future without a runtime.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if let std::task::Poll::Ready(value) = polled {
            return value;
        }
        assert!(Instant::now() < until, "it takes too long");
        thread::sleep(Duration::from_millis(1));
    }
}

fn appending(log: &Arc<dyn Log>, number: u64, target: &Target) -> Appending {
    log.append(&event(number), target, Flags::default())
}

fn append(log: &Arc<dyn Log>, number: u64, target: &Target) -> Result<u64, LogError> {
    match appending(log, number, target) {
        Appending::Done(result) => result,
        Appending::Waiting(waiting) => wait(waiting),
        Appending::Unlogged => panic!("it keeps all"),
    }
}

/// The numbers of the events that a socket in these rooms has missed.
fn missed(log: &Arc<dyn Log>, rooms: &[&str], after: u64) -> Result<Vec<u64>, LogError> {
    let stays = rooms.iter().map(|room| Stay {
        room: (*room).into(),
        after: 0,
        upto: None,
    });
    let page = wait(log.read(Missed {
        stays: Stays {
            stays: stays.collect(),
            ..Stays::default()
        },
        after,
        upto: u64::MAX,
        bytes: usize::MAX,
    }))?;
    let numbers = page.events.iter();
    let numbers = numbers.map(|it| it.event.with_args(|args| args.deserialize::<u64>()));
    Ok(numbers.map(|number| number.expect("a number")).collect())
}

fn session(pid: &str) -> SavedSession {
    SavedSession {
        pid: pid.into(),
        id: SocketId::new("id"),
        stays: Stays {
            came: 3,
            stays: vec![Stay {
                room: "a".into(),
                after: 4,
                upto: Some(5),
            }],
            known_from: 1,
        },
        data: [("name".to_owned(), "Ada".into())].into_iter().collect(),
    }
}

/// All that was stored is there again, and what comes next continues it.
#[test]
fn a_log_goes_on_after_a_restart() {
    let disk = Disk::default();
    let file = disk.open();
    let log = file.log("/", BOUNDS);
    let epoch = log.epoch();
    for number in 1..=20 {
        let room = if number % 2 == 0 { "even" } else { "odd" };
        assert_eq!(append(&log, number, &to(room)), Ok(number));
    }
    log.save(session("one"));
    log.save(session("two"));
    log.forget("two");
    wait(log.flush());
    drop((file, log));

    let file = disk.open();
    let log = file.log("/", BOUNDS);
    assert_eq!((log.epoch(), log.last()), (epoch, 20));
    assert_eq!(log.saved(), [session("one")]);
    assert_eq!(missed(&log, &["even"], 15), Ok(vec![16, 18, 20]));
    assert_eq!(append(&log, 21, &Target::default()), Ok(21));
    assert_eq!(missed(&log, &["odd"], 16), Ok(vec![17, 19, 21]));
    assert_eq!(missed(&log, &["odd"], 22), Err(LogError::Gap));
    assert_eq!(file.log("/other", BOUNDS).last(), 0);
}

/// With each kill somewhere, what was told to be stored is there, and nothing is there twice.
#[test]
fn what_was_stored_before_delivery_survives_a_kill() {
    let mut disk = Disk::default();
    let mut epoch = None;
    let mut told = Vec::new();
    for number in 1..=16_u64 {
        let file = disk.open().stored_before_delivery();
        let log = file.log("/", BOUNDS);
        assert_eq!(*epoch.get_or_insert(log.epoch()), log.epoch());
        assert_eq!(missed(&log, &["a"], 0), Ok(told.clone()));
        for step in 0..3 {
            let number = number * 10 + step;
            assert_eq!(append(&log, number, &to("a")), Ok(told.len() as u64 + 1));
            told.push(number);
        }
        disk = disk.killed();
    }
}

/// Without a mark nobody knows what clients have had: those who have had all that is stored, and
/// those who may have missed what isn't, are told.
#[test]
fn what_was_delivered_and_not_stored_is_said() {
    let disk = Disk::default();
    let file = disk.open();
    let log = file.log("/", BOUNDS);
    for number in 1..=5 {
        append(&log, number, &to("a")).expect("a place");
    }
    wait(log.flush());
    append(&log, 6, &to("a")).expect("a place");
    // The file says that it isn't exact when this has been stored.
    let until = Instant::now() + Duration::from_secs(5);
    while log_state_is_exact(&disk) {
        assert!(Instant::now() < until, "it is stored");
        thread::sleep(Duration::from_millis(1));
    }
    let epoch = log.epoch();
    let killed = disk.killed();

    let file = killed.open();
    let log = file.log("/", BOUNDS);
    assert_ne!(
        log.epoch(),
        epoch,
        "offsets of before are told from those of now"
    );
    for after in 0..=6 {
        assert_eq!(missed(&log, &["a"], after), Err(LogError::Evicted));
    }
    let next = append(&log, 7, &to("a")).expect("a place");
    assert!(next > 7);
    assert_eq!(missed(&log, &["a"], next - 1), Ok(vec![7]));
}

fn log_state_is_exact(disk: &Disk) -> bool {
    let database = redb::Builder::new()
        .create_with_backend(disk.killed())
        .expect("a database");
    let found = store::find(&database, "/").expect("readable");
    found.expect("there").state.is_exact
}

/// The mark tells exactly what was delivered: what was lost is a hole, and all else goes on.
#[test]
fn with_the_mark_a_killed_process_goes_on() {
    let folder = Folder::new("mark");
    let path = folder.0.join("events.redb");
    for stored in [true, false] {
        let file = LogFile::open(&path).expect("a file");
        let log = file.log("/", BOUNDS);
        let last = log.last();
        let epoch = log.epoch();
        let five = (1..=5).map(|number| append(&log, number, &to("a")));
        let five: Vec<_> = five.collect::<Result<_, _>>().expect("places");
        assert_eq!(five, (last + 1..=last + 5).collect::<Vec<_>>());
        if stored {
            wait(log.flush());
        }
        // A copy is what a process that was killed leaves behind: with the boot's own mark.
        let copy = folder.0.join(format!("copy-{stored}"));
        std::fs::copy(&path, &copy).expect("a copy");
        let mark = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".mark");
            name
        };
        std::fs::copy(mark(&path), mark(&copy)).expect("a copy");
        let again = LogFile::open(&copy).expect("a file");
        let again = again.log("/", BOUNDS);
        assert_eq!((again.epoch(), again.last()), (epoch, last + 5));
        if stored {
            assert_eq!(missed(&again, &["a"], last), Ok(vec![1, 2, 3, 4, 5]));
        } else {
            assert_eq!(missed(&again, &["a"], last + 5), Ok(vec![]));
            assert_eq!(missed(&again, &["a"], last), Err(LogError::Evicted));
        }
        assert_eq!(
            append(&again, 6, &to("a")),
            Ok(last + 6),
            "none is used twice"
        );
    }
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("antiphon-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// While the disk fails, events that are to be stored before aren't delivered, and others are; both
/// are counted. Afterwards all goes on, and after a restart the hole is known.
#[test]
fn a_disk_that_fails_is_survived() {
    for panics in [false, true] {
        let disk = Disk::default();
        let file = disk.open();
        let (given, stored) = (file.clone(), file.clone().stored_before_delivery());
        let given = given.log("/given", BOUNDS);
        let stored = stored.log("/stored", BOUNDS);
        assert_eq!(append(&given, 1, &to("a")), Ok(1));
        assert_eq!(append(&stored, 1, &to("a")), Ok(1));
        let fail = |fails| match panics {
            true => disk.0.panics.store(fails, Ordering::SeqCst),
            false => disk.fail(fails),
        };
        fail(true);
        assert_eq!(append(&given, 2, &to("a")), Ok(2));
        given.save(session("kept"));
        assert!(matches!(
            append(&stored, 2, &to("a")),
            Err(LogError::Failed(_))
        ));
        wait(stored.flush());
        assert_eq!(missed(&given, &["a"], 0), Ok(vec![1, 2]));
        assert_eq!(missed(&stored, &["a"], 0), Ok(vec![1]), "nobody has had it");
        assert!(given.failures() > 0 && stored.failures() > 0);
        fail(false);
        let until = Instant::now() + Duration::from_secs(5);
        while append(&stored, 3, &to("a")).is_err() {
            assert!(Instant::now() < until, "it goes on");
        }
        assert_eq!(append(&given, 3, &to("a")), Ok(3));
        wait(given.flush());
        drop((file, given, stored));

        let file = disk.open();
        let (given, stored) = (file.log("/given", BOUNDS), file.log("/stored", BOUNDS));
        assert_eq!(missed(&stored, &["a"], 0), Ok(vec![1, 3]));
        assert_eq!(missed(&given, &["a"], 1), Err(LogError::Evicted));
        assert_eq!(missed(&given, &["a"], 2), Ok(vec![3]));
        assert_eq!(given.saved(), [session("kept")], "it was tried again");
    }
}

/// Bytes that are flipped or missing are an error, or repaired, or found: never a panic, and never
/// another event in place of one.
#[test]
fn a_damaged_file_is_taken_calmly() {
    let disk = Disk::default();
    let file = disk.open().stored_before_delivery();
    let log = file.log("/", BOUNDS);
    for number in 1..=200 {
        append(&log, number, &to("a")).expect("a place");
    }
    drop((file, log));
    let length = disk.bytes().len();
    let mut random = 88_172_645_463_325_252_u64;
    let mut outcomes = [0; 3];
    for round in 0..48 {
        let damaged = disk.killed();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The file is large and sparse: what is used is at its begin.
        let at = random as usize % if round % 4 == 0 { 512 } else { 96 << 10 };
        if round % 3 == 0 {
            damaged.bytes().truncate(length / 48 * round);
        } else {
            damaged.bytes()[at] ^= 1 << (round % 8);
        }
        let Ok(file) = damaged.try_open() else {
            outcomes[0] += 1;
            continue;
        };
        let log = file.log("/", BOUNDS);
        match missed(&log, &["a"], 0) {
            Ok(numbers) => {
                assert!(
                    numbers == (1..=numbers.len() as u64).collect::<Vec<_>>(),
                    "round {round}: {numbers:?}"
                );
                outcomes[1] += 1;
            }
            Err(_) => outcomes[2] += 1,
        }
        append(&log, 1_000, &to("a")).expect("a place");
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

/// An event that can't be read is a hole.
#[test]
fn an_event_that_cannot_be_read_is_said() {
    let disk = Disk::default();
    let file = disk.open().stored_before_delivery();
    let log = file.log("/", BOUNDS);
    for number in 1..=5 {
        append(&log, number, &to("a")).expect("a place");
    }
    drop((file, log));
    {
        let database = redb::Builder::new()
            .create_with_backend(disk.clone())
            .expect("a database");
        store::spoil(&database, "/", 3);
    }
    let file = disk.open();
    let log = file.log("/", BOUNDS);
    assert_eq!(missed(&log, &["a"], 2), Err(LogError::Evicted));
    assert_eq!(missed(&log, &["a"], 3), Ok(vec![4, 5]));
}

/// What memory drops is dropped from the file, which doesn't grow on; a quiet room is remembered.
#[test]
fn the_file_stays_within_its_bounds() {
    let bounds = Bounds {
        events: 200,
        ..BOUNDS
    };
    let disk = Disk::default();
    let file = disk.open().stored_before_delivery();
    let log = file.log("/", bounds);
    append(&log, 0, &to("quiet")).expect("a place");
    let mut sizes = Vec::new();
    for round in 0..40 {
        let waiting: Vec<_> = (0..100)
            .map(|number| appending(&log, number, &to(&format!("room {}", number % 10))))
            .collect();
        for waiting in waiting {
            let Appending::Waiting(waiting) = waiting else {
                panic!("it waits");
            };
            wait(waiting).expect("a place");
        }
        for number in 0..20 {
            log.save(session(&format!("{round} {number}")));
            log.forget(&format!("{} {number}", round - 1));
        }
        sizes.push(disk.bytes().len());
    }
    wait(log.flush());
    assert_eq!(sizes[9], sizes[39], "{sizes:?}");
    let last = log.last();
    drop((file, log));
    let file = disk.open();
    let log = file.log("/", bounds);
    assert_eq!(log.saved().len(), 20);
    assert_eq!(
        missed(&log, &["quiet"], 1),
        Ok(vec![]),
        "nothing came since"
    );
    assert_eq!(missed(&log, &["quiet"], 0), Err(LogError::Evicted));
    assert_eq!(missed(&log, &["room 1"], 500), Err(LogError::Evicted));
    assert_eq!(missed(&log, &["room 1"], last - 20), Ok(vec![81, 91]));
    // When all are too old, none is left.
    let database = redb::Builder::new()
        .create_with_backend(disk.killed())
        .expect("a database");
    let found = store::find(&database, "/")
        .expect("readable")
        .expect("there");
    assert!(found.events.len() <= 300, "{}", found.events.len());
}

/// Commits are shared by what comes together.
#[test]
fn events_that_come_together_share_a_commit() {
    let disk = Disk::default();
    let file = disk.open().stored_before_delivery();
    let log = file.log("/", BOUNDS);
    append(&log, 0, &to("a")).expect("a place");
    let before = disk.0.syncs.load(Ordering::SeqCst);
    let waiting: Vec<_> = (0..500)
        .map(|number| appending(&log, number, &to("a")))
        .collect();
    for waiting in waiting {
        let Appending::Waiting(waiting) = waiting else {
            panic!("it waits");
        };
        wait(waiting).expect("a place");
    }
    let syncs = disk.0.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs < 250, "{syncs} for 500 events");
}

/// A file belongs to one at a time.
#[test]
fn a_file_is_opened_once() {
    let folder = Folder::new("once");
    let path = folder.0.join("events.redb");
    let file = LogFile::open(&path).expect("a file");
    assert!(matches!(LogFile::open(&path), Err(LogFileError::InUse)));
    drop(file);
    LogFile::open(&path).expect("it is free");
    std::fs::write(&path, "no database").expect("written");
    assert!(matches!(
        LogFile::open(&path),
        Err(LogFileError::Damaged(_))
    ));
    assert!(matches!(
        LogFile::open(folder.0.join("none/it")),
        Err(LogFileError::Io(_))
    ));
}
