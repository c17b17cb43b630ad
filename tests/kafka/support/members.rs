//! Group members as processes of their own: they can be killed and frozen, and their logs outlive them.
//!
//! A klamm member is this test binary, started again with the ignored test `member_process`; a Java member is
//! `Corner.java`. Both write the same log, which [`History`] and the checker understand.

mod program;
mod settings;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::checker::{History, Line, LogFile, What, now};
use super::process::Process;
use super::{Kafka, jars, watchdog};

pub use program::run_member;
pub use settings::{Members, Pattern};

/// What a clean end may take: the stream's own 10 s, what is in hand, and a slow machine.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A member that runs. Dropped, it is killed.
pub struct MemberProcess {
    name: String,
    process: Process,
    /// Dropped to ask for a clean end.
    stdin: Option<ChildStdin>,
    log: LogFile,
    output: PathBuf,
    paused_since: Option<Duration>,
    pauses: Vec<(Duration, Duration)>,
    died: Option<Duration>,
}

/// A member that is Java's consumer.
pub type JavaMember = MemberProcess;

impl Members {
    /// Starts a member process under a name that no other member of the test has; joining may take a moment more.
    pub fn start(&self, name: &str) -> MemberProcess {
        let files = Files::new(name);
        let binary = std::env::current_exe().expect("a test binary has a path");
        let mut command = Command::new(binary);
        command.args([
            "member_process::member_process",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.envs(self.variables(name, &files.log));
        MemberProcess::start(name, command, files)
    }
}

impl Kafka {
    /// Java's consumer joins the group, and records and commits what it reads, poll by poll. `settings` are the
    /// consumer's, such as `["group.protocol=consumer", "max.poll.records=10"]`.
    pub fn java_group_member(&self, name: &str, group: &str, topic: &str, settings: &[&str]) -> JavaMember {
        let files = Files::new(name);
        let mut command = jars::java_command(128);
        command
            .args(["-cp", jars::class_path(), "Corner"])
            .args([&self.internal_bootstrap(), "member", group, topic])
            .arg(&files.log)
            .args(settings);
        MemberProcess::start(name, command, files)
    }
}

impl Kafka {
    /// Kafka's console consumer as a member of a group; it reads from the first record if nothing is committed.
    pub fn console_member(&self, group: &str, topic: &str, settings: &[&str]) -> ConsoleMember {
        let files = Files::new("console");
        let mut command = jars::java_command(128);
        command
            .args([
                "-cp",
                jars::class_path(),
                "org.apache.kafka.tools.consumer.ConsoleConsumer",
            ])
            .args(["--bootstrap-server", &self.internal_bootstrap()])
            .args(["--topic", topic, "--group", group, "--from-beginning"]);
        for setting in settings {
            command.args(["--command-property", setting]);
        }
        let output = File::create(&files.log).expect("a file can be made");
        let errors = File::create(&files.output).expect("a file can be made");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        ConsoleMember {
            process: Process::start(&mut command),
            files,
        }
    }
}

/// A console consumer that runs until it is told to leave.
pub struct ConsoleMember {
    process: Process,
    files: Files,
}

impl ConsoleMember {
    /// The values it has printed so far.
    pub fn lines(&mut self) -> Vec<String> {
        let errors = || std::fs::read_to_string(&self.files.output).unwrap_or_default();
        let printed = std::fs::read_to_string(&self.files.log).expect("its output can be read");
        if let Some(status) = self.process.exit_status() {
            assert!(
                status.success() || status.code() == Some(143),
                "it ended with {status}: {}",
                errors()
            );
        }
        printed.lines().map(str::to_owned).collect()
    }

    /// Lets it say goodbye, as Ctrl-C does, and waits for its end.
    pub fn leave(&mut self) {
        self.process.signal("TERM");
        assert!(
            self.process.wait(STOP_LIMIT).is_some(),
            "it did not end within {STOP_LIMIT:?}"
        );
    }
}

struct Files {
    log: PathBuf,
    output: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| watchdog::run_folder().join(format!("member-{count}-{name}-{kind}.txt"));
        Self {
            log: file("log"),
            output: file("output"),
        }
    }
}

impl MemberProcess {
    fn start(name: &str, mut command: Command, files: Files) -> Self {
        let output = File::create(&files.output).expect("a file can be made");
        command
            .stdin(Stdio::piped())
            .stderr(output.try_clone().expect("a file has many handles"))
            .stdout(output);
        let mut process = Process::start(&mut command);
        Self {
            name: name.to_owned(),
            stdin: Some(process.stdin()),
            process,
            log: LogFile::new(&files.log),
            output: files.output,
            paused_since: None,
            pauses: Vec::new(),
            died: None,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills it with no chance to say goodbye, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.process.kill();
        self.is_dead();
    }

    /// Freezes it, and returns when nothing of it runs any more.
    pub fn sigstop(&mut self) {
        assert!(self.is_running(), "it has ended: {}", self.said());
        self.process.stop();
        self.paused_since.get_or_insert(now());
    }

    /// Lets it go on.
    pub fn sigcont(&mut self) {
        if let Some(since) = self.paused_since.take() {
            self.pauses.push((since, now()));
        }
        self.process.signal("CONT");
    }

    /// Asks for a clean end, and does not wait for it.
    pub fn ask_to_stop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // It may have ended before: `stop` tells.
            let _ = writeln!(stdin, "stop");
        }
    }

