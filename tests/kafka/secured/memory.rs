//! What was sent to say who we are is nowhere in the memory of the process afterwards.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use klamm::{Client, ErrorKind, Record, Sasl, StartAt, Tls, Token};

use super::LONG;
use crate::support::{User, alone, secured, unique, unsecured_token_with, wait_until};

const ALICE: User = User::ALICE;

/// Bytes to look for, which are not to be found where they are kept.
struct Masked(Vec<u8>);

const MASK: u8 = 0x55;

impl Masked {
    fn new(parts: &[&str]) -> Self {
        let bytes = parts.iter().flat_map(|part| part.bytes());
        Self(bytes.map(|byte| byte ^ MASK).collect())
    }

    /// How often they are in what this process may write to.
    fn count(&self) -> usize {
        let memory = File::open("/proc/self/mem").expect("a process may read its own memory");
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux tells of memory");
        let writable = maps.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next()?, words.next()?);
            let (from, to) = range.split_once('-')?;
            let address = |text| u64::from_str_radix(text, 16).ok();
            rights.starts_with("rw").then_some((address(from)?, address(to)?))
        });
        let mut page = vec![0; 1 << 20];
        let mut count = 0;
        for (mut at, to) in writable {
            while at < to {
                let length = page.len().min((to - at) as usize);
                // What is gone by now is of no interest.
                let Ok(read) = memory.read_at(&mut page[..length], at) else {
                    break;
                };
                count += self.count_in(&page[..read]);
                if read < self.0.len() || at + read as u64 >= to {
                    break;
                }
                at += (read - self.0.len() + 1) as u64;
            }
        }
        // No copy is left here either.
        page.fill(0);
        std::hint::black_box(&page);
        count
    }

    fn count_in(&self, memory: &[u8]) -> usize {
        let first = self.0[0] ^ MASK;
        let mut count = 0;
        for (at, byte) in memory.iter().enumerate() {
            if *byte == first {
                let rest = memory[at..].iter().zip(&self.0);
                let same = rest.take_while(|(byte, masked)| **byte == **masked ^ MASK).count();
                count += usize::from(same == self.0.len());
            }
        }
        count
    }
}

/// How often a session was renewed by lanes, and by all other connections.
static RENEWED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

struct Renewals;

impl log::Log for Renewals {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("was renewed for") {
            let thread = std::thread::current();
            let is_lane = thread.name().is_some_and(|name| name.starts_with("klamm-lane"));
            RENEWED[usize::from(!is_lane)].fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn credentials_are_wiped_wherever_they_were_sent_from() {
    let mut made = String::new();
    if std::env::var_os(crate::support::ALONE).is_none() {
        let (kafka, topic) = (&secured().kafka, unique("wiped"));
        kafka.create_topic(&topic, 1, &[]);
        let [plain, tls] = ["RENEWED", "SASL_TLS"].map(|name| kafka.direct_listener(1, name));
        made = format!("{plain} {tls} {} {topic}", secured().root_file().display());
    }
    let test = "secured::memory::credentials_are_wiped_wherever_they_were_sent_from";
    let Some(given) = alone(test, &made) else {
        return;
    };
    let [plain, tls, root, topic] = given.split(' ').collect::<Vec<_>>()[..] else {
        panic!("given {given:?}");
    };
    log::set_logger(&Renewals).expect("the only logger");
    log::set_max_level(log::LevelFilter::Debug);

    let planted = format!("{}\0planted", ALICE.name);
    assert!(
        Masked::new(&[ALICE.name, "\0planted"]).count() > 0,
        "this finds {planted:?}"
    );

    // So long, that what is left of it is not all written over by something else.
    let text = unsecured_token_with(ALICE.name, 600, &"to be found ".repeat(200));
    let end = &text[text.len() - 100..];
    let sent = [
        Masked::new(&[ALICE.name, "\0", ALICE.password]),
        Masked::new(&["auth=Bearer ", &text[..100]]),
        Masked::new(&[end, "\u{1}\u{1}"]),
    ];
    let sasls = || {
        let text = text.clone();
        let bearer = Sasl::oauthbearer(move |_| Ok(Token::new(text.clone())));
        [Sasl::plain(ALICE.name, ALICE.password), bearer]
    };

    // While connections last: of one over TLS, whoever seals what is written may have kept it.
    let lasting = sasls().map(|sasl| {
        let client = Client::builder()
            .bootstrap(tls)
            .tls(Tls::new().root_file(root))
            .sasl(sasl);
        client.connect().expect("it is let in")
    });
    assert_eq!(sent.each_ref().map(Masked::count), [0; 3], "after a handshake over TLS");
    drop(lasting);

    for sasl in sasls() {
        let client = Client::builder()
            .bootstrap(plain)
            .sasl(sasl)
            .connect()
            .expect("it is let in");
        let producer = client.producer().build().expect("good settings");
        let reader = client.reader().topics([topic]).start_at(StartAt::Latest);
        let stream = reader
            .max_wait(Duration::from_millis(100))
            .open()
            .expect("good settings");
        let before = RENEWED.each_ref().map(|count| count.load(Ordering::SeqCst));
        wait_until("both kinds of connections have renewed their sessions", LONG, || {
            producer
                .send_sync(Record::to(topic).value("v"), LONG)
                .expect("it is written");
            stream
                .iter()
                .next_timeout(Duration::from_millis(10))
                .expect("nothing fails");
            let now = RENEWED.each_ref().map(|count| count.load(Ordering::SeqCst));
            now[0] > before[0] && now[1] > before[1]
        });
    }
    wait_until("no thread of klamm is left", LONG, || {
        crate::support::klamm_threads().is_empty()
    });
    assert_eq!(
        sent.each_ref().map(Masked::count),
        [0; 3],
        "after sessions were renewed"
    );

    // Nor of what was refused.
    let wrong = Sasl::plain(ALICE.name, "hunter2-2718");
    let refused = Client::builder()
        .bootstrap(plain)
        .sasl(wrong)
        .connect()
        .expect_err("it is wrong");
    assert_eq!(refused.kind(), ErrorKind::Authentication, "{refused}");
    assert_eq!(
        Masked::new(&[ALICE.name, "\0", "hunter2-2718"]).count(),
        0,
        "after a refusal"
    );
    drop(planted);
}
