//! Event time in a plan: which columns of an operator follow a watermark, and how.
//!
//! A watermark of a relation is a promise that no change older than it is expected. What an operator may conclude for
//! one of its columns is a function of the watermarks of the relations below it, known when the view is planned: so no
//! watermark travels with the rows; whoever steps an operator tells it those of the relations, and it evaluates.
//!
//! ```text
//! ts: W(bid)      window_start: start(W(bid))      window_end: end(W(bid))      of a union: least(W(a), W(b))
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::physical_expr::PhysicalExpr;

use super::Window;
use crate::error::Result;
use crate::types::RelationId;
use crate::types::times::{times_of, times_us};

/// Event times up to which the relations are complete, in microseconds since 1970. One that has none is absent.
pub type Watermarks = BTreeMap<RelationId, i64>;

/// A column whose changes, from a moment on, are not older than a watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    pub column: usize,
    pub watermark: Watermark,
    /// How far behind the watermark changes are still let through.
    pub lateness_us: i64,
    /// What is later has been taken out below: no change is ever older. Otherwise rows may break the promise.
    pub is_kept: bool,
}

impl TimeColumn {
    /// What is over at these watermarks: [`TimeColumn::closed_below`].
    pub fn closed_at(&self, watermarks: &Watermarks) -> Option<i64> {
        self.closed_below(&|relation| watermarks.get(&relation).copied())
    }

    /// What is older than this is over: no change of it is to come. `None`: nothing is.
    pub fn closed_below(&self, of: &dyn Fn(RelationId) -> Option<i64>) -> Option<i64> {
        self.watermark.evaluate(&|relation| Some(of(relation)?.saturating_sub(self.lateness_us)))
    }

    /// What is over for a row that tells of its arrival: by the watermark then of the relation that it comes from, whatever
    /// others that the time follows have come to. At least what was over `before` the row's epoch.
    pub fn closed_for(&self, arrived: Option<i64>, before: &Watermarks) -> Option<i64> {
        let own = arrived.max(self.watermark.least_of_relations(before));
        self.closed_below(&|_| own)
    }
}

/// A monotone function of relations' watermarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watermark {
    Relation(RelationId),
    /// Trails by so many microseconds.
    Delayed(Box<Watermark>, i64),
    Least(Vec<Watermark>),
    /// Of window starts: the start of the first window that holds the time.
    Start(Box<Watermark>, Window),
    /// Of window ends: the end of that window.
    End(Box<Watermark>, Window),
    /// Of the ends of sessions: one that ends at the time itself is over, too.
    SessionEnd(Box<Watermark>),
    /// Of a monotone function of the time: its value at the watermark.
    Mapped(Box<Watermark>, Mapping),
}

/// A function of a column, its column 0, that never falls as that grows.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub expr: Arc<dyn PhysicalExpr>,
    pub data_type: DataType,
    /// It stands still over spans of time, which are windows: `date_trunc('month', ts)`.
    pub has_steps: bool,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Mapping) -> bool {
        self.expr.as_ref() == other.expr.as_ref() && self.data_type == other.data_type
    }
}

impl Eq for Mapping {}

impl Mapping {
    /// As [`times_us`] reads it; `None` where the function has no value.
    fn at(&self, time_us: i64) -> Option<i64> {
        // At the end of time everything is over.
        if time_us == i64::MAX {
            return Some(i64::MAX);
        }
        let value = || -> Result<Int64Array> {
            let time = times_of(Int64Array::from(vec![time_us]), &self.data_type)?;
            let schema = Arc::new(Schema::new(vec![Field::new("time", self.data_type.clone(), true)]));
            let batch = RecordBatch::try_new(schema, vec![time])?;
            times_us(&self.expr.evaluate(&batch)?.into_array(1)?)
        };
        value().ok()?.iter().next().flatten()
    }
}

