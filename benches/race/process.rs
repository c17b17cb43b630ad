//! Programs that end, or are ended: with whoever has started them, or when they take too long.

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
///
/// For programs that [`numbers_of`] has started: their input ends with it.
pub(crate) fn end_with_parent() {
    thread::spawn(|| {
        wait_for_parent();
        process::exit(1);
    });
}

/// The numbers that it prints; anything else is passed over.
pub(crate) fn numbers_of<const N: usize>(command: Command) -> [f64; N] {
    numbers_within(PATIENCE, command).unwrap_or_else(|complaint| panic!("{complaint}"))
}

fn numbers_within<const N: usize>(limit: Duration, mut command: Command) -> Result<[f64; N], String> {
    // Why it fails is to be read at once, and is never in its numbers' way.
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("{command:?} does not start: {error}"))?;
    let until = Instant::now() + limit;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() >= until {
            child.kill().ok();
            child.wait().ok();
            return Err(format!("{command:?} hangs"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers.try_into() {
        Ok(numbers) if output.status.success() => Ok(numbers),
        _ => Err(format!("{command:?}: {}; it said {said:?}", output.status)),
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "benches are compiled as tests, and run none")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_hangs_is_ended() {
        let numbers = numbers_within::<1>(Duration::from_millis(100), shell("echo 1; exec sleep 1000"));
        assert!(numbers.expect_err("it does not end by itself").contains("hangs"));
    }

    #[test]
    fn a_program_that_fails_has_no_numbers() {
        let numbers = numbers_within::<1>(PATIENCE, shell("echo 1; exit 3"));
        assert!(numbers.expect_err("it failed").contains("exit status: 3"));
        let [one, two] = numbers_within(PATIENCE, shell("echo rate 1.5; echo 2")).expect("two numbers");
        assert_eq!((one, two), (1.5, 2.0));
    }

    #[test]
    fn its_input_lasts_as_long_as_it_does() {
        let numbers = numbers_within(
            PATIENCE,
            shell("exec 3<&0; (read line <&3; echo 8) & sleep 0.1; kill $! && echo 7"),
        );
        assert_eq!(numbers, Ok([7.0]));
    }
}
