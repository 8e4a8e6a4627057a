//! The sessions of one partition, by their first row's time: an ordered set of intervals that rows extend, merge, shorten
//! and split.
//!
//! Only times count here, not how many rows have one. What a step changes is collected in [`Changes`], so that rows whose
//! session is what it was need not be looked at.

use std::collections::BTreeMap;

use crate::plan::session::is_apart;

/// From the first row's time to the last one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub start_us: i64,
    pub last_us: i64,
}

/// They do not overlap, and between two of them there is a gap.
#[derive(Default)]
pub struct Sessions {
    last_by_start: BTreeMap<i64, i64>,
}

/// Sessions that were there before a step and are not any more, and the other way round.
#[derive(Default)]
pub struct Changes {
    /// Ascending once [`Changes::finish`] has been called.
    gone: Vec<Session>,
    made: BTreeMap<i64, i64>,
}

impl Sessions {
    pub fn memory_bytes(&self) -> usize {
        self.last_by_start.len() * size_of::<Session>()
    }

    /// The session that spans this time, whether or not there is a row at it.
    pub fn at(&self, time_us: i64) -> Option<Session> {
        let (&start_us, &last_us) = self.last_by_start.range(..=time_us).next_back()?;
        (time_us <= last_us).then_some(Session { start_us, last_us })
    }

    /// A first row has this time.
    pub fn add(&mut self, time_us: i64, gap_us: i64, changes: &mut Changes) {
        let mut joined = Session { start_us: time_us, last_us: time_us };
        if let Some((&start_us, &last_us)) = self.last_by_start.range(..=time_us).next_back() {
            if time_us <= last_us {
                return;
            }
            if !is_apart(last_us, time_us, gap_us) {
                self.take(start_us, changes);
                joined.start_us = start_us;
            }
        }
        if let Some((&start_us, &last_us)) = self.last_by_start.range(time_us..).next()
            && !is_apart(time_us, start_us, gap_us)
        {
            self.take(start_us, changes);
            joined.last_us = last_us;
        }
        self.put(joined, changes);
    }

    /// No row has this time any more. `before` and `after` are the times of the nearest rows that stay. Where several
    /// times go in one step, they must come in ascending order.
    pub fn remove(
        &mut self,
        time_us: i64,
        before: Option<i64>,
        after: Option<i64>,
        gap_us: i64,
        changes: &mut Changes,
    ) {
        // It fell out with its neighbour.
        let Some(session) = self.at(time_us) else { return };
        let before = before.filter(|&time| time >= session.start_us);
        let after = after.filter(|&time| time <= session.last_us);
        if let (Some(before), Some(after)) = (before, after)
            && !is_apart(before, after, gap_us)
        {
            return;
        }
        self.take(session.start_us, changes);
        if let Some(last_us) = before {
            self.put(Session { start_us: session.start_us, last_us }, changes);
        }
        if let Some(start_us) = after {
            self.put(Session { start_us, last_us: session.last_us }, changes);
        }
    }

    fn take(&mut self, start_us: i64, changes: &mut Changes) {
        let last_us = self.last_by_start.remove(&start_us).expect("only sessions that are there are taken");
        // One that the same step has made was never seen.
        if changes.made.remove(&start_us).is_none() {
            changes.gone.push(Session { start_us, last_us });
        }
    }

    fn put(&mut self, session: Session, changes: &mut Changes) {
        self.last_by_start.insert(session.start_us, session.last_us);
        changes.made.insert(session.start_us, session.last_us);
    }
}

impl Changes {
    /// Leaves out the sessions that became again what they were.
    pub fn finish(&mut self) {
        let made = &mut self.made;
        self.gone.retain(|session| {
            let is_back = made.get(&session.start_us) == Some(&session.last_us);
            if is_back {
                made.remove(&session.start_us);
            }
            !is_back
        });
        self.gone.sort_unstable_by_key(|session| session.start_us);
    }

    /// The session that spanned this time before the step, if the step has changed it.
    pub fn gone_at(&self, time_us: i64) -> Option<Session> {
        let behind = self.gone.partition_point(|session| session.start_us <= time_us);
        let session = self.gone[..behind].last()?;
        (time_us <= session.last_us).then_some(*session)
    }

    /// Ascending.
    pub fn made(&self) -> impl Iterator<Item = Session> {
        self.made.iter().map(|(&start_us, &last_us)| Session { start_us, last_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sessions: &Sessions) -> Vec<(i64, i64)> {
        sessions.last_by_start.iter().map(|(&start, &last)| (start, last)).collect()
    }

    fn step(sessions: &mut Sessions, change: impl FnOnce(&mut Sessions, &mut Changes)) -> (Vec<Session>, Vec<Session>) {
        let mut changes = Changes::default();
        change(sessions, &mut changes);
        changes.finish();
        (changes.gone.clone(), changes.made().collect())
    }

    fn session(start_us: i64, last_us: i64) -> Session {
        Session { start_us, last_us }
    }

    #[test]
    fn sessions_extend_merge_and_split() {
        let mut sessions = Sessions::default();
        step(&mut sessions, |s, c| [0, 9, 30, 40].into_iter().for_each(|time| s.add(time, 10, c)));
        assert_eq!(told(&sessions), [(0, 9), (30, 30), (40, 40)]);
        // In the middle: nothing changes.
        assert_eq!(step(&mut sessions, |s, c| s.add(4, 10, c)), (vec![], vec![]));
        // Before, and between two.
        let (gone, made) = step(&mut sessions, |s, c| s.add(-9, 10, c));
        assert_eq!((gone, made), (vec![session(0, 9)], vec![session(-9, 9)]));
        let (gone, made) = step(&mut sessions, |s, c| s.add(35, 10, c));
        assert_eq!((gone, made), (vec![session(30, 30), session(40, 40)], vec![session(30, 40)]));
        // Back again.
        let (gone, made) = step(&mut sessions, |s, c| s.remove(35, Some(30), Some(40), 10, c));
        assert_eq!((gone, made), (vec![session(30, 40)], vec![session(30, 30), session(40, 40)]));
        // Bridged and cut in one step.
        let both = step(&mut sessions, |s, c| {
            s.add(35, 10, c);
            s.remove(35, Some(30), Some(40), 10, c);
        });
        assert_eq!(both, (vec![], vec![]));
        // A whole one goes, by its ends.
        step(&mut sessions, |s, c| {
            s.remove(-9, None, Some(30), 10, c);
            s.remove(0, None, Some(30), 10, c);
            s.remove(4, None, Some(30), 10, c);
            s.remove(9, None, Some(30), 10, c);
        });
        assert_eq!(told(&sessions), [(30, 30), (40, 40)]);
        assert_eq!((sessions.at(30), sessions.at(35)), (Some(session(30, 30)), None));
    }
}
