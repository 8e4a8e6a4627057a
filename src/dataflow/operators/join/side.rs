//! The memory of one input of a join: its rows, chained by key number.
//!
//! Rows that insert are appended; a row that retracts finds its counterpart through an index over whole rows, which is
//! built when the first retraction comes, so an append-only side never pays for it.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use super::durable::with_matches;
use super::expiry::Expiry;
use crate::dataflow::EpochContext;
use crate::dataflow::durable::ChangeLog;
use crate::dataflow::row_store::{RowMatcher, RowStore};
use crate::error::Result;
use crate::plan::TimeColumn;
use crate::state::arrangement::hash_rows;
use crate::types::Delta;

/// The end of a chain.
pub const END: u32 = u32::MAX;

pub struct Side {
    pub key_columns: Vec<usize>,
    rows: RowStore,
    links: Links,
    /// By key number: the weight of all rows, if the other side asks for it.
    totals: Vec<i64>,
    keeps: Keeps,
    /// When rows go, where they do by themselves.
    expiry: Option<Expiry>,
    /// What came and went: rows, or their keys where no rows are kept.
    pub log: ChangeLog,
}

/// What is known of each row but its columns.
#[derive(Default)]
struct Links {
    /// By row number: how often the row is there. Zero: taken back, unlinked. Negative: taken back before it came.
    weights: Vec<i64>,
    /// By row number: the weight of its matches, where counted.
    matches: Vec<i64>,
    /// By row number: the next row of the same key.
    next: Vec<u32>,
    /// By key number: the first row.
    heads: Vec<u32>,
    dead_row_count: usize,
    /// Rows of negative weight.
    debt_row_count: usize,
    finder: Option<Finder>,
}

/// What the other side and the join's output want of a side.
#[derive(Clone, Copy)]
pub struct Keeps {
    /// The rows themselves.
    pub rows: bool,
    /// For each key, the weight of its rows.
    pub key_totals: bool,
}

/// From the hash of a whole row to its number, and what unlinking it takes.
struct Finder {
    hashes: Vec<u64>,
    table: HashTable<u32>,
    /// By row number: the row before it in its chain.
    previous: Vec<u32>,
}

impl Side {
    pub fn new(schema: SchemaRef, key_columns: Vec<usize>, keeps: Keeps) -> Side {
        let (rows, links, log) = (RowStore::new(schema), Links::default(), ChangeLog::default());
        Side { key_columns, rows, links, totals: vec![], keeps, expiry: None, log }
    }

    pub fn keeps(&self) -> Keeps {
        self.keeps
    }

