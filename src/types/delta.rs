//! A delta: the Z-set of changes of one relation in one epoch, as an Arrow batch and a weight for each row.
//!
//! Z-sets add up (Budiu et al., *DBSP*, PVLDB 16(7), 2023): two deltas describe the same change if and only if they
//! are equal after [`Delta::consolidate`]. An absent weight column means that every weight is +1, which lets
//! append-only streams pass without a byte spent on weights.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

/// Rows and their signed counts. Weights are never zero in a consolidated delta.
#[derive(Clone, Debug)]
pub struct Delta {
    batch: RecordBatch,
    /// One per row of `batch`; `None` where all are +1.
    weights: Option<ScalarBuffer<i64>>,
}

impl Delta {
    /// Every row inserted once.
    pub fn insert(batch: RecordBatch) -> Delta {
        Delta { batch, weights: None }
    }

    /// Panics if there is not one weight for each row.
    pub fn new(batch: RecordBatch, weights: impl Into<ScalarBuffer<i64>>) -> Delta {
        let weights = weights.into();
        assert_eq!(batch.num_rows(), weights.len(), "one weight for each row");
        Delta { batch, weights: Some(weights) }
    }

    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }

    /// `None` means +1 for every row.
    pub fn weights(&self) -> Option<&ScalarBuffer<i64>> {
        self.weights.as_ref()
    }

    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w[row])
    }

    pub fn column(&self, index: usize) -> &ArrayRef {
        self.batch.column(index)
    }

    pub fn row_count(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.batch.num_rows() == 0
    }

    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// The same weights on other columns. Panics if the row count differs.
    pub fn with_batch(&self, batch: RecordBatch) -> Delta {
        assert_eq!(batch.num_rows(), self.batch.num_rows(), "a delta keeps its rows when its columns change");
        Delta { batch, weights: self.weights.clone() }
    }

    pub fn project(&self, columns: &[usize]) -> Result<Delta, ArrowError> {
        Ok(Delta { batch: self.batch.project(columns)?, weights: self.weights.clone() })
    }

    /// Zero-copy.
    pub fn slice(&self, offset: usize, length: usize) -> Delta {
        Delta {
            batch: self.batch.slice(offset, length),
            weights: self.weights.as_ref().map(|w| w.slice(offset, length)),
        }
    }

    /// Keeps the rows whose mask is true (NULL counts as false).
    pub fn filter(&self, mask: &BooleanArray) -> Result<Delta, ArrowError> {
        let batch = filter_record_batch(&self.batch, mask)?;
        let weights = match &self.weights {
            None => None,
            Some(w) => {
                let array = Int64Array::new(w.clone(), None);
                let kept = arrow::compute::filter(&array, mask)?;
                Some(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&kept).values().clone())
            }
        };
        Ok(Delta { batch, weights })
    }

    pub fn take(&self, rows: &UInt32Array) -> Result<Delta, ArrowError> {
        let batch = match self.batch.num_columns() {
            // Of rows without columns there is only their number, which Arrow's kernel loses.
            0 => {
                let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
                RecordBatch::try_new_with_options(self.batch.schema(), vec![], &options)?
            }
            _ => take_record_batch(&self.batch, rows)?,
        };
        let weights = self.weights.as_ref().map(|w| rows.values().iter().map(|&r| w[r as usize]).collect());
        Ok(Delta { batch, weights })
    }

    /// Inserts become retractions and the other way round.
    pub fn negate(&self) -> Delta {
        let weights: ScalarBuffer<i64> = (0..self.row_count()).map(|row| -self.weight(row)).collect();
        Delta { batch: self.batch.clone(), weights: Some(weights) }
    }

    /// The sum of several deltas, not consolidated. All must have the schema's types.
    pub fn concat(schema: &SchemaRef, deltas: &[Delta]) -> Result<Delta, ArrowError> {
        if let [only] = deltas {
            return Ok(only.clone());
        }
        let batch = concat_batches(schema, deltas.iter().map(|d| &d.batch))?;
        let weights = if deltas.iter().all(|d| d.weights.is_none()) {
            None
        } else {
            Some(deltas.iter().flat_map(|d| (0..d.row_count()).map(|row| d.weight(row))).collect())
        };
        Ok(Delta { batch, weights })
    }

    /// True if some row may be retracted.
    pub fn has_retractions(&self) -> bool {
        self.weights.as_ref().is_some_and(|w| w.iter().any(|&weight| weight < 0))
    }

    /// Adds up the weights of equal rows and drops those that come to zero. The order is that of first appearance.
    /// NULL equals NULL here, and NaN equals NaN, as in `GROUP BY`.
    pub fn consolidate(&self) -> Result<Delta, ArrowError> {
        if self.row_count() == 0 {
            return Ok(self.clone());
        }
        if self.batch.num_columns() == 0 {
            let total: i64 = (0..self.row_count()).map(|row| self.weight(row)).sum();
            let keep = usize::from(total != 0);
            return Ok(Delta { batch: self.batch.slice(0, keep), weights: Some(vec![total; keep].into()) });
        }
        let fields = self.batch.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let rows = RowConverter::new(fields)?.convert_columns(self.batch.columns())?;
        let hasher = foldhash::fast::FixedState::default();
        let hash = |row: usize| std::hash::BuildHasher::hash_one(&hasher, rows.row(row).data());
        // Slots point into `firsts`/`totals`.
        let mut slots: HashTable<usize> = HashTable::with_capacity(self.row_count());
        let (mut firsts, mut totals): (Vec<u32>, Vec<i64>) = (vec![], vec![]);
        for row in 0..self.row_count() {
            let equal = |&slot: &usize| rows.row(firsts[slot] as usize) == rows.row(row);
            match slots.find(hash(row), equal) {
                Some(&slot) => totals[slot] += self.weight(row),
                None => {
                    slots.insert_unique(hash(row), firsts.len(), |&slot| hash(firsts[slot] as usize));
                    firsts.push(row as u32);
                    totals.push(self.weight(row));
                }
            }
        }
        let kept: Vec<usize> = (0..firsts.len()).filter(|&slot| totals[slot] != 0).collect();
        let indices: UInt32Array = kept.iter().map(|&slot| firsts[slot]).collect::<Vec<_>>().into();
        let weights: ScalarBuffer<i64> = kept.iter().map(|&slot| totals[slot]).collect();
        let batch = take_record_batch(&self.batch, &indices)?;
        let all_one = weights.iter().all(|&w| w == 1);
        Ok(Delta { batch, weights: if all_one { None } else { Some(weights) } })
    }
}

impl From<RecordBatch> for Delta {
    fn from(batch: RecordBatch) -> Delta {
        Delta::insert(batch)
    }
}
