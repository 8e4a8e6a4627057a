//! Δ(A ⋈ B) = ΔA ⋈ B + A' ⋈ ΔB with A' = A + ΔA: each side keeps its rows, chained by key.
//!
//! Whether a row has a match is a count, and so linear too: m(a) = Σ weights of the rows of B that match a. A row of a
//! *watched* side comes out as its match count says, and again (retracted, shown anew) when the count starts or stops
//! being positive:
//!
//! | join | watched | a row with matches | a row without |
//! |---|---|---|---|
//! | left, right, full | the preserved sides | its pairs | itself, padded with NULL |
//! | semi | left | itself | – |
//! | anti | left | – | itself |
//! | mark | left | itself, true | itself, false |
//!
//! Without a residual condition all rows of a key have the same match count: the weight of the key's rows on the other
//! side. With one, each row counts its own. Both sides share one index from key to number; a delta row walks the other
//! side's chain, and the pairs of a whole delta are tested and gathered column by column.
//!
//! A side that is a relation arranged by the join's key is not kept ([`Arranged`]): the rows under a delta's keys are looked up as
//! they were before the epoch, held while the delta is joined, and let go. The other side comes first then, so that it
//! meets B and not B + ΔB. What of A has come is what the join has kept of it, so the law holds also while A comes in pieces.
//!
//! Keys that have not been touched for long may be on disk alone ([`Partial`]); all that a step needs of them are looked up before.
//!
//! Rows that no row to come can meet are let go: all of a key's when its window is over, or each when its time is
//! ([`JoinClosing`]). What came out stays.

mod arranged;
mod durable;
mod expiry;
mod given;
mod lookup;
mod residency;
mod residual;
mod side;

#[cfg(test)]
mod tests;

