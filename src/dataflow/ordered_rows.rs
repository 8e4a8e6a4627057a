//! The rows of one partition in order: an ordered multiset that knows positions.
//!
//! A row is its bytes, as [`RowOrder`] makes them: first the ORDER BY columns, then the whole row, so that the order of
//! the bytes is total and a function of the rows alone. Rows lie in chunks of at most [`CHUNK_ENTRY_COUNT_MAX`] entries;
//! a chunk knows how many rows it holds, so that insert, remove, position-of and nth touch one chunk and the list of
//! chunk sizes.
//!
//! An entry stands for as many rows as its weight says. One of negative weight (taken back before it came) waits here
//! and stands for none.
//!
//! [`RowOrder`]: super::row_order::RowOrder

use std::cmp::Ordering;

pub const CHUNK_ENTRY_COUNT_MAX: usize = 256;

/// `S` is what the operator remembers of an entry, `C` what it remembers at a chunk's start.
pub struct OrderedRows<S, C = ()> {
    /// None of them is empty.
    chunks: Vec<Chunk<S, C>>,
    key_bytes: usize,
    entry_count: usize,
}

pub struct Chunk<S, C> {
    entries: Vec<Entry<S>>,
    /// The sum of the positive weights.
    row_count: u64,
    /// Forgotten when rows before the chunk move into it.
    pub memory: Option<C>,
}

pub struct Entry<S> {
    pub key: Box<[u8]>,
    /// How much of the key is the ORDER BY columns.
    pub sort_length: u32,
    pub weight: i64,
    pub shown: S,
}

/// A place between entries: before entry `entry` of chunk `chunk`. The end is (number of chunks, 0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub chunk: usize,
    pub entry: usize,
}

/// What an [`OrderedRows::add`] did.
pub struct Added<S> {
    pub before: i64,
    pub after: i64,
    /// Of the entry whose weight came to zero; it is gone.
    pub removed: Option<S>,
}

impl<S> Entry<S> {
    /// The ORDER BY columns: equal among peers.
    pub fn sort_key(&self) -> &[u8] {
        &self.key[..self.sort_length as usize]
    }

    pub fn row(&self) -> &[u8] {
        &self.key[self.sort_length as usize..]
    }

    /// How many rows it stands for.
    pub fn row_count(&self) -> u64 {
        self.weight.max(0) as u64
    }
}

impl<S: Default, C> Default for OrderedRows<S, C> {
    fn default() -> Self {
        OrderedRows { chunks: vec![], key_bytes: 0, entry_count: 0 }
    }
}