impl Watermark {
    /// Microseconds; `None` while one of the relations has told no time. `of` gives a relation's watermark.
    pub fn evaluate(&self, of: &dyn Fn(RelationId) -> Option<i64>) -> Option<i64> {
        match self {
            Watermark::Relation(relation) => of(*relation),
            Watermark::Delayed(inner, delay_us) => Some(inner.evaluate(of)?.saturating_sub(*delay_us)),
            Watermark::Least(all) => {
                all.iter().map(|one| one.evaluate(of)).try_fold(i64::MAX, |least, one| Some(least.min(one?)))
            }
            Watermark::Start(inner, window) => Some(window.first(inner.evaluate(of)?).0),
            Watermark::End(inner, window) => Some(window.first(inner.evaluate(of)?).1),
            Watermark::SessionEnd(inner) => Some(inner.evaluate(of)?.saturating_add(1)),
            Watermark::Mapped(inner, mapping) => mapping.at(inner.evaluate(of)?),
        }
    }

    /// The watermark of the relation that has come least far.
    pub fn least_of_relations(&self, watermarks: &Watermarks) -> Option<i64> {
        // `None` is the least of all.
        self.relations().iter().map(|relation| watermarks.get(relation).copied()).min().flatten()
    }

    /// True if it is the same function of each relation that it follows, as that of a union's times is of its inputs.
    pub fn is_uniform(&self) -> bool {
        self.of_one().is_some()
    }

    /// The function, if it is the same of each relation; of one that stands for any.
    fn of_one(&self) -> Option<Watermark> {
        let inside = |inner: &Watermark| inner.of_one().map(Box::new);
        Some(match self {
            Watermark::Relation(_) => Watermark::Relation(RelationId(0)),
            Watermark::Delayed(inner, delay_us) => Watermark::Delayed(inside(inner)?, *delay_us),
            Watermark::Start(inner, window) => Watermark::Start(inside(inner)?, *window),
            Watermark::End(inner, window) => Watermark::End(inside(inner)?, *window),
            Watermark::SessionEnd(inner) => Watermark::SessionEnd(inside(inner)?),
            Watermark::Mapped(inner, mapping) => Watermark::Mapped(inside(inner)?, mapping.clone()),
            Watermark::Least(all) => {
                let mut all = all.iter().map(|one| one.of_one());
                let first = all.next()??;
                return all.all(|other| other.as_ref() == Some(&first)).then_some(first);
            }
        })
    }

    /// Relations whose watermarks it follows.
    pub fn relations(&self) -> Vec<RelationId> {
        let mut relations = vec![];
        self.collect_relations(&mut relations);
        relations
    }

    fn collect_relations(&self, relations: &mut Vec<RelationId>) {
        match self {
            Watermark::Relation(relation) if relations.contains(relation) => {}
            Watermark::Relation(relation) => relations.push(*relation),
            Watermark::Delayed(inner, _)
            | Watermark::Start(inner, _)
            | Watermark::End(inner, _)
            | Watermark::SessionEnd(inner)
            | Watermark::Mapped(inner, _) => inner.collect_relations(relations),
            Watermark::Least(all) => all.iter().for_each(|one| one.collect_relations(relations)),
        }
    }

    /// True if both are told by the same windows of the same times, and this one's column closes when the other's does. Of
    /// windows that cumulate many ends belong to a start: the start closes with them, but they do not wait for it.
    pub fn is_of_same_windows(&self, other: &Watermark) -> bool {
        use Watermark::{End, Start};
        match (self, other) {
            (End(_, Window::Cumulate { .. }), Start(..)) => false,
            (Start(a, v) | End(a, v), Start(b, w) | End(b, w)) => a == b && v == w,
            _ => false,
        }
    }
}