pub use lookup::LookupOperator;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{is_not_null, not, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;
use datafusion::physical_expr::PhysicalExpr;

use self::arranged::Arranged;
use self::residual::Residual;
use self::side::{Keeps, Side};
use crate::dataflow::closing::Closing;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::residency::Residency;
use crate::dataflow::{Durable, EpochContext, Operator, Partial, StateSize};
use crate::error::{Error, Result};
use crate::plan::{ArrangedInput, JoinClosing, JoinKeys, JoinType, StreamPlan};
use crate::types::Delta;

pub struct JoinOperator {
    join_type: JoinType,
    keys: KeyIndex,
    /// For each key column, whether NULL equals NULL.
    null_equals_null: Vec<bool>,
    /// Left, right.
    sides: [Side; 2],
    residual: Option<Residual>,
    /// The side that is looked up.
    arranged: Option<Arranged>,
    residency: Residency,
    /// Keys that may have no rows any more.
    emptied: Vec<u32>,
    /// Keys by the time at which they end, where they do.
    closing: Option<Closing>,
    /// Pairs: the left input's columns, then the right's. Semi, anti: the left's. Mark: the left's and a Boolean.
    schema: SchemaRef,
}

/// Pairs are tested and put out in batches of about this many rows.
const PAIR_COUNT: usize = 64 * 1024;

impl JoinOperator {
    /// `inputs` are the schemas of left and right; key columns have equal types pair by pair. Without keys every pair is
    /// a candidate. `residual` is over the left input's columns, then the right's.
    pub fn new(
        join_type: JoinType,
        inputs: [SchemaRef; 2],
        keys: &JoinKeys,
        residual: Option<&Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> Result<JoinOperator> {
        let types = keys.left.iter().map(|&column| inputs[0].field(column).data_type().clone()).collect();
        let residual = residual.map(|r| Residual::new(r.clone(), [&inputs[0], &inputs[1]])).transpose()?;
        let watched = join_type.watched();
        let keeps = |side: usize| Keeps {
            rows: join_type.has_pairs() || residual.is_some() || watched[side],
            key_totals: watched[1 - side] && residual.is_none(),
        };
        let keeps = [keeps(0), keeps(1)];
        let [left, right] = inputs;
        Ok(JoinOperator {
            join_type,
            keys: KeyIndex::new(types)?,
            null_equals_null: keys.null_equals_null.clone(),
            sides: [Side::new(left, keys.left.clone(), keeps[0]), Side::new(right, keys.right.clone(), keeps[1])],
            residual,
            arranged: None,
            residency: Residency::default(),
            emptied: vec![],
            closing: None,
            schema,
        })
    }

    /// Rows whose time is over go; late rows must have been taken out before.
    pub fn with_closing(mut self, closing: Option<&JoinClosing>, keys: &JoinKeys) -> JoinOperator {
        match closing {
            None => {}
            Some(JoinClosing::Keys(time)) => self.closing = Some(Closing::new(time.clone(), &keys.left)),
            Some(JoinClosing::Rows(times)) => {
                assert!(self.residual.is_some(), "how near rows are is told by the residual");
                let [left, right] = &mut self.sides;
                times[0].iter().for_each(|time| left.expire_by(time.clone()));
                times[1].iter().for_each(|time| right.expire_by(time.clone()));
            }
        }
        self
    }

    /// One side, which does not come out by itself, is looked up instead of kept. Its key must be columns of the relation.
    pub fn with_arranged(mut self, side: usize, input: &StreamPlan, keys: &JoinKeys) -> Result<JoinOperator> {
        assert!(!self.join_type.watched()[side] && self.closing.is_none(), "such a side is kept");
        let input = ArrangedInput::of(input).ok_or_else(|| Error::internal("an arranged side is no relation"))?;
        self.arranged = Some(Arranged::new(side, &input, [&keys.left, &keys.right][side])?);
        Ok(self)
    }

    fn is_arranged(&self, side: usize) -> bool {
        self.arranged.as_ref().is_some_and(|arranged| arranged.side == side)
    }

    /// Takes the looked up side's rows under these keys in, for as long as a delta is joined; returns the keys' numbers.
    fn hold(&mut self, key: &[ArrayRef], context: &mut EpochContext) -> Result<Vec<u32>> {
        let Some(arranged) = &mut self.arranged else { return Ok(vec![]) };
        let side = arranged.side;
        let mut held = vec![];
        for delta in arranged.look_up(key, context)? {
            let (delta, _) = split_null_keys(&delta, &self.sides[side].key_columns, &self.null_equals_null)?;
            // What was looked for is there; other rows may come along.
            let found = self.keys.find(&self.sides[side].key_of(&delta), delta.row_count())?;
            let known = found.iter().map(|number| Some(number.is_some())).collect::<BooleanArray>();
            let numbers: Vec<u32> = found.into_iter().flatten().collect();
            let delta = if numbers.len() == delta.row_count() { delta } else { delta.filter(&known)? };
            self.sides[side].add_to_totals(&delta, &numbers);
            self.sides[side].add(&delta, &numbers, None)?;
            held.extend(numbers);
        }
        Ok(held)
    }

    /// Lets go of what is held; these keys may have no rows any more.
    fn release(&mut self, keys: Vec<u32>) {
        if let Some(side) = self.arranged.as_ref().map(|arranged| arranged.side) {
            self.sides[side].clear(&keys);
        }
        self.emptied.extend(keys);
    }

    /// Numbers the keys of a delta; `missing` takes those that are new.
    fn arrive(&mut self, delta: &Delta, own: usize, missing: &mut Vec<u32>) -> Result<Arrived> {
        let (delta, keyless) = split_null_keys(delta, &self.sides[own].key_columns, &self.null_equals_null)?;
        let numbers = match delta.is_empty() {
            true => vec![],
            false => self.number(&self.sides[own].key_of(&delta), delta.row_count(), missing)?,
        };
        Ok(Arrived { delta, numbers, keyless })
    }

    /// Joins a delta with the other side as it is, then adds it to its own.
    fn advance(&mut self, arrived: Arrived, own: usize, output: &mut Output, context: &mut EpochContext) -> Result<()> {
        let watched = self.join_type.watched();
        let Arrived { delta, numbers, keyless } = arrived;
        if let Some(keyless) = keyless.filter(|_| watched[own]) {
            // NULL meets nothing: such rows need not be kept.
            let mut shown = Shown::new(self.join_type);
            (0..keyless.row_count()).for_each(|row| shown.row(row as u32, keyless.weight(row), false));
            self.put(own, &shown, |rows| take_columns(keyless.batch(), rows), output)?;
        }
        if delta.is_empty() {
            return Ok(());
        }
        // Its own rows are wanted only for how many each key had.
        let held = match self.is_arranged(own) && !self.sides[own].keeps().key_totals {
            true => vec![],
            false => self.hold(&self.sides[own].key_of(&delta), context)?,
        };
        let counts = match self.residual.is_some() {
            false => self.meet_by_key(&delta, &numbers, own, output)?,
            true => self.meet_by_row(&delta, &numbers, own, output, context)?,
        };
        if let (true, Some(counts)) = (watched[own], &counts) {
            let mut shown = Shown::new(self.join_type);
            for (row, &count) in counts.iter().enumerate() {
                shown.row(row as u32, delta.weight(row), count > 0);
            }
            self.put(own, &shown, |rows| take_columns(delta.batch(), rows), output)?;
        }
        if self.is_arranged(own) {
            self.release([held, numbers].concat());
            return Ok(());
        }
        let counts = counts.as_deref().filter(|_| watched[own] && self.residual.is_some());
        let saved = match counts.filter(|_| self.saves_matches(own)) {
            Some(counts) => durable::with_matches(&delta, counts)?,
            None => delta.clone(),
        };
        self.sides[own].record(&saved)?;
        self.sides[own].add(&delta, &numbers, counts)?;
        let mut unused = held;
        if delta.has_retractions() {
            unused.extend(numbers);
        }
        self.release(unused);
        Ok(())
    }

    /// The number of each row's key; `missing` takes those that are new.
    fn number(&mut self, key: &[ArrayRef], row_count: usize, missing: &mut Vec<u32>) -> Result<Vec<u32>> {
        let numbers = self.keys.intern(key, row_count)?;
        self.sides.iter_mut().for_each(|side| side.make_room(self.keys.capacity()));
        self.residency.make_room(self.keys.capacity());
        let seen = missing.len();
        missing.extend(numbers.iter().copied().filter(|&number| self.residency.touch(number).is_new));
        if let Some(closing) = &mut self.closing {
            closing.opened.extend(&missing[seen..]);
        }
        Ok(numbers)
    }

    /// All rows of one key match each other. Returns the match counts of the delta's rows, where they are watched.
    fn meet_by_key(
        &mut self,
        delta: &Delta,
        numbers: &[u32],
        own: usize,
        output: &mut Output,
    ) -> Result<Option<Vec<i64>>> {
        let other = 1 - own;
        if self.join_type.has_pairs() {
            let mut pairs = Pairs::default();
            for (row, &number) in numbers.iter().enumerate() {
                for (place, weight) in self.sides[other].chain(number) {
                    pairs.push(row as u32, place, delta.weight(row) * weight);
                }
                if pairs.len() >= PAIR_COUNT {
                    self.put_pairs(delta, own, &std::mem::take(&mut pairs), output)?;
                }
            }
            self.put_pairs(delta, own, &pairs, output)?;
        }
        let watched = self.join_type.watched();
        if watched[other] {
            // Keys that start or stop having rows here change what all rows of the other side show.
            let mut touched: Vec<(u32, i64)> =
                numbers.iter().map(|&number| (number, self.sides[own].total(number))).collect();
            touched.sort_unstable();
            touched.dedup();
            self.sides[own].add_to_totals(delta, numbers);
            let mut shown = Shown::new(self.join_type);
            for (number, before) in touched {
                let (before, after) = (before > 0, self.sides[own].total(number) > 0);
                if before != after {
                    for (row, weight) in self.sides[other].chain(number) {
                        shown.change(row, weight, before, after);
                    }
                }
            }
            self.put(other, &shown, |rows| self.sides[other].gather(rows), output)?;
        }
        Ok(watched[own].then(|| numbers.iter().map(|&number| self.sides[other].total(number)).collect()))
    }

    /// Pairs of one key match where the residual holds. Returns the match counts of the delta's rows.
    fn meet_by_row(
        &mut self,
        delta: &Delta,
        numbers: &[u32],
        own: usize,
        output: &mut Output,
        context: &mut EpochContext,
    ) -> Result<Option<Vec<i64>>> {
        let mut counts = vec![0; delta.row_count()];
        // Rows of the other side whose count changes, with what it was.
        let mut touched: Vec<(u32, i64)> = vec![];
        let mut pairs = Pairs::default();
        let mut chain: Vec<(u32, i64)> = vec![];
        for (row, &number) in numbers.iter().enumerate() {
            chain.clear();
            chain.extend(self.sides[1 - own].chain(number));
            for &(place, weight) in &chain {
                pairs.push(row as u32, place, delta.weight(row) * weight);
                if pairs.len() >= PAIR_COUNT {
                    self.test(delta, own, &std::mem::take(&mut pairs), &mut counts, &mut touched, output, context)?;
                }
            }
        }
        self.test(delta, own, &pairs, &mut counts, &mut touched, output, context)?;
        // The first count of each row is the one from before this delta: sort is stable.
        touched.sort_by_key(|&(row, _)| row);
        touched.dedup_by_key(|(row, _)| *row);
        let other = 1 - own;
        let mut shown = Shown::new(self.join_type);
        if self.saves_matches(other) && self.sides[other].log.is_on() {
            self.sides[other].log_matches(&touched)?;
        }
        for (row, before) in touched {
            let (before, after) = (before > 0, self.sides[other].matches(row) > 0);
            if before != after {
                shown.change(row, self.sides[other].weight(row), before, after);
            }
        }
        self.put(other, &shown, |rows| self.sides[other].gather(rows), output)?;
        Ok(Some(counts))
    }

    /// Takes those pairs that the residual holds for.
    #[expect(clippy::too_many_arguments, reason = "one loop of meet_by_row, cut out to be read alone")]
    fn test(
        &mut self,
        delta: &Delta,
        own: usize,
        pairs: &Pairs,
        counts: &mut [i64],
        touched: &mut Vec<(u32, i64)>,
        output: &mut Output,
        context: &mut EpochContext,
    ) -> Result<()> {
        if pairs.len() == 0 {
            return Ok(());
        }
        let residual = self.residual.as_ref().expect("pairs are tested where there is a residual");
        let other = 1 - own;
        let mask = residual.mask(delta, own, pairs, &self.sides[other], context)?;
        let passing = pairs.filter(&mask);
        let watched = self.join_type.watched();
        for (&row, &place) in passing.rows.iter().zip(&passing.places) {
            counts[row as usize] += self.sides[other].weight(place);
            if watched[other] {
                let before = self.sides[other].add_to_matches(place, delta.weight(row as usize));
                touched.push((place, before));
            }
        }
        if self.join_type.has_pairs() { self.put_pairs(delta, own, &passing, output) } else { Ok(()) }
    }

    /// Joined rows: of the delta and beside them of the other side.
    fn put_pairs(&self, delta: &Delta, own: usize, pairs: &Pairs, output: &mut Output) -> Result<()> {
        if pairs.len() == 0 {
            return Ok(());
        }
        let ours = take_columns(delta.batch(), &pairs.rows)?;
        let theirs = self.sides[1 - own].gather(&pairs.places)?;
        let columns = if own == 0 { [ours, theirs].concat() } else { [theirs, ours].concat() };
        self.put_batch(columns, &pairs.weights, output)
    }

    /// Rows of one side as they come out without a partner. `columns` fetches them.
    fn put(
        &self,
        side: usize,
        shown: &Shown,
        columns: impl Fn(&[u32]) -> Result<Vec<ArrayRef>>,
        output: &mut Output,
    ) -> Result<()> {
        if shown.rows.is_empty() {
            return Ok(());
        }
        let mut columns = columns(&shown.rows)?;
        match self.join_type {
            JoinType::Semi | JoinType::Anti => {}
            JoinType::Mark => columns.push(Arc::new(BooleanArray::from(shown.marks.clone()))),
            _ => {
                let missing = self.sides[1 - side].schema().fields().iter();
                let padding = missing.map(|field| new_null_array(field.data_type(), shown.rows.len()));
                let padding: Vec<ArrayRef> = padding.collect();
                columns = if side == 0 { [columns, padding].concat() } else { [padding, columns].concat() };
            }
        }
        self.put_batch(columns, &shown.weights, output)
    }

    fn put_batch(&self, columns: Vec<ArrayRef>, weights: &[i64], output: &mut Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let all_new = weights.iter().all(|&weight| weight == 1);
        output.push(if all_new { Delta::insert(batch) } else { Delta::new(batch, weights.to_vec()) });
        Ok(())
    }

    /// Lets go of keys and rows whose time is over.
    fn close(&mut self, context: &EpochContext) -> Result<()> {
        if let Some(closing) = &mut self.closing {
            let is_live = |number: u32| self.residency.is_there(number);
            if let Some(over) = closing.take_over(context, &self.keys, is_live)? {
                self.sides.iter_mut().for_each(|side| side.forget_keys(&over));
                self.residency.forget(&over);
                self.keys.remove(&over);
            }
        }
        for side in &mut self.sides {
            self.emptied.extend(side.expire(context)?);
        }
        Ok(())
    }

    /// Keys without rows on either side give their numbers back, or will.
    fn forget_emptied(&mut self) {
        let mut numbers = std::mem::take(&mut self.emptied);
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&number| self.residency.is_there(number) && self.is_dead(number));
        if self.residency.is_partial() {
            self.residency.died(&numbers);
        } else {
            self.residency.forget(&numbers);
            self.keys.remove(&numbers);
        }
    }

    /// Of the keys and what goes with them.
    fn key_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.closing.as_ref().map_or(0, |closing| closing.memory_bytes())
    }
}

