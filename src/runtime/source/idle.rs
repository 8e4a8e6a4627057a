//! Which partitions have been silent for too long. Its clock counts only the time spent waiting for the outside system:
//! while rows wait in our own queue, nobody is idle.

use std::collections::BTreeMap;
use std::time::Duration;

pub struct IdleClock {
    /// `None`: nobody ever is.
    timeout: Option<Duration>,
    /// Time waited so far.
    now: Duration,
    /// When a partition was last heard of; `None` once it was called idle.
    heard: BTreeMap<String, Option<Duration>>,
}

impl IdleClock {
    pub fn new(timeout: Option<Duration>) -> IdleClock {
        IdleClock { timeout, now: Duration::ZERO, heard: BTreeMap::new() }
    }

    pub fn wait(&mut self, duration: Duration) {
        self.now += duration;
    }

    pub fn hear(&mut self, partition: &str) {
        match self.heard.get_mut(partition) {
            Some(heard) => *heard = Some(self.now),
            None => drop(self.heard.insert(partition.to_string(), Some(self.now))),
        }
    }

    /// Takes note of the partitions that there are; those that are new.
    pub fn meet(&mut self, partitions: &[String]) -> Vec<String> {
        let strangers: Vec<String> = partitions.iter().filter(|p| !self.heard.contains_key(*p)).cloned().collect();
        for stranger in &strangers {
            self.heard.insert(stranger.clone(), Some(self.now));
        }
        strangers
    }

    /// Partitions that have just become idle: by the clock, or because they are no longer among `live`.
    pub fn idle(&mut self, live: &[String]) -> Vec<String> {
        let mut idle = vec![];
        for (name, heard) in &mut self.heard {
            let Some(at) = *heard else { continue };
            let is_silent = self.timeout.is_some_and(|timeout| self.now - at >= timeout);
            if is_silent || !live.contains(name) {
                *heard = None;
                idle.push(name.clone());
            }
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once() {
        let live = ["a".to_string(), "b".to_string()];
        let mut clock = IdleClock::new(Some(Duration::from_secs(30)));
        assert_eq!(clock.meet(&live), ["a", "b"]);
        assert_eq!(clock.meet(&live), Vec::<String>::new());
        clock.wait(Duration::from_secs(20));
        clock.hear("a");
        clock.wait(Duration::from_secs(10));
        assert_eq!(clock.idle(&live), ["b"]);
        assert_eq!(clock.idle(&live), Vec::<String>::new());
        clock.hear("b");
        clock.wait(Duration::from_secs(30));
        assert_eq!(clock.idle(&live), ["a", "b"]);
    }

    #[test]
    fn what_is_done_is_idle_at_once() {
        let mut clock = IdleClock::new(None);
        clock.hear("a");
        clock.wait(Duration::from_secs(1_000_000));
        assert_eq!(clock.idle(&["a".to_string()]), Vec::<String>::new());
        assert_eq!(clock.idle(&[]), ["a"]);
    }
}
