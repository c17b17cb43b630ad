//! The examples of groups and of writing, run as the programs that they are: killed, interrupted, two at a time.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests wait for processes, and write to their files"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use klamm::{Client, Record};

use crate::support::{Process, Seen, shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(180);

/// In place of all arguments: the program brings a broker of its own.
const ITS_OWN: &str = "its own";

/// A program out of `examples/` that runs.
struct Example {
    name: String,
    process: Process,
    files: PathBuf,
}

impl Example {
    fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, args, |_| Stdio::null())
    }

    /// With lines to read, until it ends.
    fn fed(name: &str, args: &[&str], input: &[u8]) -> Self {
        Self::start_with(name, args, |files| {
            let file = files.join("input");
            fs::write(&file, input).expect("the input can be written");
            Stdio::from(File::open(file).expect("the input was written"))
        })
    }

    fn start_with(name: &str, args: &[&str], input: impl FnOnce(&Path) -> Stdio) -> Self {
        let files = new_folder(name);
        let create = |file: &str| Stdio::from(File::create(files.join(file)).expect("a file can be made"));
        let mut command = Command::new(built().join(name));
        if !args.contains(&ITS_OWN) {
            command.args(["--bootstrap", &shared().bootstrap()]).args(args);
        }
        command
            .stdin(input(&files))
            .stdout(create("output"))
            .stderr(create("errors"));
        Self {
            name: name.to_owned(),
            process: Process::start(&mut command),
            files,
        }
    }

    /// The lines that it has printed so far.
    fn lines(&self) -> Vec<String> {
        whole_lines(&self.files.join("output"))
    }

    #[track_caller]
    fn wait_for_lines(&mut self, count: usize) {
        self.wait(&format!("{count} lines"), |example| example.lines().len() >= count);
    }

    /// Waits while it runs.
    #[track_caller]
    fn wait(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        wait_until(&format!("{} and {what}", self.name), LONG, || {
            let is_running = self.process.exit_status().is_none();
            let holds = condition(self);
            assert!(
                is_running || holds,
                "{} has ended without {what}: {}",
                self.name,
                self.errors()
            );
            holds
        });
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.files.join("errors")).unwrap_or_default()
    }

    /// Ctrl-C. It must end well; what it said.
    #[track_caller]
    fn interrupt(&mut self) -> String {
        self.process.signal("INT");
        self.end()
    }

    #[track_caller]
    fn end(&mut self) -> String {
        self.end_with(0)
    }

    /// It ends by itself with this code; what it said.
    #[track_caller]
    fn end_with(&mut self, code: i32) -> String {
        let status = self.process.wait(LONG);
        let said = self.errors();
        assert!(
            status.is_some_and(|status| status.code() == Some(code)),
            "{}: {status:?}: {said}",
            self.name
        );
        said
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // What it said of a failure is for a look.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.files).ok();
        }
    }
}

/// The folder with the examples, built as these tests are.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let binary = std::env::current_exe().expect("a test binary has a path");
        let folder = binary.ancestors().nth(2).expect("it lies in deps").to_owned();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--examples", "--profile", profile]);
        let status = cargo.status().expect("cargo starts");
        assert!(status.success(), "the examples do not build: {status}");
        folder.join("examples")
    })
}

fn new_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name));
    fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

fn whole_lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

fn topic(partitions: usize) -> String {
    let topic = unique("examples");
    shared().create_topic(&topic, partitions, &[]);
    topic
}

/// What was printed as `topic-partition offset …`, which must be once.
#[track_caller]
fn printed(examples: &[&Example]) -> BTreeSet<(i32, i64)> {
    let mut printed = BTreeSet::new();
    for line in examples.iter().flat_map(|example| example.lines()) {
        let mut words = line.split(' ');
        let partition = words.next().and_then(|word| word.rsplit('-').next()?.parse().ok());
        let offset = words.next().and_then(|word| word.parse().ok());
        let place = partition.zip(offset).unwrap_or_else(|| panic!("an odd line: {line:?}"));
        assert!(printed.insert(place), "{place:?} was printed twice");
    }
    printed
}

