//! Nothing that the tests start outlives them, even when they are killed.
//!
//! A small shell reads the process ids to end from a pipe. When the test process is gone, however it went,
//! the pipe closes, and the shell kills what is still listed and removes the run's folder.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::jars;

/// The folder of this run: brokers' data and logs, outputs of tools.
pub fn run_folder() -> &'static Path {
    &watchdog().folder
}

/// The process is killed when this one ends.
pub fn watch(pid: u32) {
    watchdog().tell("+", pid);
}

/// The process was waited for: its id may soon belong to somebody else.
pub fn unwatch(pid: u32) {
    watchdog().tell("-", pid);
}

struct Watchdog {
    folder: PathBuf,
    pipe: Mutex<ChildStdin>,
    /// Outlives this process: nobody waits for it.
    _shell: Child,
}

impl Watchdog {
    fn tell(&self, sign: &str, pid: u32) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe, "{sign} {pid}").expect("the watchdog shell listens");
    }
}

fn watchdog() -> &'static Watchdog {
    static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();
    WATCHDOG.get_or_init(|| {
        let folder = jars::kafka_folder().join("run").join(std::process::id().to_string());
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the run's folder can be made");
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&folder)
            .arg(if std::env::var_os("KLAMM_TEST_KEEP").is_some() {
                "keep"
            } else {
                "remove"
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal ends the tests first, and then the shell does its work.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let pipe = shell.stdin.take().expect("stdin is a pipe");
        Watchdog {
            folder,
            pipe: Mutex::new(pipe),
            _shell: shell,
        }
    })
}

const SCRIPT: &str = r#"
pids=""
while read -r sign pid; do
    case "$sign" in
        +) pids="$pids $pid" ;;
        -) left=""
           for p in $pids; do [ "$p" = "$pid" ] || left="$left $p"; done
           pids="$left" ;;
    esac
done
for p in $pids; do kill -9 "$p"; done
[ "$2" = keep ] || { sleep 1; rm -rf "$1"; }
"#;