    pub fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }

    /// Rows whose time in a column is over go.
    pub fn expire_by(&mut self, time: TimeColumn) {
        self.expiry = Some(Expiry::new(time));
    }

    pub fn expires(&self) -> bool {
        self.expiry.is_some()
    }

    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    pub fn row_count(&self) -> usize {
        self.links.weights.len() - self.links.dead_row_count
    }

    pub fn memory_bytes(&self) -> usize {
        let links = &self.links;
        let finder = links.finder.as_ref().map_or(0, |f| f.hashes.len() * 12 + f.table.capacity() * 5);
        self.rows.memory_bytes()
            + (links.weights.len() + links.matches.len() + self.totals.len()) * 8
            + (links.next.len() + links.heads.len()) * 4
            + finder
    }

    /// Of the rows that are there.
    pub fn live_bytes(&self) -> u64 {
        let rows = self.links.weights.len().max(1) as u128;
        (self.memory_bytes() as u128 * self.row_count() as u128 / rows) as u64
    }

    /// The key columns of these rows.
    pub fn key_of(&self, delta: &Delta) -> Vec<ArrayRef> {
        self.key_columns.iter().map(|&column| delta.column(column).clone()).collect()
    }

    pub fn make_room(&mut self, key_count: usize) {
        self.links.heads.resize(key_count, END);
        if self.keeps.key_totals {
            self.totals.resize(key_count, 0);
        }
    }

    /// True if the side holds nothing under the key.
    pub fn is_empty(&self, key: u32) -> bool {
        self.links.heads[key as usize] == END && self.totals.get(key as usize).is_none_or(|&total| total == 0)
    }

    /// The rows under a key with their weights.
    pub fn chain(&self, key: u32) -> impl Iterator<Item = (u32, i64)> + '_ {
        let links = &self.links;
        let present = |row: u32| (row != END).then_some(row);
        std::iter::successors(present(links.heads[key as usize]), move |&row| present(links.next[row as usize]))
            .map(|row| (row, links.weights[row as usize]))
    }

    pub fn weight(&self, row: u32) -> i64 {
        self.links.weights[row as usize]
    }

    /// The weight of the rows under a key.
    pub fn total(&self, key: u32) -> i64 {
        self.totals[key as usize]
    }

    /// Adds the rows' weights to the totals of their keys, if the other side asks for them.
    pub fn add_to_totals(&mut self, delta: &Delta, keys: &[u32]) {
        if self.keeps.key_totals {
            keys.iter().enumerate().for_each(|(row, &key)| self.totals[key as usize] += delta.weight(row));
        }
    }

    /// The weight of a row's matches; it changes by `weight`, and what it was comes back.
    pub fn add_to_matches(&mut self, row: u32, weight: i64) -> i64 {
        let count = &mut self.links.matches[row as usize];
        let before = *count;
        *count += weight;
        before
    }

    pub fn matches(&self, row: u32) -> i64 {
        self.links.matches[row as usize]
    }

    /// The columns of these rows, or some of them.
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<ArrayRef>> {
        self.rows.gather(rows)
    }

    pub fn gather_columns(&self, columns: &[usize], rows: &[u32]) -> Result<Vec<ArrayRef>> {
        self.rows.gather_columns(columns, rows)
    }

    /// Takes a delta in. `keys` are the key numbers of its rows; `matches` the weights of their matches, where counted.
    pub fn add(&mut self, delta: &Delta, keys: &[u32], matches: Option<&[i64]>) -> Result<()> {
        if !self.keeps.rows {
            return Ok(());
        }
        if let Some(expiry) = &mut self.expiry {
            expiry.see(delta)?;
        }
        let links = &mut self.links;
        if !delta.has_retractions() && links.debt_row_count == 0 && links.finder.is_none() {
            let first = self.rows.append(delta.batch().clone())?;
            for (row, &key) in keys.iter().enumerate() {
                links.link(first + row as u32, key, delta.weight(row), matches.map(|m| m[row]));
            }
            return Ok(());
        }
        if links.finder.is_none() {
            links.finder = Some(Finder::build(&self.rows, links)?);
        }
        let hashes = hash_rows(delta.batch().columns(), delta.row_count())?;
        // Insertions first, so that a row that comes and goes within one delta is found.
        for sign in [1, -1] {
            let mut rest = vec![];
            let mut matcher = self.rows.matcher(delta.batch());
            for row in (0..delta.row_count()).filter(|&row| delta.weight(row).signum() == sign) {
                let weight = links.settle(&mut matcher, row, delta.weight(row), hashes[row], keys[row])?;
                if weight != 0 {
                    rest.push((row, weight));
                }
            }
            if rest.is_empty() {
                continue;
            }
            let chosen = UInt32Array::from_iter_values(rest.iter().map(|&(row, _)| row as u32));
            let first = self.rows.append(delta.take(&chosen)?.into_batch())?;
            for (place, (row, weight)) in rest.into_iter().enumerate() {
                let number = first + place as u32;
                links.link(number, keys[row], weight, matches.map(|m| m[row]));
                links.find_later(number, hashes[row]);
            }
        }
        Ok(())
    }

    /// Notes for the next checkpoint what is added.
    pub fn record(&mut self, saved: &Delta) -> Result<()> {
        if self.keeps.rows {
            self.log.push(saved);
        } else if self.log.is_on() {
            self.log.push(&saved.project(&self.key_columns)?);
        }
        Ok(())
    }

    /// Notes for the next checkpoint the rows whose matches have changed; `touched` tells how many they had.
    pub fn log_matches(&mut self, touched: &[(u32, i64)]) -> Result<()> {
        let changed: Vec<(u32, i64)> =
            touched.iter().copied().filter(|&(row, before)| self.matches(row) != before).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let rows: Vec<u32> = changed.iter().map(|&(row, _)| row).collect();
        let weights: Vec<i64> = rows.iter().map(|&row| self.weight(row)).collect();
        let batch = RecordBatch::try_new(self.schema().clone(), self.gather(&rows)?)?;
        let before: Vec<i64> = changed.iter().map(|&(_, before)| before).collect();
        let after: Vec<i64> = rows.iter().map(|&row| self.matches(row)).collect();
        let rows = Delta::new(batch, weights);
        self.log.push(&with_matches(&rows.negate(), &before)?);
        self.log.push(&with_matches(&rows, &after)?);
        Ok(())
    }

    /// Lets go of all rows under these keys.
    pub fn forget_keys(&mut self, keys: &[u32]) {
        let links = &mut self.links;
        for &key in keys {
            let mut row = std::mem::replace(&mut links.heads[key as usize], END);
            while row != END {
                let weight = std::mem::take(&mut links.weights[row as usize]);
                links.debt_row_count -= usize::from(weight < 0);
                links.dead_row_count += 1;
                if let Some(finder) = &mut links.finder {
                    finder.forget(row);
                }
                row = links.next[row as usize];
            }
            if let Some(total) = self.totals.get_mut(key as usize) {
                *total = 0;
            }
        }
    }

    /// Lets go of all rows; these are their keys, and maybe others.
    pub fn clear(&mut self, keys: &[u32]) {
        for &key in keys {
            self.links.heads[key as usize] = END;
            if let Some(total) = self.totals.get_mut(key as usize) {
                *total = 0;
            }
        }
        if !self.links.weights.is_empty() {
            self.rows = RowStore::new(self.rows.schema().clone());
            let heads = std::mem::take(&mut self.links.heads);
            self.links = Links { heads, ..Links::default() };
        }
    }

    /// Lets go of rows whose time is over, if enough of them may be; returns keys that have none left.
    pub fn expire(&mut self, context: &EpochContext) -> Result<Vec<u32>> {
        let Some(expiry) = &mut self.expiry else { return Ok(vec![]) };
        let row_count = self.links.weights.len() - self.links.dead_row_count;
        let Some(bound) = expiry.due(row_count, context) else { return Ok(vec![]) };
        let over = expiry.sweep(self.rows.chunks(), bound)?;
        let links = &mut self.links;
        let mut emptied = vec![];
        for (key, head) in links.heads.iter_mut().enumerate().filter(|(_, head)| **head != END) {
            let (mut row, mut last) = (std::mem::replace(head, END), END);
            while row != END {
                let next = links.next[row as usize];
                if over[row as usize] {
                    links.weights[row as usize] = 0;
                } else {
                    match last {
                        END => *head = row,
                        last => links.next[last as usize] = row,
                    }
                    last = row;
                }
                row = next;
            }
            match last {
                END => emptied.push(key as u32),
                last => links.next[last as usize] = END,
            }
        }
        links.debt_row_count = links.weights.iter().filter(|weight| **weight < 0).count();
        self.rebuild()?;
        if let Some(expiry) = &mut self.expiry {
            expiry.kept_row_count = self.links.weights.len();
        }
        Ok(emptied)
    }

    /// Rebuilds the rows once a third of them is dead. Chains keep their keys' numbers.
    pub fn compact(&mut self) -> Result<()> {
        const DEAD_ROW_COUNT_MIN: usize = 4096;
        let links = &self.links;
        if links.dead_row_count < DEAD_ROW_COUNT_MIN || links.dead_row_count * 3 < links.weights.len() {
            return Ok(());
        }
        self.rebuild()
    }

    /// Takes the dead rows out for good; no chain has them any more.
    fn rebuild(&mut self) -> Result<()> {
        let links = &mut self.links;
        let live: Vec<u32> = (0..links.weights.len() as u32).filter(|&row| links.weights[row as usize] != 0).collect();
        let mut moved = vec![END; links.weights.len()];
        for (place, &row) in live.iter().enumerate() {
            moved[row as usize] = place as u32;
        }
        let target = |row: u32| if row == END { END } else { moved[row as usize] };
        links.next = live.iter().map(|&row| target(links.next[row as usize])).collect();
        links.weights = live.iter().map(|&row| links.weights[row as usize]).collect();
        if !links.matches.is_empty() {
            links.matches = live.iter().map(|&row| links.matches[row as usize]).collect();
        }
        links.heads.iter_mut().for_each(|head| *head = target(*head));
        links.dead_row_count = 0;
        self.rows.keep(&live)?;
        if let Some(finder) = links.finder.take() {
            let hashes = live.iter().map(|&row| finder.hashes[row as usize]).collect();
            links.finder = Some(Finder::of(hashes, links));
        }
        Ok(())
    }
}

