//! A ⟕ₐₛₒ𝒻 B: each row of A beside the one row of B with its key that is nearest in time, before or after.
//!
//! Both sides lie in order by key: B by time away from the point of view (backwards for "the last before"), then by what else
//! tells the nearest, then by the whole row; A by its own time the same way. The nearest row of `a` is then the first row of B
//! at or behind a's place, and a row `b` is the nearest of those rows of A that lie between b's neighbour before it and b:
//!
//! ```text
//! B   ───u────────b──────▶        a₁ ↦ u    a₂, a₃ ↦ b    a₄ ↦ what comes next
//! A   ─a₁────a₂─a₃───a₄──▶
//! ```
//! So ΔA bisects B once for each row, and ΔB touches the rows of A between the changed row and the one before it:
//! O = new nearest − old nearest of these. A row of A has one partner at most, so the output is linear in A.

#[cfg(test)]
mod tests;

use arrow::array::{Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{is_not_null, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;

use crate::dataflow::durable::ChangeLog;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::ordered_rows::{Entry, OrderedRows, Place};
use crate::dataflow::row_order::{Change, RowOrder};
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::{Nearest, SortColumn};
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

pub struct AsofOperator {
    nearest: Nearest,
    keys: KeyIndex,
    left: RowOrder,
    right: RowOrder,
    /// By key number.
    partitions: Vec<Partition>,
    keeps_unmatched: bool,
    /// Left, right.
    logs: [ChangeLog; 2],
    /// The left input's columns, then the right's.
    schema: SchemaRef,
}

#[derive(Default)]
struct Partition {
    left: OrderedRows<()>,
    right: OrderedRows<()>,
}

/// A left row, the right row beside it, and how often.
type Pair = (Box<[u8]>, Option<Box<[u8]>>, i64);

impl AsofOperator {
    /// `inputs` are the schemas of left and right. 0A000 if a column's type has no order.
    pub fn new(
        inputs: [SchemaRef; 2],
        nearest: Nearest,
        keeps_unmatched: bool,
        schema: SchemaRef,
    ) -> Result<AsofOperator> {
        let [left, right] = inputs;
        let types = nearest.keys.left.iter().map(|&column| left.field(column).data_type().clone()).collect();
        let options = nearest.order[0].options;
        let left_order = vec![SortColumn { column: nearest.left_time, options }];
        Ok(AsofOperator {
            keys: KeyIndex::new(types)?,
            left: RowOrder::new(left, left_order)?,
            right: RowOrder::new(right, nearest.order.clone())?,
            partitions: vec![],
            nearest,
            keeps_unmatched,
            logs: Default::default(),
            schema,
        })
    }

    /// Rows without a NULL in these columns, and the others, which have no partner.
    fn split_nulls(deltas: Vec<Delta>, columns: &[usize]) -> Result<(Vec<Delta>, Vec<Delta>)> {
        let (mut present, mut missing) = (vec![], vec![]);
        for delta in deltas {
            let nullable = columns.iter().filter(|&&column| delta.column(column).null_count() > 0);
            let masks = nullable.map(|&column| is_not_null(delta.column(column))).collect::<Result<Vec<_>, _>>()?;
            let Some((first, rest)) = masks.split_first() else {
                present.push(delta);
                continue;
            };
            let mask = rest.iter().try_fold(first.clone(), |mask, other| arrow::compute::and(&mask, other))?;
            present.push(delta.filter(&mask)?);
            missing.push(delta.filter(&arrow::compute::not(&mask)?)?);
        }
        Ok((present, missing))
    }

    /// Rows as columns, with NULLs beside those that have no partner.
    fn batch(&self, pairs: &[Pair]) -> Result<RecordBatch> {
        let left = self.left.batch(pairs.iter().map(|(row, ..)| row.as_ref()))?;
        let matched = self.right.batch(pairs.iter().filter_map(|(_, row, _)| row.as_deref()))?;
        let mut count = 0;
        let places = pairs.iter().map(|(_, row, _)| {
            count += u32::from(row.is_some());
            row.as_ref().map(|_| count - 1)
        });
        let places: UInt32Array = places.collect();
        let mut columns = left.columns().to_vec();
        for column in matched.columns() {
            columns.push(match column.is_empty() {
                true => new_null_array(column.data_type(), pairs.len()),
                false => take(column, &places, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Left rows beside NULLs.
    fn unmatched(&self, delta: &Delta) -> Result<Delta> {
        let right = self.right.schema().fields().iter();
        let padding = right.map(|field| new_null_array(field.data_type(), delta.row_count()));
        let columns = delta.batch().columns().iter().cloned().chain(padding).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(delta.row_count()));
        Ok(delta.with_batch(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

impl Operator for AsofOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        let [left, right]: [Vec<Delta>; 2] = inputs.try_into().unwrap_or_default();
        let Nearest { keys, left_time, order, is_strict } = &self.nearest;
        let timed = |keys: &[usize], time: usize| [keys, &[time]].concat();
        let (left, apart) = Self::split_nulls(left, &timed(&keys.left, *left_time))?;
        let (right, _) = Self::split_nulls(right, &timed(&keys.right, order[0].column))?;
        let mut output = vec![];
        if self.keeps_unmatched {
            for delta in apart.iter().filter(|delta| !delta.is_empty()) {
                output.push(self.unmatched(delta)?);
            }
        }
        for (log, deltas) in self.logs.iter_mut().zip([&left, &right]) {
            deltas.iter().for_each(|delta| log.push(delta));
        }
        let left = self.left.changes(&left, &keys.left, &mut self.keys)?;
        let right = self.right.changes(&right, &keys.right, &mut self.keys)?;
        self.partitions.resize_with(self.keys.capacity(), Partition::default);
        let mut pairs: Vec<Pair> = vec![];
        for changes in right.chunk_by(|a, b| a.partition == b.partition) {
            self.partitions[changes[0].partition as usize].change_right(changes, *is_strict, &mut pairs);
        }
        for change in left.iter().filter(|change| change.weight != 0) {
            self.partitions[change.partition as usize].change_left(change, *is_strict, &mut pairs);
        }
        let mut touched: Vec<u32> = left.iter().chain(&right).map(|change| change.partition).collect();
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|&number| {
            let partition = &self.partitions[number as usize];
            partition.left.is_empty() && partition.right.is_empty()
        });
        touched.iter().for_each(|&number| self.partitions[number as usize] = Partition::default());
        self.keys.remove(&touched);
        if !self.keeps_unmatched {
            pairs.retain(|(_, partner, _)| partner.is_some());
        }
        if !pairs.is_empty() {
            let batch = self.batch(&pairs)?;
            let weights: Vec<i64> = pairs.iter().map(|(.., weight)| *weight).collect();
            let all_new = weights.iter().all(|&weight| weight == 1);
            output.push(if all_new { Delta::insert(batch) } else { Delta::new(batch, weights) });
        }
        Ok(output)
    }

    fn state_size(&self) -> StateSize {
        let mut size = StateSize { row_count: 0, bytes: self.keys.memory_bytes() as u64 };
        for Partition { left, right } in &self.partitions {
            size.row_count += (left.entry_count() + right.entry_count()) as u64;
            size.bytes += (left.memory_bytes() + right.memory_bytes() + size_of::<Partition>()) as u64;
        }
        size
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

/// The rows of both sides. Who is beside whom follows.
impl Durable for AsofOperator {
    fn parts(&self) -> Vec<Part> {
        let keys = &self.nearest.keys;
        let sides = [(&self.left, &keys.left), (&self.right, &keys.right)].into_iter().enumerate();
        let part = |(side, (order, key)): (usize, (&RowOrder, &Vec<usize>))| {
            let spread = match (key.is_empty(), side) {
                (false, _) => Spread::By(key.clone()),
                // Left rows are where their hash says, and right rows on every worker.
                (true, 0) => Spread::By((0..order.schema().fields().len()).collect()),
                (true, _) => Spread::Fixed,
            };
            Part { schema: order.schema().clone(), kind: PartKind::Sum, time_column: None, spread, key: vec![] }
        };
        sides.map(part).collect()
    }

    fn record(&mut self) {
        self.logs.iter_mut().for_each(ChangeLog::start);
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let changes = self.logs.iter_mut().map(|log| PartChange { deltas: log.take(), below: None });
        Ok(changes.collect())
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.step(parts, context).map(|_| ())
    }
}

impl Partition {
    /// Shows a left row beside its partner, and takes it in.
    fn change_left(&mut self, change: &Change, is_strict: bool, pairs: &mut Vec<Pair>) {
        let (bound, row) = change.key.split_at(change.sort_length);
        let partner = partner(&self.right, bound, is_strict);
        pairs.push((row.into(), partner.map(|entry| entry.row().into()), change.weight));
        self.left.add(&change.key, change.sort_length, change.weight);
    }

    /// Takes right rows in; the left rows whose partner becomes another one are shown anew.
    fn change_right(&mut self, changes: &[Change], is_strict: bool, pairs: &mut Vec<Pair>) {
        let spans = self.touched(changes, is_strict);
        let mut before = vec![];
        self.each_partner(&spans, is_strict, |row, partner, weight| before.push((row.into(), partner, weight)));
        for change in changes {
            self.right.add(&change.key, change.sort_length, change.weight);
        }
        let mut before = before.into_iter();
        self.each_partner(&spans, is_strict, |row, partner, weight| {
            let old: Pair = before.next().expect("the left rows are the same as before");
            if old.1 != partner {
                pairs.push((old.0, old.1, -old.2));
                pairs.push((row.into(), partner, weight));
            }
        });
    }

    /// The left rows of some spans with their partners.
    fn each_partner(
        &self,
        spans: &[(Place, Place)],
        is_strict: bool,
        mut each: impl FnMut(&[u8], Option<Box<[u8]>>, i64),
    ) {
        for &(start, end) in spans {
            for entry in self.left.range(start, end) {
                let partner = partner(&self.right, entry.sort_key(), is_strict);
                each(entry.row(), partner.map(|entry| entry.row().into()), entry.weight);
            }
        }
    }

    /// The left rows whose partner is one of the changed rows, or may become one: in order, none of them twice.
    fn touched(&self, changes: &[Change], is_strict: bool) -> Vec<(Place, Place)> {
        let mut spans: Vec<(Place, Place)> = vec![];
        if self.left.is_empty() {
            return spans;
        }
        let is_changed = |entry: &Entry<()>| {
            let at = changes.binary_search_by(|other| (*other.key).cmp(&entry.key));
            at.is_ok_and(|at| changes[at].weight != 0)
        };
        let mut last = self.left.start();
        for change in changes.iter().filter(|change| change.weight != 0) {
            let place = self.right.lower_bound(&change.key);
            let before = self.right.range(self.right.start(), place).rev().find(|entry| entry.weight > 0);
            let end = self
                .left
                .partition_point(|left| is_reached(&change.key[..change.sort_length], left.sort_key(), is_strict));
            let start = match before {
                // The rows that it is the partner of come before this span.
                Some(entry) if !is_changed(entry) => {
                    self.left.partition_point(|left| is_reached(entry.sort_key(), left.sort_key(), is_strict))
                }
                _ => last,
            };
            let start = start.max(last);
            if start < end {
                spans.push((start, end));
            }
            last = last.max(end);
        }
        spans
    }
}

/// The first right row that the time `bound` reaches.
fn partner<'a>(right: &'a OrderedRows<()>, bound: &[u8], is_strict: bool) -> Option<&'a Entry<()>> {
    let place = right.partition_point(|entry| !is_reached(entry.sort_key(), bound, is_strict));
    right.range(place, right.end()).find(|entry| entry.weight > 0)
}

/// True if a right row with these ORDER BY columns, the time first, lies at or behind the time `bound`; strictly behind it
/// if it must.
fn is_reached(sort_key: &[u8], bound: &[u8], is_strict: bool) -> bool {
    if is_strict { sort_key > bound && !sort_key.starts_with(bound) } else { sort_key >= bound }
}