impl<S: Default, C> OrderedRows<S, C> {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    pub fn row_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.row_count).sum()
    }

    pub fn memory_bytes(&self) -> usize {
        self.key_bytes + self.entry_count * size_of::<Entry<S>>() + self.chunks.len() * size_of::<Chunk<S, C>>()
    }

    /// Adds `weight` to the row's weight.
    pub fn add(&mut self, key: &[u8], sort_length: usize, weight: i64) -> Added<S> {
        let place = self.lower_bound(key);
        if place.chunk < self.chunks.len() && *self.entry(place).key == *key {
            let chunk = &mut self.chunks[place.chunk];
            let entry = &mut chunk.entries[place.entry];
            let before = entry.weight;
            entry.weight += weight;
            let after = entry.weight;
            chunk.row_count = chunk.row_count + after.max(0) as u64 - before.max(0) as u64;
            let removed = (after == 0).then(|| self.remove(place));
            return Added { before, after, removed };
        }
        if weight != 0 {
            self.insert(place, Entry { key: key.into(), sort_length: sort_length as u32, weight, shown: S::default() });
        }
        Added { before: 0, after: weight, removed: None }
    }

    fn insert(&mut self, place: Place, entry: Entry<S>) {
        self.key_bytes += entry.key.len();
        self.entry_count += 1;
        let row_count = entry.row_count();
        // Between two chunks the earlier one takes it, so that the later one's start stays what it was.
        let place = match place {
            Place { chunk, entry: 0 } if chunk > 0 => {
                Place { chunk: chunk - 1, entry: self.chunks[chunk - 1].entries.len() }
            }
            place => place,
        };
        let is_last = place.chunk + 1 >= self.chunks.len();
        match self.chunks.get_mut(place.chunk) {
            None => self.chunks.push(Chunk { entries: vec![entry], row_count, memory: None }),
            // Rows that come in order fill their chunks.
            Some(chunk) if is_last && place.entry == CHUNK_ENTRY_COUNT_MAX => {
                debug_assert_eq!(chunk.entries.len(), CHUNK_ENTRY_COUNT_MAX);
                self.chunks.push(Chunk { entries: vec![entry], row_count, memory: None });
            }
            Some(chunk) => {
                chunk.entries.insert(place.entry, entry);
                chunk.row_count += row_count;
                if chunk.entries.len() > CHUNK_ENTRY_COUNT_MAX {
                    let entries = chunk.entries.split_off(chunk.entries.len() / 2);
                    let row_count = entries.iter().map(Entry::row_count).sum();
                    chunk.row_count -= row_count;
                    self.chunks.insert(place.chunk + 1, Chunk { entries, row_count, memory: None });
                }
            }
        }
    }

    fn remove(&mut self, place: Place) -> S {
        let chunk = &mut self.chunks[place.chunk];
        let entry = chunk.entries.remove(place.entry);
        chunk.row_count -= entry.row_count();
        self.key_bytes -= entry.key.len();
        self.entry_count -= 1;
        if chunk.entries.is_empty() {
            self.chunks.remove(place.chunk);
        }
        entry.shown
    }

    /// Forgets everything from `place` on.
    pub fn truncate(&mut self, place: Place) {
        if place.chunk >= self.chunks.len() {
            return;
        }
        let chunk = &mut self.chunks[place.chunk];
        let cut = chunk.entries.split_off(place.entry);
        chunk.row_count -= cut.iter().map(Entry::row_count).sum::<u64>();
        let keep = place.chunk + usize::from(place.entry > 0);
        let gone = self.chunks.split_off(keep).into_iter().flat_map(|chunk| chunk.entries).chain(cut);
        for entry in gone {
            self.key_bytes -= entry.key.len();
            self.entry_count -= 1;
        }
    }

    /// Forgets everything before `place`.
    pub fn truncate_start(&mut self, place: Place) {
        let mut gone: Vec<Entry<S>> = self.chunks.drain(..place.chunk).flat_map(|chunk| chunk.entries).collect();
        if place.entry > 0 {
            let chunk = &mut self.chunks[0];
            let cut = gone.len();
            gone.extend(chunk.entries.drain(..place.entry));
            chunk.row_count -= gone[cut..].iter().map(Entry::row_count).sum::<u64>();
            chunk.memory = None;
        }
        self.entry_count -= gone.len();
        self.key_bytes -= gone.iter().map(|entry| entry.key.len()).sum::<usize>();
    }

    pub fn chunks(&self) -> &[Chunk<S, C>] {
        &self.chunks
    }

    pub fn chunk_mut(&mut self, chunk: usize) -> &mut Chunk<S, C> {
        &mut self.chunks[chunk]
    }

    pub fn entry(&self, place: Place) -> &Entry<S> {
        &self.chunks[place.chunk].entries[place.entry]
    }

    pub fn shown_mut(&mut self, place: Place) -> &mut S {
        &mut self.chunks[place.chunk].entries[place.entry].shown
    }

    pub fn start(&self) -> Place {
        Place { chunk: 0, entry: 0 }
    }

    pub fn end(&self) -> Place {
        Place { chunk: self.chunks.len(), entry: 0 }
    }

    /// The next place; a chunk's end is the next chunk's start.
    pub fn after(&self, place: Place) -> Place {
        if place.entry + 1 < self.chunks[place.chunk].entries.len() {
            Place { entry: place.entry + 1, ..place }
        } else {
            Place { chunk: place.chunk + 1, entry: 0 }
        }
    }

    /// The first place whose entry does not fulfil `is_before`, which holds for a beginning of the rows and no others.
    pub fn partition_point(&self, mut is_before: impl FnMut(&Entry<S>) -> bool) -> Place {
        let chunk = self.chunks.partition_point(|chunk| is_before(&chunk.entries[0]));
        if chunk == 0 {
            return self.start();
        }
        let entries = &self.chunks[chunk - 1].entries;
        // Whose first entry is known to be before.
        let entry = entries.partition_point(is_before);
        if entry == entries.len() { Place { chunk, entry: 0 } } else { Place { chunk: chunk - 1, entry } }
    }

    /// The place of the key, or where it would be.
    pub fn lower_bound(&self, key: &[u8]) -> Place {
        self.partition_point(|entry| *entry.key < *key)
    }

    /// The first of the rows with these ORDER BY columns.
    pub fn peers_start(&self, sort_key: &[u8]) -> Place {
        self.partition_point(|entry| entry.sort_key() < sort_key)
    }

    /// Behind the last of the rows with these ORDER BY columns.
    pub fn peers_end(&self, sort_key: &[u8]) -> Place {
        self.partition_point(|entry| entry.sort_key().cmp(sort_key) != Ordering::Greater)
    }

    /// How many rows come before the place.
    pub fn position(&self, place: Place) -> u64 {
        let before: u64 = self.chunks[..place.chunk].iter().map(|chunk| chunk.row_count).sum();
        match self.chunks.get(place.chunk) {
            Some(chunk) => before + chunk.entries[..place.entry].iter().map(Entry::row_count).sum::<u64>(),
            None => before,
        }
    }

    /// The entry that holds row number `position` (from 0), and how many of the entry's rows come before it; the end
    /// if there are not so many.
    pub fn at(&self, position: u64) -> (Place, u64) {
        let mut rest = position;
        for (number, chunk) in self.chunks.iter().enumerate() {
            if rest >= chunk.row_count {
                rest -= chunk.row_count;
                continue;
            }
            for (entry, row_count) in chunk.entries.iter().map(Entry::row_count).enumerate() {
                if rest < row_count {
                    return (Place { chunk: number, entry }, rest);
                }
                rest -= row_count;
            }
        }
        (self.end(), 0)
    }

    /// The entries of `[start, end)` in order.
    pub fn range(&self, start: Place, end: Place) -> impl DoubleEndedIterator<Item = &Entry<S>> {
        let last = end.chunk.min(self.chunks.len().saturating_sub(1));
        let chunks = if start < end { start.chunk..last + 1 } else { 0..0 };
        chunks.flat_map(move |chunk| {
            let entries = &self.chunks[chunk].entries;
            let from = if chunk == start.chunk { start.entry } else { 0 };
            let to = if chunk == end.chunk { end.entry } else { entries.len() };
            entries[from.min(to)..to].iter()
        })
    }
}