impl Links {
    /// Puts the newest row at the head of its chain.
    fn link(&mut self, row: u32, key: u32, weight: i64, matches: Option<i64>) {
        debug_assert_eq!(row as usize, self.weights.len(), "rows are linked in the order of their numbers");
        self.weights.push(weight);
        self.matches.extend(matches);
        self.next.push(self.heads[key as usize]);
        self.heads[key as usize] = row;
        self.debt_row_count += usize::from(weight < 0);
    }

    /// Enters the newest row into the index over rows.
    fn find_later(&mut self, row: u32, hash: u64) {
        let finder = self.finder.as_mut().expect("the index over rows was built before");
        finder.hashes.push(hash);
        finder.table.insert_unique(hash, row, |&other| finder.hashes[other as usize]);
        finder.previous.push(END);
        let next = self.next[row as usize];
        if next != END {
            finder.previous[next as usize] = row;
        }
    }

    /// Sets a row's weight off against equal rows of the opposite sign; returns what is left of it.
    fn settle(&mut self, matcher: &mut RowMatcher, row: usize, weight: i64, hash: u64, key: u32) -> Result<i64> {
        let mut rest = weight;
        if rest > 0 && self.debt_row_count == 0 {
            return Ok(rest);
        }
        while rest != 0 {
            let finder = self.finder.as_ref().expect("the index over rows was built before");
            let mut found = None;
            for &at in finder.table.iter_hash(hash) {
                let opposite = self.weights[at as usize].signum() == -rest.signum();
                if opposite && finder.hashes[at as usize] == hash && matcher.equal(row, at)? {
                    found = Some(at);
                    break;
                }
            }
            let Some(at) = found else { break };
            let have = self.weights[at as usize];
            let taken = have.abs().min(rest.abs());
            self.weights[at as usize] -= have.signum() * taken;
            rest -= rest.signum() * taken;
            if self.weights[at as usize] == 0 {
                self.debt_row_count -= usize::from(have < 0);
                self.unlink(at, key);
            }
        }
        Ok(rest)
    }

