//! Keys to dense numbers: the index under joins and aggregates.
//!
//! Keys of one or two word-sized columns (integers, dates, timestamps, booleans) are compared as machine words; all
//! others as arrow rows. Numbers of removed keys are used again. NULL equals NULL here; a join leaves NULL keys out. Floats are
//! equal as they are to Postgres: −0 and 0 are one key, which is 0.

use std::borrow::Cow;
use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::floats::canonical;
use crate::error::Result;
use crate::state::arrangement::hash_rows;

/// Maps the values of some columns to `0..`.
pub struct KeyIndex {
    keys: Keys,
    slots: HashTable<u32>,
    /// Hash of each number's key.
    hashes: Vec<u64>,
    free: Vec<u32>,
    data_types: Vec<DataType>,
    /// Floats that are equal are one key; else each is its own by its bits.
    merges_floats: bool,
}

enum Keys {
    /// No columns: there is one key.
    Unit,
    Words {
        words: Vec<Words>,
    },
    Rows {
        converter: RowConverter,
        rows: Vec<Option<OwnedRow>>,
        bytes: usize,
    },
}

/// Up to two columns as words; bit `i` of `nulls` says that column `i` is NULL (its word is then 0).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Words {
    words: [i64; 2],
    nulls: u8,
}

impl KeyIndex {
    pub fn new(data_types: Vec<DataType>) -> Result<KeyIndex> {
        let keys = if data_types.is_empty() {
            Keys::Unit
        } else if data_types.len() <= 2 && data_types.iter().all(is_word) {
            Keys::Words { words: vec![] }
        } else {
            let fields = data_types.iter().map(|t| SortField::new(t.clone())).collect();
            Keys::Rows { converter: RowConverter::new(fields)?, rows: vec![], bytes: 0 }
        };
        let hashes = if data_types.is_empty() { vec![0] } else { vec![] };
        let merges_floats = data_types.iter().any(|data_type| data_type.is_floating());
        Ok(KeyIndex { keys, slots: HashTable::new(), hashes, free: vec![], data_types, merges_floats })
    }

    /// Of rows rather than keys: what is not the same to the bit is another one.
    pub fn of_rows(data_types: Vec<DataType>) -> Result<KeyIndex> {
        Ok(KeyIndex { merges_floats: false, ..KeyIndex::new(data_types)? })
    }

    /// All numbers given so far, free ones included, are below this.
    pub fn capacity(&self) -> usize {
        self.hashes.len()
    }

    /// Keys in use.
    pub fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    pub fn memory_bytes(&self) -> usize {
        let keys = match &self.keys {
            Keys::Unit => 0,
            Keys::Words { words } => words.len() * size_of::<Words>(),
            Keys::Rows { bytes, rows, .. } => bytes + rows.len() * size_of::<OwnedRow>(),
        };
        keys + self.slots.capacity() * size_of::<u32>() + self.hashes.len() * size_of::<u64>()
    }

    /// The number of each row's key; new keys get one.
    pub fn intern(&mut self, columns: &[ArrayRef], row_count: usize) -> Result<Vec<u32>> {
        let KeyIndex { keys, slots, hashes, free, merges_floats, .. } = self;
        let columns = &*comparable(columns, *merges_floats);
        match keys {
            Keys::Unit => Ok(vec![0; row_count]),
            Keys::Words { words } => {
                let incoming = to_words(columns, row_count)?;
                let numbers = incoming.into_iter().map(|key| {
                    let hash = word_hash(&key);
                    let equal = |&number: &u32| words[number as usize] == key;
                    match slots.entry(hash, equal, |&number| hashes[number as usize]) {
                        Entry::Occupied(found) => *found.get(),
                        Entry::Vacant(vacant) => {
                            let number = free.pop().unwrap_or(words.len() as u32);
                            vacant.insert(number);
                            put(words, number, key);
                            put(hashes, number, hash);
                            number
                        }
                    }
                });
                Ok(numbers.collect())
            }
            Keys::Rows { converter, rows, bytes } => {
                let incoming = converter.convert_columns(columns)?;
                let numbers = hash_rows(columns, row_count)?.into_iter().enumerate().map(|(row, hash)| {
                    let key = incoming.row(row);
                    let equal = |&number: &u32| rows[number as usize].as_ref().is_some_and(|own| own.row() == key);
                    match slots.entry(hash, equal, |&number| hashes[number as usize]) {
                        Entry::Occupied(found) => *found.get(),
                        Entry::Vacant(vacant) => {
                            let number = free.pop().unwrap_or(rows.len() as u32);
                            vacant.insert(number);
                            *bytes += key.data().len();
                            put(rows, number, Some(key.owned()));
                            put(hashes, number, hash);
                            number
                        }
                    }
                });
                Ok(numbers.collect())
            }
        }
    }