/// All that is in the topic.
fn written(counts: &BTreeMap<i32, usize>) -> BTreeSet<(i32, i64)> {
    let places = counts
        .iter()
        .flat_map(|(&partition, &count)| (0_i64..).take(count).map(move |offset| (partition, offset)));
    places.collect()
}

#[track_caller]
fn assert_same(found: &BTreeSet<(i32, i64)>, expected: &BTreeSet<(i32, i64)>) {
    let missing: Vec<_> = expected.difference(found).take(5).collect();
    let odd: Vec<_> = found.difference(expected).take(5).collect();
    assert!(
        missing.is_empty() && odd.is_empty(),
        "missing: {missing:?}; not expected: {odd:?}"
    );
}

/// How many messages of the topic the group has done with, by what it has committed.
fn committed(group: &str) -> usize {
    let offsets = shared().committed_offsets(group).into_values();
    offsets.map(|offset| usize::try_from(offset).expect("an offset")).sum()
}

#[test]
fn the_quickstart_shows_all_it_promises_with_its_own_broker_and_with_a_real_one() {
    for args in [&[ITS_OWN][..], &[]] {
        let mut quickstart = Example::start("quickstart", args);
        quickstart.end();
        let lines = quickstart.lines();
        let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!(
            (count("written: "), count(" reads partition ")),
            (24, 24),
            "{args:?}: {lines:#?}"
        );
        assert_eq!(
            (count("anna has partitions"), count("bert has partitions")),
            (2, 2),
            "{lines:#?}"
        );
        assert_eq!(count("everything below offset"), 4, "{lines:#?}");
    }
}

#[test]
fn consume_goes_on_where_it_has_ended() {
    let (topic, group) = (topic(3), unique("consume"));
    shared().fill(&topic, 3, 600, "none", 50);
    let args = ["--group", &group, "--topic", &topic];
    let mut first = Example::start("consume", &[&args[..], &["--messages", "100"]].concat());
    let said = first.end();
    assert!(said.contains("100 messages, all committed; left the group"), "{said}");
    assert_eq!((first.lines().len(), committed(&group)), (100, 100));
    let mut second = Example::start("consume", &args);
    second.wait_for_lines(500);
    second.interrupt();
    let counts = (0..3).map(|partition| (partition, 200)).collect();
    assert_same(&printed(&[&first, &second]), &written(&counts));
    assert_eq!(committed(&group), 600);
}

#[test]
fn two_that_consume_share_a_topic_and_print_nothing_twice() {
    let (topic, group) = (topic(4), unique("consume"));
    let pouring = shared().pour(&topic, 4, 500.0, LONG * 2);
    let args = ["--group", &group, "--topic", &topic];
    let mut first = Example::start("consume", &args);
    first.wait_for_lines(200);
    let mut second = Example::start("consume", &args);
    second.wait_for_lines(200);
    first.interrupt();
    // It has two partitions of four until the first has left.
    second.wait("all partitions", |second| {
        let partitions: BTreeSet<i32> = printed(&[second]).into_iter().map(|(partition, _)| partition).collect();
        partitions.len() == 4
    });
    let counts = pouring.stop();
    let count = counts.values().sum::<usize>() - first.lines().len();
    second.wait_for_lines(count);
    second.interrupt();
    assert_same(&printed(&[&first, &second]), &written(&counts));
    assert_eq!(committed(&group), counts.values().sum::<usize>());
}