impl Operator for JoinOperator {
    fn step(&mut self, mut inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        self.residency.begin_step();
        let mut output = vec![];
        // Rows of a watched side come last: they then meet the matches of this step and need not be shown without them.
        let mut last = if self.join_type.watched()[0] { 0 } else { 1 };
        if let Some(arranged) = &self.arranged {
            last = arranged.side;
            // Key totals before the epoch are those before all of its changes.
            if inputs[last].len() > 1 {
                inputs[last] = vec![Delta::concat(self.sides[last].schema(), &inputs[last])?];
            }
        }
        let mut missing = vec![];
        let mut arrived: [Vec<Arrived>; 2] = [vec![], vec![]];
        for (side, deltas) in inputs.iter().enumerate() {
            for delta in deltas {
                arrived[side].push(self.arrive(delta, side, &mut missing)?);
            }
        }
        if self.residency.may_miss() {
            self.fetch(&missing, context)?;
        }
        for side in [1 - last, last] {
            for arrived in std::mem::take(&mut arrived[side]) {
                self.advance(arrived, side, &mut output, context)?;
            }
        }
        self.close(context)?;
        self.forget_emptied();
        self.keep_to_allowance()?;
        self.sides.iter_mut().try_for_each(|side| side.compact())?;
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        self.closing.is_some() || self.sides.iter().any(|side| side.expires())
    }