    /// The number of each row's key, where it has one.
    pub fn find(&self, columns: &[ArrayRef], row_count: usize) -> Result<Vec<Option<u32>>> {
        let columns = &*comparable(columns, self.merges_floats);
        let found = |hash: u64, equal: &dyn Fn(&u32) -> bool| self.slots.find(hash, equal).copied();
        match &self.keys {
            Keys::Unit => Ok(vec![Some(0); row_count]),
            Keys::Words { words } => {
                let sought = to_words(columns, row_count)?;
                Ok(sought.iter().map(|key| found(word_hash(key), &|&number| words[number as usize] == *key)).collect())
            }
            Keys::Rows { converter, rows, .. } => {
                let sought = converter.convert_columns(columns)?;
                let hashes = hash_rows(columns, row_count)?.into_iter().enumerate();
                let numbers = hashes.map(|(row, hash)| {
                    let key = sought.row(row);
                    found(hash, &|&number| rows[number as usize].as_ref().is_some_and(|own| own.row() == key))
                });
                Ok(numbers.collect())
            }
        }
    }

    /// Forgets keys; their numbers will be given again. Each must be in use and named once.
    pub fn remove(&mut self, numbers: &[u32]) {
        for &number in numbers {
            match &mut self.keys {
                Keys::Unit => continue,
                Keys::Words { .. } => {}
                Keys::Rows { rows, bytes, .. } => {
                    if let Some(row) = rows[number as usize].take() {
                        *bytes -= row.row().data().len();
                    }
                }
            }
            let entry = self.slots.find_entry(self.hashes[number as usize], |&other| other == number);
            entry.expect("a number in use has a slot").remove();
            self.free.push(number);
        }
    }

    /// The key columns of these numbers.
    pub fn columns(&self, numbers: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Keys::Unit => Ok(vec![]),
            Keys::Words { words } => self
                .data_types
                .iter()
                .enumerate()
                .map(|(column, data_type)| {
                    let values: Int64Array = numbers
                        .iter()
                        .map(|&number| &words[number as usize])
                        .map(|key| (key.nulls & (1 << column) == 0).then_some(key.words[column]))
                        .collect();
                    Ok(cast(&values, data_type)?)
                })
                .collect(),
            Keys::Rows { converter, rows, .. } => {
                let rows = numbers
                    .iter()
                    .map(|&number| rows[number as usize].as_ref().expect("a number in use has a key").row());
                Ok(converter.convert_rows(rows)?)
            }
        }
    }
}

/// Key columns as they are compared.
fn comparable(columns: &[ArrayRef], merges_floats: bool) -> Cow<'_, [ArrayRef]> {
    match merges_floats {
        false => Cow::Borrowed(columns),
        true => Cow::Owned(columns.iter().map(canonical).collect()),
    }
}

fn put<T>(items: &mut Vec<T>, number: u32, item: T) {
    if number as usize == items.len() { items.push(item) } else { items[number as usize] = item }
}

/// Types whose values are one machine word and whose equality is that of the word.
pub fn is_word(data_type: &DataType) -> bool {
    data_type.is_signed_integer()
        || matches!(
            data_type,
            DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
                | DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(_, _)
        )
}

fn to_words(columns: &[ArrayRef], row_count: usize) -> Result<Vec<Words>> {
    let mut keys = vec![Words::default(); row_count];
    for (index, column) in columns.iter().enumerate() {
        let column = cast(column, &DataType::Int64)?;
        let column = column.as_primitive::<Int64Type>();
        for (key, value) in keys.iter_mut().zip(column.values()) {
            key.words[index] = *value;
        }
        if column.null_count() > 0 {
            for (_, key) in keys.iter_mut().enumerate().filter(|(row, _)| column.is_null(*row)) {
                key.words[index] = 0;
                key.nulls |= 1 << index;
            }
        }
    }
    Ok(keys)
}

fn word_hash(key: &Words) -> u64 {
    FixedState::with_seed(0x5741_5445_5221).hash_one((key.words, key.nulls))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    #[test]
    fn equal_floats_are_one_key() -> Result<()> {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let column: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, f64::NAN, 0.0, other_nan, 1.0]));
        let mut index = KeyIndex::new(vec![DataType::Float64])?;
        assert_eq!(index.intern(std::slice::from_ref(&column), 5)?, vec![0, 1, 0, 1, 2]);
        let zero = index.columns(&[0])?;
        assert!(zero[0].as_primitive::<Float64Type>().value(0).is_sign_positive());
        let mut rows = KeyIndex::of_rows(vec![DataType::Float64])?;
        assert_eq!(rows.intern(&[column], 5)?, vec![0, 1, 2, 3, 4]);
        Ok(())
    }

    #[test]
    fn numbers_are_stable_and_given_again() -> Result<()> {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(5), Some(0)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a"), Some("")]));
        for column in [ints, texts] {
            let mut index = KeyIndex::new(vec![column.data_type().clone()])?;
            let numbers = index.intern(std::slice::from_ref(&column), 4)?;
            assert_eq!(numbers, vec![0, 1, 0, 2]);
            let back = &index.columns(&[0, 1, 0, 2])?[0];
            assert_eq!(back.as_ref(), column.as_ref());
            assert_eq!(index.find(std::slice::from_ref(&column), 4)?, vec![Some(0), Some(1), Some(0), Some(2)]);
            index.remove(&[1]);
            assert_eq!(index.len(), 2);
            assert_eq!(index.find(&[column.slice(0, 2)], 2)?, vec![Some(0), None]);
            assert_eq!(index.intern(&[column.slice(1, 1)], 1)?, vec![1]);
        }
        Ok(())
    }
}