#[test]
fn at_least_once_has_stored_every_message_once_wherever_it_was_killed() {
    let (topic, group) = (topic(3), unique("archive"));
    let folder = new_folder("archive");
    let file = |partition: i32| folder.join(format!("{topic}-{partition}.log"));
    let stored = || {
        (0..3)
            .map(|partition| whole_lines(&file(partition)).len())
            .sum::<usize>()
    };
    let into = folder.display().to_string();
    let args = [
        "--group",
        &group,
        "--topic",
        &topic,
        "--into",
        &into,
        "--instance",
        "one",
    ];
    let pouring = shared().pour(&topic, 3, 2000.0, LONG * 3);
    for round in 0..5 {
        let before = stored();
        let mut example = Example::start("at_least_once", &args);
        example.wait("more in its files", |_| stored() > before + 300 * round);
        example.process.kill();
        if round % 2 == 0 {
            // As if it had been killed in the middle of a line.
            let mut cut = OpenOptions::new()
                .append(true)
                .create(true)
                .open(file(0))
                .expect("it opens");
            cut.write_all(b"999999\t00000000").expect("a line can be begun");
        }
    }
    let before = stored();
    let mut last = Example::start("at_least_once", &args);
    last.wait("more in its files", |_| stored() > before);
    let counts = pouring.stop();
    last.wait("everything in its files", |_| {
        stored() >= counts.values().sum::<usize>()
    });
    let said = last.interrupt();
    assert!(said.contains("messages stored"), "{said}");
    for (&partition, &count) in &counts {
        let lines = whole_lines(&file(partition));
        for (number, line) in lines.iter().enumerate() {
            let words: Vec<&str> = line.split('\t').collect();
            let (offset, value) = (number.to_string(), format!("{partition}:{number}:"));
            assert!(
                words.len() == 4 && words[0] == offset && words[3].starts_with(&value),
                "partition {partition}, line {number}: {line:?}"
            );
        }
        assert_eq!(lines.len(), count, "of partition {partition}");
    }
    fs::remove_dir_all(&folder).expect("it can be removed");
    assert_eq!(committed(&group), counts.values().sum::<usize>());
}

#[test]
fn a_worker_pool_finishes_what_it_has_when_it_is_interrupted() {
    let (topic, group) = (topic(2), unique("pool"));
    shared().fill(&topic, 2, 20_000, "none", 50);
    let args = ["--group", &group, "--topic", &topic, "--workers", "8", "--work", "3"];
    let mut pool = Example::start("worker_pool", &args);
    pool.wait_for_lines(500);
    let said = pool.interrupt();
    let done = printed(&[&pool]);
    assert!(done.len() < 20_000, "it was interrupted");
    assert!(
        said.contains(&format!("{} messages done, 0 of them", done.len())),
        "{said}"
    );
    // Nothing is missing below what is committed, and nothing above it was done.
    let offsets = shared().committed_offsets(&group);
    let counts = offsets
        .iter()
        .map(|(partition, &offset)| (partition.partition(), offset as usize));
    assert_same(&done, &written(&counts.collect()));
    let mut rest = Example::start("consume", &["--group", &group, "--topic", &topic]);
    rest.wait_for_lines(20_000 - done.len());
    rest.interrupt();
    assert_eq!(printed(&[&pool, &rest]).len(), 20_000);
}

/// How many records the topic holds.
fn held(topic: &str) -> usize {
    let offsets = shared().offsets(topic).into_iter();
    offsets
        .map(|offsets| usize::try_from(offsets.latest).expect("an offset"))
        .sum()
}

/// What Java reads of the whole topic, partition by partition.
fn read(topic: &str) -> Vec<Seen> {
    let mut seen = shared().java_reads(topic, held(topic));
    seen.sort_by_key(|seen| (seen.partition, seen.offset));
    seen
}

