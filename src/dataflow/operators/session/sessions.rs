//! The sessions of one partition, by their first row's time: an ordered set of intervals that rows extend, merge, shorten
//! and split.
//!
//! Only times count here, not how many rows have one, and how far each of them reaches back: a time is in one session
//! with every other, before it, that it reaches, and with all between them.
//!
//! ```text
//! reach(t) = max(t, what was over when t arrived) − gap, exclusive: sessions that were over then are not reached
//! ```
//!
//! What a step changes is collected in [`Changes`], so that rows whose session is what it was need not be looked at.

use std::collections::BTreeMap;

/// From the first row's time to the last one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub start_us: i64,
    pub last_us: i64,
}

/// They do not overlap, and none reaches the one before it.
#[derive(Default)]
pub struct Sessions {
    by_start: BTreeMap<i64, Rest>,
}

/// What there is to a session beside its start.
#[derive(Clone, Copy)]
struct Rest {
    last_us: i64,
    /// The earliest time that one of its times reaches.
    reach_us: i64,
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
        self.by_start.len() * size_of::<(i64, Rest)>()
    }

    /// The session that spans this time, whether or not there is a row at it.
    pub fn at(&self, time_us: i64) -> Option<Session> {
        let (&start_us, &Rest { last_us, .. }) = self.by_start.range(..=time_us).next_back()?;
        (time_us <= last_us).then_some(Session { start_us, last_us })
    }

    /// A first row has this time, or the time reaches further back than it did.
    pub fn add(&mut self, time_us: i64, reach_us: i64, changes: &mut Changes) {
        debug_assert!(reach_us <= time_us, "a time reaches itself");
        let (mut joined, mut reach) = (Session { start_us: time_us, last_us: time_us }, reach_us);
        while let Some((&start_us, &rest)) = self.by_start.range(..=time_us).next_back()
            && rest.last_us >= reach_us
        {
            if start_us <= reach_us && time_us <= rest.last_us {
                return;
            }
            self.take(start_us, changes);
            joined = Session { start_us, last_us: joined.last_us.max(rest.last_us) };
            reach = reach.min(rest.reach_us);
        }
        if let Some((&start_us, &rest)) = self.by_start.range(time_us..).next()
            && rest.reach_us <= time_us
        {
            self.take(start_us, changes);
            joined.last_us = rest.last_us;
            reach = reach.min(rest.reach_us);
        }
        self.put(joined, reach, changes);
    }

    /// The session becomes what its times make of it: all that are left, ascending, each with how far it reaches.
    pub fn remake(&mut self, session: Session, times: &[(i64, i64)], changes: &mut Changes) {
        self.take(session.start_us, changes);
        let mut later: Option<(Session, i64)> = None;
        for &(time_us, reach_us) in times.iter().rev() {
            later = Some(match later {
                Some((session, reach)) if reach <= time_us => {
                    (Session { start_us: time_us, ..session }, reach.min(reach_us))
                }
                apart => {
                    apart.into_iter().for_each(|(session, reach)| self.put(session, reach, changes));
                    (Session { start_us: time_us, last_us: time_us }, reach_us)
                }
            });
        }
        later.into_iter().for_each(|(session, reach)| self.put(session, reach, changes));
    }

    /// Lets go of the session that ends with this time.
    pub fn forget(&mut self, last_us: i64) {
        let session = self.at(last_us).expect("a session spans its last time");
        self.by_start.remove(&session.start_us);
    }

    fn take(&mut self, start_us: i64, changes: &mut Changes) {
        let rest = self.by_start.remove(&start_us).expect("only sessions that are there are taken");
        // One that the same step has made was never seen.
        if changes.made.remove(&start_us).is_none() {
            changes.gone.push(Session { start_us, last_us: rest.last_us });
        }
    }

    fn put(&mut self, session: Session, reach_us: i64, changes: &mut Changes) {
        self.by_start.insert(session.start_us, Rest { last_us: session.last_us, reach_us });
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
    pub fn gone(&self) -> impl Iterator<Item = Session> {
        self.gone.iter().copied()
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
        sessions.by_start.iter().map(|(&start, rest)| (start, rest.last_us)).collect()
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

    /// Each as far as a gap of 10 lets it.
    fn add(sessions: &mut Sessions, time_us: i64, changes: &mut Changes) {
        sessions.add(time_us, time_us - 9, changes);
    }

    fn remake(sessions: &mut Sessions, times: &[i64], changes: &mut Changes) {
        let session = sessions.at(times[0]).expect("a time that is left");
        sessions.remake(session, &times.iter().map(|time| (*time, time - 9)).collect::<Vec<_>>(), changes);
    }

    #[test]
    fn sessions_extend_merge_and_split() {
        let mut sessions = Sessions::default();
        step(&mut sessions, |s, c| [0, 9, 30, 40].into_iter().for_each(|time| add(s, time, c)));
        assert_eq!(told(&sessions), [(0, 9), (30, 30), (40, 40)]);
        // In the middle: nothing changes.
        assert_eq!(step(&mut sessions, |s, c| add(s, 4, c)), (vec![], vec![]));
        // Before, and between two.
        let (gone, made) = step(&mut sessions, |s, c| add(s, -9, c));
        assert_eq!((gone, made), (vec![session(0, 9)], vec![session(-9, 9)]));
        let (gone, made) = step(&mut sessions, |s, c| add(s, 35, c));
        assert_eq!((gone, made), (vec![session(30, 30), session(40, 40)], vec![session(30, 40)]));
        // Back again.
        let (gone, made) = step(&mut sessions, |s, c| remake(s, &[30, 40], c));
        assert_eq!((gone, made), (vec![session(30, 40)], vec![session(30, 30), session(40, 40)]));
        // Bridged and cut in one step.
        let both = step(&mut sessions, |s, c| {
            add(s, 35, c);
            remake(s, &[30, 40], c);
        });
        assert_eq!(both, (vec![], vec![]));
        // A whole one goes.
        step(&mut sessions, |s, c| s.remake(session(-9, 9), &[], c));
        assert_eq!(told(&sessions), [(30, 30), (40, 40)]);
        assert_eq!((sessions.at(30), sessions.at(35)), (Some(session(30, 30)), None));
        sessions.forget(30);
        assert_eq!(told(&sessions), [(40, 40)]);
    }

    #[test]
    fn a_time_reaches_no_session_that_was_over_when_it_came() {
        let mut sessions = Sessions::default();
        step(&mut sessions, |s, c| [0, 20].into_iter().for_each(|time| add(s, time, c)));
        // At 12 the first session is over, and a row of 5 is not late: it stands alone, however close.
        step(&mut sessions, |s, c| s.add(5, 3, c));
        assert_eq!(told(&sessions), [(0, 0), (5, 5), (20, 20)]);
        // What it reaches together with others counts, not what is nearest to what.
        step(&mut sessions, |s, c| s.add(14, 10, c));
        assert_eq!(told(&sessions), [(0, 0), (5, 5), (14, 20)]);
        step(&mut sessions, |s, c| s.add(13, 4, c));
        assert_eq!(told(&sessions), [(0, 0), (5, 20)]);
        // Another row of the same time came earlier.
        step(&mut sessions, |s, c| s.add(5, -4, c));
        assert_eq!(told(&sessions), [(0, 20)]);
        // A time between two that hold together belongs to them.
        step(&mut sessions, |s, c| s.add(2, 2, c));
        assert_eq!(told(&sessions), [(0, 20)]);
        let times = [(0, -9), (2, 2), (5, 3), (13, 4), (14, 10), (20, 11)];
        step(&mut sessions, |s, c| s.remake(session(0, 20), &times, c));
        assert_eq!(told(&sessions), [(0, 0), (2, 2), (5, 20)]);
    }
}
