//! What kinds of join there are, what each shows, and when rows are let go.

use super::{SortColumn, TimeColumn};

/// Which rows a join puts out beside matching pairs, or in place of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinType {
    /// Matching pairs.
    Inner,
    /// Matching pairs, and left rows without a match beside NULLs.
    Left,
    /// Matching pairs, and right rows without a match beside NULLs.
    Right,
    /// Matching pairs, and rows of either side without a match beside NULLs.
    Full,
    /// Left rows with a match, each as often as it is there.
    Semi,
    /// Left rows without a match.
    Anti,
    /// Left rows and whether each has a match.
    Mark,
}

impl JoinType {
    /// True if matching pairs come out.
    pub fn has_pairs(self) -> bool {
        matches!(self, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
    }

    /// For left and right: whether its rows come out by themselves, depending on whether they have a match.
    pub fn watched(self) -> [bool; 2] {
        match self {
            JoinType::Inner => [false, false],
            JoinType::Left | JoinType::Semi | JoinType::Anti | JoinType::Mark => [true, false],
            JoinType::Right => [false, true],
            JoinType::Full => [true, true],
        }
    }

    /// As EXPLAIN names it; the plain join has no name.
    pub fn name(self) -> &'static str {
        match self {
            JoinType::Inner => "",
            JoinType::Left => "left",
            JoinType::Right => "right",
            JoinType::Full => "full",
            JoinType::Semi => "semi",
            JoinType::Anti => "anti",
            JoinType::Mark => "mark",
        }
    }
}

/// The equalities of a join: column `left[i]` of the left input equals column `right[i]` of the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinKeys {
    pub left: Vec<usize>,
    pub right: Vec<usize>,
    /// For each pair, whether NULL equals NULL: `IS NOT DISTINCT FROM` in place of `=`.
    pub null_equals_null: Vec<bool>,
}

impl JoinKeys {
    /// Every pair of rows is a candidate.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

/// By which times a join lets go of its rows. Both inputs are without late rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinClosing {
    /// A pair of keys tells of windows: rows go with their window. A column of the left input.
    Keys(TimeColumn),
    /// Matching rows are near each other in time: a row goes when none to come can reach it. A column of the left input
    /// and one of the right; `None` where rows to come can always reach back.
    Rows([Option<TimeColumn>; 2]),
}

impl JoinClosing {
    pub fn times(&self) -> Vec<TimeColumn> {
        match self {
            JoinClosing::Keys(time) => vec![time.clone()],
            JoinClosing::Rows(times) => times.iter().flatten().cloned().collect(),
        }
    }

    /// For left and right: whether rows are let go.
    pub fn lets_go(&self) -> [bool; 2] {
        match self {
            JoinClosing::Keys(_) => [true, true],
            JoinClosing::Rows(times) => [times[0].is_some(), times[1].is_some()],
        }
    }
}

/// Which row of the right input is the one beside a left row: of those with equal keys and a time at or behind the left
/// row's, in the order of `order`, the first. Rows that are equal in it are ordered by the whole row. NULL is no time, and
/// no key equals it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    pub keys: JoinKeys,
    /// A column of the left input, of the type of the right time.
    pub left_time: usize,
    /// Columns of the right input. The first one is the time; rows behind it come later in its order.
    pub order: Vec<SortColumn>,
    /// Times that are equal do not count.
    pub is_strict: bool,
}