    /// A clean end, by `Stream::close`: its history.
    ///
    /// # Panics
    ///
    /// When it does not end, or fails, with all it said.
    pub fn stop(&mut self) -> History {
        self.sigcont();
        self.ask_to_stop();
        let status = self.process.wait(STOP_LIMIT);
        match status {
            Some(status) if status.success() => self.is_dead(),
            Some(status) => panic!("ended with {status}: {}", self.said()),
            None => panic!("did not end within {STOP_LIMIT:?}: {}", self.said()),
        }
        self.history()
    }

    /// How many threads of klamm, and how many sockets, its process has.
    pub fn weight(&self) -> (usize, usize) {
        let list = |name: &str| {
            let folder = format!("/proc/{}/{name}", self.process.id());
            let entries = std::fs::read_dir(folder).expect("Linux tells of processes");
            entries.filter_map(|entry| Some(entry.ok()?.path()))
        };
        let threads = list("task").filter_map(|task| std::fs::read_to_string(task.join("comm")).ok());
        let sockets = list("fd").filter_map(|descriptor| std::fs::read_link(descriptor).ok());
        (
            threads.filter(|name| name.starts_with("klamm-")).count(),
            sockets
                .filter(|target| target.to_string_lossy().starts_with("socket:"))
                .count(),
        )
    }

    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// What it has recorded so far.
    pub fn history(&mut self) -> History {
        let mut history = History::of_lines(&self.name, self.log.lines().to_vec());
        let running = self.paused_since.map(|since| (since, Duration::MAX));
        for (from, to) in self.pauses.iter().copied().chain(running) {
            history.paused(&self.name, from, to);
        }
        if let Some(at) = self.died {
            history.died(&self.name, at);
        }
        history
    }

    /// The first line that is wanted, of those that are there or come within the limit.
    ///
    /// # Panics
    ///
    /// With all it said, also when it ends before.
    #[track_caller]
    pub fn wait_for_line(&mut self, what: &str, limit: Duration, wanted: impl FnMut(&What) -> bool) -> Line {
        self.wait_for_lines(what, limit, 1, wanted).remove(0)
    }

    /// The first so many lines that are wanted.
    ///
    /// # Panics
    ///
    /// As `wait_for_line`.
    #[track_caller]
    pub fn wait_for_lines(
        &mut self,
        what: &str,
        limit: Duration,
        count: usize,
        mut wanted: impl FnMut(&What) -> bool,
    ) -> Vec<Line> {
        let end = Instant::now() + limit;
        let mut found = Vec::new();
        let mut looked_at = 0;
        loop {
            // Asked before the log is read: what it has written until its end is there.
            let runs = self.is_running();
            let lines = self.log.lines();
            found.extend(lines[looked_at..].iter().filter(|line| wanted(&line.what)).cloned());
            looked_at = lines.len();
            if found.len() >= count {
                found.truncate(count);
                return found;
            }
            if !runs || Instant::now() >= end {
                let found = found.len();
                let when = if runs {
                    format!("not within {limit:?}")
                } else {
                    "and it has ended".to_owned()
                };
                panic!("{what}: {found} of {count}, {when}: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Until it has begun so many messages in all.
    #[track_caller]
    pub fn wait_until_begun(&mut self, messages: usize, limit: Duration) {
        self.wait_for_lines("messages begun", limit, messages, |what| {
            matches!(what, What::Begin { .. })
        });
    }

    /// Its name, its output, and the last lines of its log.
    pub fn said(&mut self) -> String {
        let output = tail(&self.output);
        let name = &self.name;
        let lines = self.log.lines();
        let last = lines[lines.len().saturating_sub(20)..]
            .iter()
            .map(|line| format!("{line}\n"));
        format!(
            "member {name}:\n{output}\n{} lines, of which the last:\n{}",
            lines.len(),
            last.collect::<String>()
        )
    }

    fn is_dead(&mut self) {
        if self.died.is_none() {
            let at = now();
            self.died = Some(at);
            if let Some(since) = self.paused_since.take() {
                self.pauses.push((since, at));
            }
        }
    }
}

fn tail(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
}