    fn state_size(&self) -> StateSize {
        let rows = self.sides.iter().map(|side| side.row_count() as u64).sum();
        let bytes = self.sides.iter().map(|side| side.memory_bytes() as u64).sum::<u64>();
        StateSize { row_count: rows, bytes: bytes + self.key_bytes() as u64 }
    }

    fn gives_way(&self) -> bool {
        self.residency.gives_way()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

type Output = Vec<Delta>;

/// The rows of a delta with their keys' numbers, and those whose key is NULL.
struct Arrived {
    delta: Delta,
    numbers: Vec<u32>,
    keyless: Option<Delta>,
}

/// Rows with a NULL in their key, which equals nothing, apart from the others.
fn split_null_keys(delta: &Delta, key_columns: &[usize], null_equals_null: &[bool]) -> Result<(Delta, Option<Delta>)> {
    let keys = key_columns.iter().zip(null_equals_null);
    let strict = keys.filter(|&(&column, null_equals)| !null_equals && delta.column(column).null_count() > 0);
    let masks = strict.map(|(&column, _)| is_not_null(delta.column(column))).collect::<Result<Vec<_>, _>>()?;
    if masks.is_empty() {
        return Ok((delta.clone(), None));
    }
    let mut keyed = masks[0].clone();
    for mask in &masks[1..] {
        keyed = arrow::compute::and(&keyed, mask)?;
    }
    Ok((delta.filter(&keyed)?, Some(delta.filter(&not(&keyed)?)?)))
}

/// Candidate or joined pairs: rows of a delta beside rows of the other side, with the product of their weights.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    places: Vec<u32>,
    weights: Vec<i64>,
}

impl Pairs {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn push(&mut self, row: u32, place: u32, weight: i64) {
        self.rows.push(row);
        self.places.push(place);
        self.weights.push(weight);
    }