/// Least of what two inputs of one column promise.
pub fn least(a: &Watermark, b: &Watermark) -> Watermark {
    if a == b {
        return a.clone();
    }
    let parts = |watermark: &Watermark| match watermark {
        Watermark::Least(all) => all.clone(),
        one => vec![one.clone()],
    };
    let mut all = parts(a);
    for one in parts(b) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Watermark::Least(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RelationId = RelationId(1);
    const B: RelationId = RelationId(2);

    fn at(watermark: &Watermark, watermarks: &Watermarks) -> Option<i64> {
        watermark.evaluate(&|relation| watermarks.get(&relation).copied())
    }

    #[test]
    fn a_watermark_is_a_function_of_its_relations() {
        let minutes = Window::Tumble { size_us: 60, offset_us: 0 };
        let a = Watermark::Relation(A);
        let start = Watermark::Start(Box::new(a.clone()), minutes);
        let end = Watermark::End(Box::new(a.clone()), minutes);
        let at = |watermark: &Watermark, us| at(watermark, &Watermarks::from([(A, us)]));
        assert_eq!((at(&start, 59), at(&end, 59)), (Some(0), Some(60)));
        assert_eq!((at(&start, 60), at(&end, 60)), (Some(60), Some(120)));
        // Lateness counts before the windows.
        let time = TimeColumn { column: 0, watermark: end.clone(), lateness_us: 10, is_kept: true };
        let closed_below = |us| time.closed_below(&|_| Some(us));
        assert_eq!((closed_below(69), closed_below(70)), (Some(60), Some(120)));
        assert!(start.is_of_same_windows(&end) && !start.is_of_same_windows(&a));
    }

    #[test]
    fn the_least_waits_for_all() {
        let both = least(&Watermark::Relation(A), &Watermark::Relation(B));
        assert_eq!(at(&both, &Watermarks::from([(A, 5)])), None);
        assert_eq!(at(&both, &Watermarks::from([(A, 5), (B, 3)])), Some(3));
        let delayed = Watermark::Delayed(Box::new(both.clone()), 2);
        assert_eq!(at(&delayed, &Watermarks::from([(A, 5), (B, 3)])), Some(1));
        assert_eq!(both.relations(), [A, B]);
        assert_eq!(least(&both, &Watermark::Relation(B)), both);
    }

    #[test]
    fn a_row_of_a_union_is_late_by_its_own_relation() {
        let window = Window::Tumble { size_us: 60, offset_us: 0 };
        let end = |relation| Watermark::End(Box::new(Watermark::Relation(relation)), window);
        let both = least(&end(A), &end(B));
        assert!(both.is_uniform() && Watermark::Delayed(Box::new(both.clone()), 3).is_uniform());
        assert!(!least(&end(A), &Watermark::Relation(B)).is_uniform());
        let time = TimeColumn { column: 0, watermark: both, lateness_us: 0, is_kept: true };
        // Whatever the other one has come to; but not into what was over before the epoch.
        let before = Watermarks::from([(A, 70), (B, 10)]);
        assert_eq!(time.closed_for(Some(70), &before), Some(120));
        assert_eq!(time.closed_for(Some(10), &before), Some(60));
        assert_eq!(time.closed_for(None, &before), Some(60));
        assert_eq!(time.closed_for(None, &Watermarks::from([(A, 70)])), None);
    }

    #[test]
    fn hops_close_with_their_first_window() {
        let hop = Window::Hop { slide_us: 5, size_us: 10, offset_us: 0 };
        assert_eq!((hop.first(7), hop.first(10), hop.first(4)), ((0, 10), (5, 15), (-5, 5)));
        // A time in a gap: the window to come.
        let gaps = Window::Hop { slide_us: 10, size_us: 4, offset_us: 0 };
        assert_eq!((gaps.first(3), gaps.first(4)), ((0, 4), (10, 14)));
    }

    #[test]
    fn a_session_is_over_once_its_end_is_reached() {
        let watermark = Watermark::SessionEnd(Box::new(Watermark::Relation(A)));
        let time = TimeColumn { column: 0, watermark, lateness_us: 10, is_kept: true };
        assert_eq!(time.closed_below(&|_| Some(70)), Some(61));
        assert_eq!(time.watermark.relations(), [A]);
    }

    #[test]
    fn windows_that_cumulate_close_one_by_one() {
        let window = Window::Cumulate { step_us: 5, size_us: 15, offset_us: 0 };
        assert_eq!((window.first(4), window.first(5), window.first(15)), ((0, 5), (0, 10), (15, 20)));
        let inner = || Box::new(Watermark::Relation(A));
        let (start, end) = (Watermark::Start(inner(), window), Watermark::End(inner(), window));
        assert!(start.is_of_same_windows(&end) && !end.is_of_same_windows(&start));
    }
}