/// Keys and values, with `-` for none.
fn texts(seen: &[Seen]) -> Vec<(String, String)> {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => String::from_utf8(bytes.clone()).expect("text"),
        None => "-".to_owned(),
    };
    seen.iter().map(|seen| (text(&seen.key), text(&seen.value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect()
}

#[test]
fn produce_writes_each_line_as_it_is() {
    let topic = topic(3);
    let input = "tea\ntwo : coffees\n\nNULL\nwithout an end";
    let mut produce = Example::fed("produce", &["--topic", &topic], input.as_bytes());
    let said = produce.end();
    assert!(said.contains("5 records written"), "{said}");
    let mut values = texts(&read(&topic));
    values.sort();
    let expected = [
        ("-", ""),
        ("-", "NULL"),
        ("-", "tea"),
        ("-", "two : coffees"),
        ("-", "without an end"),
    ];
    assert_eq!(values, pairs(&expected));
}

#[test]
fn produce_writes_keys_headers_and_nothings() {
    let topic = topic(4);
    let options = ["--key-separator", "::", "--optional-keys", "--null", "NULL"];
    let headers = ["--header", "from=the test", "--header=from=", "--compression", "zstd"];
    let args = [&["--topic", &topic], &options[..], &headers[..]].concat();
    let input = "a::one\na::NULL\na::x::y\n::no name\na::\n";
    let said = Example::fed("produce", &args, input.as_bytes()).end();
    assert!(said.contains("5 records written"), "{said}");
    let seen = read(&topic);
    let headers = [
        ("from".to_owned(), Some(b"the test".to_vec())),
        ("from".to_owned(), Some(Vec::new())),
    ];
    assert!(seen.iter().all(|seen| seen.headers == headers), "{seen:?}");
    let (named, unnamed): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(|seen| seen.key.as_deref() == Some(b"a"));
    // One key, so one partition, and in order.
    let expected = [("a", "one"), ("a", "-"), ("a", "x::y"), ("a", "")];
    assert_eq!(texts(&named), pairs(&expected));
    assert!(named.iter().all(|seen| seen.partition == named[0].partition));
    assert_eq!(texts(&unnamed), pairs(&[("", "no name")]));

    let args = [
        &["--topic", &topic, "--partition", "3"],
        &options[..],
        &["--acks", "leader"],
    ]
    .concat();
    let before = read(&topic).len();
    Example::fed("produce", &args, b"NULL\na::here\n").end();
    let seen = read(&topic);
    assert_eq!(seen.len(), before + 2);
    assert!(seen.iter().all(|seen| seen.partition == 3 || !seen.headers.is_empty()));
    let last = seen.iter().filter(|seen| seen.headers.is_empty()).cloned();
    assert_eq!(texts(&last.collect::<Vec<_>>()), pairs(&[("-", "-"), ("a", "here")]));
}

#[test]
fn produce_ends_at_the_line_without_a_key_and_has_written_those_before() {
    let topic = topic(1);
    let args = ["--topic", &topic, "--key-separator", ":", "--linger", "60000"];
    let said = Example::fed("produce", &args, b"a:1\nb:2\nneither\nc:3\n").end_with(1);
    assert!(
        said.contains("line 3 has no key") && said.contains("2 records written"),
        "{said}"
    );
    assert_eq!(texts(&read(&topic)), pairs(&[("a", "1"), ("b", "2")]));
}

#[test]
fn produce_names_the_line_that_the_broker_finds_too_large_and_writes_the_others() {
    let topic = topic(1);
    let input = format!("before\n{}\nbehind\n", "x".repeat(3 << 20));
    let said = Example::fed("produce", &["--topic", &topic], input.as_bytes()).end_with(1);
    assert!(
        said.contains("line 2: ") && said.contains("2 records written, 1 not"),
        "{said}"
    );
    assert_eq!(texts(&read(&topic)), pairs(&[("-", "before"), ("-", "behind")]));
}

#[test]
fn produce_writes_what_it_has_read_when_it_is_interrupted() {
    let topic = topic(1);
    // It would linger for a minute, and never fills a batch: only its end writes anything.
    let args = ["--topic", &topic, "--linger", "60000"];
    let mut produce = Example::start_with("produce", &args, |_| Stdio::piped());
    let mut input = produce.process.stdin();
    let lines: Vec<String> = (0..6000).map(|number| format!("line {number:044}")).collect();
    for line in &lines {
        writeln!(input, "{line}").expect("it reads");
    }
    // Now all has been read but for what fits a pipe (64 KiB) and a reader's buffer (8 KiB).
    let least = lines.len() - (72 << 10) / 50 - 1;
    let said = produce.interrupt();
    let values: Vec<String> = texts(&read(&topic)).into_iter().map(|(_, value)| value).collect();
    assert!(values.len() >= least, "{} of at least {least}", values.len());
    assert!(values[..] == lines[..values.len()], "not the first {}", values.len());
    assert!(said.contains(&format!("{} records written", values.len())), "{said}");
    drop(input);
}

#[test]
fn writing_examples_that_are_called_wrongly_say_why_and_end_with_2() {
    let calls: [(&str, &[&str], &str); 9] = [
        ("produce", &[], "--topic is missing"),
        ("produce", &["--topic", "t", "--acks", "some"], "--acks \"some\""),
        (
            "produce",
            &["--topic", "t", "--compression", "rar"],
            "--compression \"rar\"",
        ),
        ("produce", &["--topic", "t", "--header", "h"], "--header \"h\" has no ="),
        ("produce", &["--topic", "t", "--partition", "-1"], "--partition \"-1\""),
        ("produce", &["--topic", "t", "--optional-keys"], "needs --key-separator"),
        ("produce", &["--topic", "t", "--linger"], "--linger needs a value"),
        ("produce", &["--topic", "t", "--quickly"], "unknown option --quickly"),
        ("pipeline", &["--group", "g", "--from", "t"], "--to is missing"),
    ];
    for (name, args, expected) in calls {
        let said = Example::start(name, args).end_with(2);
        assert!(said.contains(expected), "{name} {args:?}: {said}");
    }
}

#[test]
fn a_pipeline_leaves_nothing_out_and_keeps_order_wherever_it_was_killed() {
    let (from, to, group) = (topic(3), topic(4), unique("pipeline"));
    let args = ["--group", &group, "--from", &from, "--to", &to, "--instance", "one"];
    let (stop, stopped) = channel::<()>();
    let written = thread::spawn({
        let from = from.clone();
        move || {
            let producer = Client::connect(&shared().bootstrap())
                .unwrap()
                .producer()
                .build()
                .unwrap();
            let mut written = 0_usize;
            while stopped.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
                for number in written..written + 10 {
                    let (key, value) = (format!("key {}", number % 17), format!("value {number}"));
                    let record = Record::to(&from).key(&key).value(&value);
                    producer
                        .send_detached(record.header("number", &number.to_string()))
                        .unwrap();
                }
                written += 10;
            }
            producer.flush(LONG).unwrap();
            written
        }
    });
    for round in 0..3 {
        let (before, done) = (held(&to), committed(&group));
        let mut pipeline = Example::start("pipeline", &args);
        pipeline.wait("more in the other topic", |_| held(&to) > before + 300);
        if round > 0 {
            // The next one begins there, and nothing before it comes again.
            pipeline.wait("more committed", |_| committed(&group) > done);
        }
        pipeline.process.kill();
    }
    let mut last = Example::start("pipeline", &args);
    let before = held(&to);
    last.wait("more in the other topic", |_| held(&to) > before);
    drop(stop);
    let count = written.join().unwrap();
    last.wait("all of it committed", |_| committed(&group) >= count);
    let said = last.interrupt();
    assert!(said.contains("messages passed on"), "{said}");

    let mut partitions: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    let mut firsts: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for seen in read(&to) {
        let number: usize = seen.text().strip_prefix("VALUE ").unwrap().parse().unwrap();
        let key = seen.key.clone().unwrap();
        assert_eq!(key, format!("key {}", number % 17).into_bytes());
        assert_eq!(
            seen.headers,
            [("number".to_owned(), Some(number.to_string().into_bytes()))]
        );
        let partition = *partitions.entry(key.clone()).or_insert(seen.partition);
        assert_eq!(seen.partition, partition, "{seen:?}");
        if found.insert(number) {
            firsts.entry(key).or_default().push(number);
        }
    }
    assert!(found.iter().copied().eq(0..count), "{} of {count}", found.len());
    assert!(firsts.values().all(|numbers| numbers.is_sorted()), "{firsts:?}");
}
