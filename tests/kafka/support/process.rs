//! A child process that is always ended: by its owner, or by the watchdog when the tests die.

use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{wait, watchdog};

pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        watchdog::watch(child.id());
        Self { child, ended: None }
    }

    /// Both pipes, when the command was given pipes.
    pub fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let stdin = self.child.stdin.take().expect("stdin is a pipe, taken once");
        let stdout = self.child.stdout.take().expect("stdout is a pipe, taken once");
        (stdin, stdout)
    }

    /// Its input, when the command was given a pipe for that alone.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe, taken once")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be asked");
            if self.ended.is_some() {
                watchdog::unwatch(self.child.id());
            }
        }
        self.ended
    }

    /// `None` when it still runs after the limit.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let status = self.exit_status();
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by its name; nothing happens to a process that has ended.
    pub fn signal(&mut self, name: &str) {
        if self.exit_status().is_none() {
            // The shell's own `kill`: the program of that name is not everywhere.
            let sent = Command::new("sh")
                .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &self.child.id().to_string()])
                .stdin(Stdio::null())
                .status()
                .expect("sh starts");
            assert!(sent.success(), "cannot send {name} to process {}", self.child.id());
        }
    }

    /// Freezes it, and returns when no thread of it runs any more.
    pub fn stop(&mut self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
            // The state follows the name, which is in parentheses and may hold anything.
            stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        };
        wait::wait_until("a stopped process", Duration::from_secs(30), || {
            std::fs::read_dir(&tasks).is_ok_and(|mut tasks| tasks.all(stopped))
        });
    }

    /// Ends it at once, also when it is stopped, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            let _ = self.child.kill();
            let status = self.child.wait().expect("a killed child can be waited for");
            watchdog::unwatch(self.child.id());
            self.ended = Some(status);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
