//! Programs that end, or are ended.

use std::{
    io,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Far more than a run takes on a slow machine: what hangs is not to hang forever.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns when whoever has started this is gone.
pub(crate) fn wait_for_parent() {
    io::copy(&mut io::stdin(), &mut io::sink()).ok();
}

/// A client that has lost its broker would ask for it for ever.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        wait_for_parent();
        process::exit(1);
    });
}

/// The number that it prints.
pub(crate) fn number_of(mut command: Command) -> u64 {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let until = Instant::now() + PATIENCE;
    let hangs = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(_) => break false,
            None if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            None => {
                child.kill().ok();
                break true;
            }
        }
    };
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse() {
        Ok(number) if output.status.success() => number,
        _ => panic!(
            "{command:?} {} said {said:?}:\n{}",
            if hangs { "hung, and" } else { "failed:" },
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