impl<S, C> Chunk<S, C> {
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Every answer against a sorted list.
    #[test]
    fn answers_are_those_of_a_sorted_list() {
        for seed in 0..6 {
            let mut random = StdRng::seed_from_u64(seed);
            let keys: u32 = [40, 3000][seed as usize % 2];
            let mut rows: OrderedRows<u32> = OrderedRows::default();
            let mut list: Vec<(Vec<u8>, i64)> = vec![];
            for step in 0..6000 {
                // Rising keys now and then, so that chunks fill from behind.
                let number = if seed == 4 { step } else { random.random_range(0..keys) };
                let key = [number / 4, number].map(u32::to_be_bytes).concat();
                let weight = random.random_range(-2..4);
                let added = rows.add(&key, 4, weight);
                match list.binary_search_by(|(other, _)| other.cmp(&key)) {
                    Ok(at) => {
                        assert_eq!(added.before, list[at].1);
                        list[at].1 += weight;
                        assert_eq!((added.after, added.removed.is_some()), (list[at].1, list[at].1 == 0));
                        if list[at].1 == 0 {
                            list.remove(at);
                        }
                    }
                    Err(at) if weight != 0 => list.insert(at, (key, weight)),
                    Err(_) => {}
                }
                if step % 97 == 0 {
                    check(&rows, &list, &mut random);
                }
            }
            let cut = random.random_range(0..list.len());
            rows.truncate(rows.lower_bound(&list[cut].0));
            list.truncate(cut);
            check(&rows, &list, &mut random);
            let cut = random.random_range(0..=list.len());
            rows.truncate_start(list.get(cut).map_or(rows.end(), |(key, _)| rows.lower_bound(key)));
            list.drain(..cut);
            check(&rows, &list, &mut random);
        }
    }

    fn check(rows: &OrderedRows<u32>, list: &[(Vec<u8>, i64)], random: &mut StdRng) {
        let found: Vec<_> = rows.range(rows.start(), rows.end()).map(|e| (e.key.to_vec(), e.weight)).collect();
        assert_eq!(found, list);
        assert_eq!(rows.entry_count(), list.len());
        let total: i64 = list.iter().map(|(_, weight)| weight.max(&0)).sum();
        assert_eq!(rows.row_count(), total as u64);
        assert_eq!(rows.at(total as u64).0, rows.end());
        if list.is_empty() {
            return;
        }
        for _ in 0..5 {
            let at = random.random_range(0..list.len());
            let before: i64 = list[..at].iter().map(|(_, weight)| weight.max(&0)).sum();
            let place = rows.lower_bound(&list[at].0);
            assert_eq!(*rows.entry(place).key, *list[at].0);
            assert_eq!(rows.position(place), before as u64);
            if list[at].1 > 0 {
                assert_eq!(rows.at(before as u64 + list[at].1 as u64 - 1), (place, list[at].1 as u64 - 1));
            }
            let sort_key = &list[at].0[..4];
            let peers = list.iter().filter(|(key, _)| key[..4] == *sort_key).count();
            let (start, end) = (rows.peers_start(sort_key), rows.peers_end(sort_key));
            assert_eq!(rows.range(start, end).count(), peers);
            assert!(rows.range(start, end).all(|entry| entry.sort_key() == sort_key));
            let after = rows.after(place);
            assert_eq!(rows.range(place, after).count(), 1);
        }
    }
}
