//! How long things take: what comes again and again shows, and what a busy machine does now and then does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When each of many calls began and ended.
#[derive(Debug, Default)]
pub struct Times(Mutex<Vec<[Instant; 2]>>);

impl Times {
    /// One has ended just now.
    pub fn note(&self, since: Instant) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push([since, Instant::now()]);
    }

    /// Half, all but one in a hundred, all but one in a thousand, and all took no longer than this.
    pub fn took(&self) -> [Duration; 4] {
        let mut all: Vec<Duration> = self.all().iter().map(|[from, to]| *to - *from).collect();
        all.sort_unstable();
        [500, 990, 999, 1000].map(|thousandths| share(&all, thousandths))
    }

    /// What is the longest in each stretch of time of this length, and in half of them no longer: so long takes what is
    /// held up once in each.
    pub fn longest_in_each(&self, stretch: Duration) -> Duration {
        let all = self.all();
        let Some(begun) = all.iter().map(|[from, _]| *from).min() else {
            return Duration::ZERO;
        };
        let number = |at: Instant| ((at - begun).as_nanos() / stretch.as_nanos()) as usize;
        let mut longest = Vec::new();
        for [from, to] in all {
            let last = number(to);
            if longest.len() <= last {
                longest.resize(last + 1, Duration::ZERO);
            }
            for one in &mut longest[number(from)..=last] {
                *one = to.duration_since(from).max(*one);
            }
        }
        longest.sort_unstable();
        share(&longest, 500)
    }

    fn all(&self) -> Vec<[Instant; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn share(sorted: &[Duration], thousandths: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (sorted.len() * thousandths / 1000).min(last);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(took: impl Fn(u64) -> u64) -> Times {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let all = (0..1000).map(|number| [at(number * 10), at(number * 10 + took(number))]);
        Times(Mutex::new(all.collect()))
    }

    #[test]
    fn what_is_held_up_in_each_stretch_shows_and_what_happens_twice_does_not() {
        let second = Duration::from_secs(1);
        let always = times(|number| if number % 100 == 50 { 200 } else { 1 });
        assert_eq!(always.longest_in_each(second), Duration::from_millis(200));
        let sometimes = times(|number| if matches!(number, 150 | 750) { 300 } else { 1 });
        assert_eq!(sometimes.longest_in_each(second), Duration::from_millis(1));
        assert_eq!(sometimes.took()[3], Duration::from_millis(300));
        assert_eq!(Times::default().longest_in_each(second), Duration::ZERO);
    }
}