    fn unlink(&mut self, row: u32, key: u32) {
        let finder = self.finder.as_mut().expect("rows are taken out through the index");
        let (previous, next) = (finder.previous[row as usize], self.next[row as usize]);
        match previous {
            END => self.heads[key as usize] = next,
            previous => self.next[previous as usize] = next,
        }
        if next != END {
            finder.previous[next as usize] = previous;
        }
        finder.forget(row);
        self.dead_row_count += 1;
    }
}

impl Finder {
    fn build(rows: &RowStore, links: &Links) -> Result<Finder> {
        let mut hashes = Vec::with_capacity(links.weights.len());
        for chunk in rows.chunks() {
            hashes.extend(hash_rows(chunk.columns(), chunk.num_rows())?);
        }
        Ok(Finder::of(hashes, links))
    }

    fn of(hashes: Vec<u64>, links: &Links) -> Finder {
        let mut table = HashTable::with_capacity(hashes.len());
        let mut previous = vec![END; hashes.len()];
        for row in (0..hashes.len()).filter(|&row| links.weights[row] != 0) {
            table.insert_unique(hashes[row], row as u32, |&other: &u32| hashes[other as usize]);
            let next = links.next[row];
            if next != END {
                previous[next as usize] = row as u32;
            }
        }
        Finder { hashes, table, previous }
    }

    fn forget(&mut self, row: u32) {
        let slot = self.table.find_entry(self.hashes[row as usize], |&other| other == row);
        slot.expect("a live row is in the index").remove();
    }
}
