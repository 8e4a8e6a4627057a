//! What a session is. One definition for maintained views and ad-hoc queries alike.
//!
//! Each row of time t is active over `[t, t + gap)`. Rows of one partition whose spans overlap, also by others between
//! them, are one session; it lasts from its first row to the end of its last row's span. So a row that comes exactly the
//! gap after another begins a session of its own.

/// True if a gap lies between two rows that follow each other, so that the later one begins a session.
pub fn is_apart(earlier_us: i64, later_us: i64, gap_us: i64) -> bool {
    debug_assert!(earlier_us <= later_us && gap_us > 0, "times in order, and a positive gap");
    later_us.saturating_sub(earlier_us) >= gap_us
}

/// The end of a session whose last row has this time. Saturates at the end of time.
pub fn end(last_us: i64, gap_us: i64) -> i64 {
    last_us.saturating_add(gap_us)
}

/// Start and end of the session of each row of a partition, whose times are ascending.
pub fn bounds(times_us: &[i64], gap_us: i64) -> impl Iterator<Item = (i64, i64)> {
    let sessions = times_us.chunk_by(move |&earlier, &later| !is_apart(earlier, later, gap_us));
    sessions.flat_map(move |rows| {
        let bounds = (rows[0], end(rows[rows.len() - 1], gap_us));
        rows.iter().map(move |_| bounds)
    })
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn a_gap_ends_a_session() {
        let of = |times: &[i64]| bounds(times, 10).collect::<Vec<_>>();
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[3]), [(3, 13)]);
        assert_eq!(of(&[3, 3, 12]), [(3, 22); 3]);
        assert_eq!(of(&[3, 13]), [(3, 13), (13, 23)]);
        assert_eq!(of(&[-5, 4, 14, 23]), [(-5, 14), (-5, 14), (14, 33), (14, 33)]);
        assert_eq!(of(&[i64::MIN, i64::MAX]), [(i64::MIN, i64::MIN + 10), (i64::MAX, i64::MAX)]);
    }
}