    fn filter(&self, mask: &BooleanArray) -> Pairs {
        let mut kept = Pairs::default();
        for at in (0..self.len()).filter(|&at| mask.value(at)) {
            kept.push(self.rows[at], self.places[at], self.weights[at]);
        }
        kept
    }
}

/// Rows of a watched side that come out by themselves.
struct Shown {
    join_type: JoinType,
    rows: Vec<u32>,
    weights: Vec<i64>,
    /// Mark joins: whether the row has a match.
    marks: Vec<bool>,
}

impl Shown {
    fn new(join_type: JoinType) -> Shown {
        Shown { join_type, rows: vec![], weights: vec![], marks: vec![] }
    }

    /// A row that has matches or not.
    fn row(&mut self, row: u32, weight: i64, is_matched: bool) {
        let is_shown = match self.join_type {
            JoinType::Semi => is_matched,
            JoinType::Mark => true,
            _ => !is_matched,
        };
        if is_shown {
            self.rows.push(row);
            self.weights.push(weight);
            self.marks.push(is_matched);
        }
    }

    /// A row that had matches and now has none, or the other way round.
    fn change(&mut self, row: u32, weight: i64, before: bool, after: bool) {
        self.row(row, -weight, before);
        self.row(row, weight, after);
    }
}

fn take_columns(batch: &RecordBatch, rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    batch.columns().iter().map(|column| Ok(take(column, &rows, None)?)).collect()
}
