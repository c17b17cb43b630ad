//! What klamm logs, at every level, while tests watch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Lines are looked at from [`start`](Self::start) on, until this is dropped: those of all tests that run meanwhile.
pub struct LogWatch {
    number: usize,
}

struct Watch {
    number: usize,
    /// What no line may have in it.
    forbidden: Vec<String>,
    lines: usize,
    found: Vec<String>,
}

static WATCHES: Mutex<Vec<Watch>> = Mutex::new(Vec::new());

fn watches() -> MutexGuard<'static, Vec<Watch>> {
    WATCHES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWatch {
    /// In a process that has no other logger.
    pub fn start(forbidden: &[&str]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| log::set_logger(&Logger).expect("the only logger"));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut watches = watches();
        watches.push(Watch {
            number,
            forbidden: forbidden.iter().map(|&word| word.to_owned()).collect(),
            lines: 0,
            found: Vec::new(),
        });
        log::set_max_level(log::LevelFilter::Trace);
        Self { number }
    }

    /// How many lines there were so far.
    pub fn lines(&self) -> usize {
        self.with(|watch| watch.lines)
    }

    /// Fails if there was one that should not be.
    #[track_caller]
    pub fn assert_clean(&self) {
        let found = self.with(|watch| watch.found.clone());
        assert!(found.is_empty(), "these were logged: {found:#?}");
    }

    fn with<T>(&self, look: impl FnOnce(&Watch) -> T) -> T {
        let watches = watches();
        let mine = watches.iter().find(|watch| watch.number == self.number);
        look(mine.expect("it is there until it is dropped"))
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        let mut watches = watches();
        watches.retain(|watch| watch.number != self.number);
        if watches.is_empty() {
            log::set_max_level(log::LevelFilter::Off);
        }
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        for watch in watches().iter_mut() {
            watch.lines += 1;
            if watch.forbidden.iter().any(|word| line.contains(word)) {
                watch.found.push(line.clone());
            }
        }
    }

    fn flush(&self) {}
}
