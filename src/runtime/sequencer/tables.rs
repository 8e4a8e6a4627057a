//! Tables: checking writes against what is there, keeping them on disk, loading them again.
//!
//! On disk a table is a sequence of deltas (`t` + table id + epoch + part → [`crate::state::codec`]); adding them up
//! gives its rows. So that the sequence stays short, deltas of like size are merged eight at a time, which rewrites a row
//! O(log n) times.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, max};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Changes, EPOCH_WRITE_COUNT_MAX, EPOCH_WRITE_ROW_COUNT_MAX, Sequencer, WriteRequest};
use crate::catalog::WatermarkDefinition;
use crate::dataflow::Failed;
use crate::dataflow::event_time::told_us;
use crate::error::{Error, Result, SqlState};
use crate::runtime::checkpoint::SavedState;
use crate::runtime::source::{SourceWatermark, arrival_columns};
use crate::runtime::worker::RelationDelta;
use crate::runtime::{IndexSpec, TableSpec, TableWrite};
use crate::state::arrangement::{Interval, Scratch, encode_keys};
use crate::state::codec::{decode_delta, encode_delta};
use crate::state::memory::Holder;
use crate::state::{Arrangement, Layout, Snapshot, Store, StoreBatch};
use crate::types::{Delta, Epoch, RelationId};

pub struct Table {
    spec: TableSpec,
    arrangement: Arrangement,
    /// Of its rows, those of their arrival among them.
    schema: SchemaRef,
    /// All column indices, as changes carry them.
    pub columns: Arc<[usize]>,
    watermark: Option<SourceWatermark>,
    /// While views are made from a checkpoint: what came after it.
    pub since_checkpoint: Vec<Delta>,
}

/// A table has one partition.
const PARTITION: &str = "";

impl Table {
    fn new(spec: TableSpec, scratch: Option<Arc<Scratch>>) -> Table {
        let schema = stored_schema(&spec);
        let layout = Layout::indexed(schema.clone(), spec.primary_key.clone());
        let layout = Layout { indexes: index_columns(&spec.indexes), scratch, ..layout };
        let columns = (0..schema.fields().len()).collect();
        let watermark = spec.watermark.as_ref().map(|_| SourceWatermark::new(None));
        Table { spec, arrangement: Arrangement::new(layout), schema, columns, watermark, since_checkpoint: vec![] }
    }

    pub fn watermark_us(&self) -> Option<i64> {
        self.watermark.as_ref()?.current_us()
    }

    /// A change as the table keeps it: rows are told of their arrival now. Fails as the watermark's expression does.
    fn arriving(&self, delta: Delta) -> Result<Delta> {
        let Some((told, mut failed)) = self.told(&delta)? else { return Ok(delta) };
        if let Some((_, error)) = failed.pop() {
            return Err(error);
        }
        let now_us = chrono::Utc::now().timestamp_micros();
        let told = arrival_columns(self.watermark.as_ref(), PARTITION, &told, now_us);
        let columns = delta.batch().columns().iter().cloned().chain(told).collect();
        Ok(delta.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }

    /// Takes in a change that [`Table::arriving`] made.
    fn append(&mut self, delta: &Delta) -> Result<()> {
        self.arrangement.append(delta)?;
        let told = self.told(delta)?;
        if let (Some(watermark), Some((told, _))) = (&mut self.watermark, told) {
            watermark.observe(PARTITION, delta.row_count(), max(&told));
        }
        Ok(())
    }

    fn append_all(&mut self, deltas: &[Delta]) -> Result<()> {
        self.append(&Delta::concat(&self.schema, deltas)?)
    }

    fn before(&self) -> Before {
        Before { snapshot: self.snapshot(), watermark: self.watermark.clone() }
    }

    fn reset(&mut self, before: &Before) {
        self.arrangement.reset(&before.snapshot);
        self.watermark.clone_from(&before.watermark);
    }

    /// What the rows tell of the watermark, and those for which its expression fails.
    fn told(&self, delta: &Delta) -> Result<Option<(Int64Array, Failed)>> {
        let told = |watermark: &WatermarkDefinition| told_us(watermark, delta.column(watermark.column));
        self.spec.watermark.as_ref().map(told).transpose()
    }

    /// Of its rows.
    pub fn memory_bytes(&self) -> u64 {
        self.arrangement.memory_bytes() as u64
    }

    pub fn snapshot(&self) -> Snapshot {
        self.arrangement.snapshot()
    }

    /// Fails if the table after `delta` would have a row less than never (40001) or two rows of one key (23505).
    fn check(&self, delta: &Delta) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        let snapshot = self.snapshot();
        if !self.spec.primary_key.is_empty() || delta.has_retractions() {
            let key = snapshot.key().expect("a table is indexed").to_vec();
            let after = self.after(delta, snapshot.lookup(&delta.batch().project(&key)?)?)?;
            if after.has_retractions() {
                return Err(Error::new(
                    SqlState::SERIALIZATION_FAILURE,
                    "could not serialize access due to concurrent update",
                ));
            }
            if !self.spec.primary_key.is_empty() {
                check_unique(&format!("{}_pkey", self.spec.name), &self.spec.primary_key, &after)?;
            }
        }
        for index in self.spec.indexes.iter().filter(|index| index.unique) {
            let intervals = inserted_keys(delta, &index.columns)?;
            let present = match snapshot.range(&index.columns, &intervals)? {
                Some(found) => found,
                None => concat_batches(snapshot.schema(), snapshot.rows()?.iter())?,
            };
            check_unique(&index.name, &index.columns, &self.after(delta, present)?)?;
        }
        Ok(())
    }

    /// Some rows of the table and a change, added up.
    fn after(&self, delta: &Delta, present: RecordBatch) -> Result<Delta> {
        Ok(Delta::concat(&self.schema, &[Delta::insert(present), delta.clone()])?.consolidate()?)
    }

    /// Takes over a list of indexes, if the rows that are there allow it.
    fn set_indexes(&mut self, indexes: Vec<IndexSpec>) -> Result<()> {
        // Under another name it holds what it held.
        let is_kept =
            |index: &IndexSpec| self.spec.indexes.iter().any(|known| known.unique && known.columns == index.columns);
        let added = indexes.iter().filter(|index| index.unique && !is_kept(index));
        for index in added {
            let rows = concat_batches(&self.schema, self.snapshot().rows()?.iter())?;
            check_unique(&index.name, &index.columns, &Delta::insert(rows)).map_err(|error| match error.detail {
                Some(detail) if error.code == SqlState::UNIQUE_VIOLATION => {
                    let message = format!("could not create unique index \"{}\"", index.name);
                    Error::new(error.code, message).with_detail(detail.replace("already exists", "is duplicated"))
                }
                detail => Error { detail, ..error },
            })?;
        }
        self.arrangement.set_indexes(index_columns(&indexes));
        self.spec.indexes = indexes;
        Ok(())
    }
}

fn stored_schema(spec: &TableSpec) -> SchemaRef {
    if spec.watermark.is_none() {
        return spec.schema.clone();
    }
    let arrival = ["watermark", "arrived_at"].map(|name| Arc::new(Field::new(name, DataType::Int64, true)));
    let fields: Vec<Arc<Field>> = spec.schema.fields().iter().cloned().chain(arrival).collect();
    Arc::new(Schema::new(fields))
}

fn index_columns(indexes: &[IndexSpec]) -> Vec<Vec<usize>> {
    indexes.iter().map(|index| index.columns.clone()).collect()
}

/// Where an index holds the keys of what a delta inserts, each key once.
fn inserted_keys(delta: &Delta, columns: &[usize]) -> Result<Vec<Interval>> {
    let arrays: Vec<ArrayRef> = columns.iter().map(|&column| delta.column(column).clone()).collect();
    let keys = encode_keys(&arrays)?;
    let inserted =
        |(row, _): &(usize, Vec<u8>)| delta.weight(*row) > 0 && arrays.iter().all(|array| array.is_valid(*row));
    let mut keys: Vec<Vec<u8>> = keys.into_iter().enumerate().filter(inserted).map(|(_, key)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.into_iter().map(|key| Interval { low: key.clone(), high: key }).collect())
}

/// 23505 if two of the rows that are there have one key. NULL is unlike everything.
fn check_unique(constraint: &str, columns: &[usize], rows: &Delta) -> Result<()> {
    let keys = rows.batch().project(columns)?;
    let encoded = encode_keys(keys.columns())?;
    let mut seen = std::collections::HashSet::with_capacity(keys.num_rows());
    for (row, key) in encoded.iter().enumerate() {
        let is_there = rows.weight(row) > 0 && keys.columns().iter().all(|column| column.is_valid(row));
        if is_there && (rows.weight(row) > 1 || !seen.insert(key)) {
            return Err(duplicate_key(constraint, &keys, row));
        }
    }
    Ok(())
}

/// What an epoch writes: for each table, its rows before and the deltas in their order.
type Total = BTreeMap<RelationId, (Before, Vec<Delta>)>;

/// What a table goes back to if its change cannot be made durable.
struct Before {
    snapshot: Snapshot,
    watermark: Option<SourceWatermark>,
}

/// 23505, told as Postgres tells it.
fn duplicate_key(constraint: &str, keys: &RecordBatch, row: usize) -> Error {
    let options = FormatOptions::default().with_null("null");
    let value = |column: &ArrayRef| match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => formatter.value(row).to_string(),
        Err(_) => "?".to_string(),
    };
    let names: Vec<String> = keys.schema().fields().iter().map(|field| field.name().clone()).collect();
    let values: Vec<String> = keys.columns().iter().map(value).collect();
    Error::new(SqlState::UNIQUE_VIOLATION, format!("duplicate key value violates unique constraint \"{constraint}\""))
        .with_detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
}

impl Sequencer {
    pub(super) fn create_table(&mut self, spec: TableSpec) {
        self.tables.insert(spec.id, Table::new(spec, self.checkpoints.state().scratch()));
        self.publish_all();
    }

    /// Of a table or view; what is neither has none.
    pub(super) fn set_indexes(&mut self, relation: RelationId, indexes: Vec<IndexSpec>) -> Result<()> {
        if let Some(table) = self.tables.get_mut(&relation) {
            table.set_indexes(indexes)?;
        } else if let Some(view) = self.views.get_mut(&relation) {
            view.set_indexes(index_columns(&indexes));
        }
        Ok(())
    }

    /// Errors and changes carry the new names; rows that are there already are found by column index.
    pub(super) fn rename_table(&mut self, spec: TableSpec) {
        if let Some(table) = self.tables.get_mut(&spec.id) {
            table.spec = spec;
        }
    }

    /// Takes the waiting writes, or as many as an epoch holds: checks them, makes them durable, applies them. Those that
    /// cannot be are answered here; the others are `accepted` and answered once their epoch is visible.
    pub(super) fn take_writes(&mut self, changes: &mut Changes, accepted: &mut Vec<WriteRequest>) {
        let mut requests = vec![];
        let mut row_count = 0;
        while let Some(request) = self.pending_writes.front() {
            row_count += request.writes.iter().map(|write| write.delta.row_count()).sum::<usize>();
            if !requests.is_empty()
                && (row_count > EPOCH_WRITE_ROW_COUNT_MAX || requests.len() >= EPOCH_WRITE_COUNT_MAX)
            {
                break;
            }
            requests.extend(self.pending_writes.pop_front());
        }
        if requests.is_empty() {
            return;
        }
        let mut total = Total::new();
        // Most often all of them fit together; only if not is each one tried alone.
        let together: Vec<&TableWrite> = requests.iter().flat_map(|request| &request.writes).collect();
        if self.apply(&together, &mut total).is_ok() {
            accepted.append(&mut requests);
        } else {
            for request in requests {
                match self.apply(&request.writes.iter().collect::<Vec<_>>(), &mut total) {
                    Ok(()) => accepted.push(request),
                    Err(error) => {
                        let _ = request.reply.send(Err(error));
                    }
                }
            }
        }
        match self.save(&total) {
            Ok(deltas) => {
                for (id, delta) in deltas {
                    if self.checkpoints.is_recovering()
                        && let Some(table) = self.tables.get_mut(&id)
                    {
                        table.since_checkpoint.push(delta.clone());
                    }
                    let columns = self.tables[&id].columns.clone();
                    changes.entry(id).or_default().push(RelationDelta { columns, delta });
                }
            }
            Err(error) => {
                tracing::error!("could not make writes durable: {error}");
                for (id, (before, _)) in &total {
                    if let Some(table) = self.tables.get_mut(id) {
                        table.reset(before);
                    }
                }
                for request in accepted.drain(..) {
                    let _ = request.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Applies all of `writes`, or none.
    fn apply(&mut self, writes: &[&TableWrite], total: &mut Total) -> Result<()> {
        let mut by_table: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
        for write in writes {
            by_table.entry(write.table).or_default().push(write.delta.clone());
        }
        let mut checked = vec![];
        for (id, deltas) in by_table {
            let Some(table) = self.tables.get(&id) else {
                return Err(Error::new(SqlState::UNDEFINED_TABLE, "the table was dropped meanwhile"));
            };
            let delta = table.arriving(Delta::concat(&table.spec.schema, &deltas)?)?;
            table.check(&delta)?;
            checked.push((id, delta));
        }
        for (id, delta) in checked {
            let table = self.tables.get_mut(&id).expect("the table was there a moment ago");
            let (_, deltas) = total.entry(id).or_insert_with(|| (table.before(), vec![]));
            table.append(&delta)?;
            deltas.push(delta);
        }
        Ok(())
    }

    /// One synced write for the whole epoch.
    fn save(&mut self, total: &Total) -> Result<Vec<(RelationId, Delta)>> {
        let mut batch = StoreBatch::default();
        let mut deltas = vec![];
        for (id, (_, parts)) in total {
            let delta = Delta::concat(&self.tables[id].schema, parts)?;
            batch.put(TableFiles::key(*id, self.epoch), encode_delta(&delta)?);
            deltas.push((*id, delta));
        }
        if !batch.is_empty() {
            self.store.commit(batch)?;
            for (id, delta) in &deltas {
                self.files.added(*id, self.epoch, delta.row_count());
            }
        }
        Ok(deltas)
    }
}

/// The deltas on disk.
pub struct TableFiles {
    store: Arc<dyn Store>,
    /// By table: epoch and row count of each delta, oldest first.
    deltas: HashMap<RelationId, Vec<(Epoch, usize)>>,
    /// Deltas up to this epoch may be merged: those behind it are what views that start from the checkpoint are fed.
    /// `None`: all.
    checkpoint: Option<Epoch>,
}

/// So many deltas of like size become one.
const MERGE_COUNT: usize = 8;

impl TableFiles {
    pub fn new(store: Arc<dyn Store>, checkpoint: Option<Epoch>) -> TableFiles {
        TableFiles { store, deltas: HashMap::new(), checkpoint }
    }

    /// A later checkpoint is durable.
    pub fn merge_up_to(&mut self, checkpoint: Epoch) {
        self.checkpoint = Some(checkpoint);
    }

    fn prefix(id: RelationId) -> Vec<u8> {
        [b"t", id.0.to_be_bytes().as_slice()].concat()
    }

    fn key(id: RelationId, epoch: Epoch) -> Vec<u8> {
        [Self::prefix(id).as_slice(), &epoch.0.to_be_bytes()].concat()
    }

    /// Reads all tables; rows of tables that are no more are removed. Also returns the last epoch on disk.
    pub fn load(&mut self, specs: Vec<TableSpec>, state: &SavedState) -> Result<(BTreeMap<RelationId, Table>, Epoch)> {
        let new = |spec: TableSpec| (spec.id, Table::new(spec, state.scratch()));
        let mut tables: BTreeMap<RelationId, Table> = specs.into_iter().map(new).collect();
        let mut last = Epoch(0);
        let mut orphans = StoreBatch::default();
        let mut parts: BTreeMap<RelationId, (Vec<Delta>, usize)> = BTreeMap::new();
        let checkpoint = self.checkpoint;
        let deltas = &mut self.deltas;
        self.store.scan(b"t", &mut |key, value| {
            let damaged = || Error::new(SqlState::DATA_CORRUPTED, "unreadable key of table data");
            let (id, epoch) = key.get(1..).and_then(|key| key.split_first_chunk::<4>()).ok_or_else(damaged)?;
            let id = RelationId(u32::from_be_bytes(*id));
            let epoch = Epoch(u64::from_be_bytes(epoch.try_into().map_err(|_| damaged())?));
            last = last.max(epoch);
            if !tables.contains_key(&id) {
                orphans.delete(key);
                return Ok(());
            }
            let delta = decode_delta(value)?;
            deltas.entry(id).or_default().push((epoch, delta.row_count()));
            if checkpoint.is_some_and(|checkpoint| epoch > checkpoint)
                && let Some(table) = tables.get_mut(&id)
            {
                table.since_checkpoint.push(delta.clone());
            }
            let (parts, bytes) = parts.entry(id).or_default();
            *bytes += delta.batch().get_array_memory_size();
            parts.push(delta);
            // All at once, if there is room: runs need not be merged again then.
            if state.is_short_with(*bytes) {
                let table = tables.get_mut(&id).expect("orphans were sorted out");
                *bytes = 0;
                table.append_all(&std::mem::take(parts))?;
                state.memory().set(Holder::Relations, tables.values().map(Table::memory_bytes).sum());
            }
            Ok(())
        })?;
        for (id, (parts, _)) in parts {
            tables.get_mut(&id).expect("orphans were sorted out").append_all(&parts)?;
        }
        if !orphans.is_empty() {
            self.store.commit(orphans)?;
        }
        Ok((tables, last))
    }

    pub fn delete(&mut self, id: RelationId, batch: &mut StoreBatch) -> Result<()> {
        self.deltas.remove(&id);
        self.store.scan(&Self::prefix(id), &mut |key, _| {
            batch.delete(key);
            Ok(())
        })
    }

    /// Notes a new delta, and merges some if that is due. A merge that fails costs nothing but the merge.
    fn added(&mut self, id: RelationId, epoch: Epoch, row_count: usize) {
        self.deltas.entry(id).or_default().push((epoch, row_count));
        // More than one delta comes for each merge, so a few merges each time are enough.
        for _ in 0..MERGE_COUNT {
            let Some(span) = self.due(id) else { return };
            if let Err(error) = self.merge(id, span) {
                tracing::warn!("could not merge table data: {error}");
                return;
            }
        }
    }

    /// [`MERGE_COUNT`] deltas of like size, the first of the last ones among those that may be merged.
    fn due(&self, id: RelationId) -> Option<Range<usize>> {
        let deltas = self.deltas.get(&id)?;
        let tier = |row_count: usize| row_count.max(1).ilog2() / 3;
        let end = match self.checkpoint {
            Some(checkpoint) => deltas.partition_point(|(epoch, _)| *epoch <= checkpoint),
            None => deltas.len(),
        };
        let newest = tier(deltas[..end].last()?.1);
        let alike = deltas[..end].iter().rev().take_while(|(_, row_count)| tier(*row_count) <= newest).count();
        (alike >= MERGE_COUNT).then_some(end - alike..end - alike + MERGE_COUNT)
    }

    fn merge(&mut self, id: RelationId, span: Range<usize>) -> Result<()> {
        let Some(deltas) = self.deltas.get_mut(&id) else { return Ok(()) };
        let mut parts = vec![];
        let mut batch = StoreBatch::default();
        for (epoch, _) in &deltas[span.clone()] {
            let key = Self::key(id, *epoch);
            let bytes = self.store.get(&key)?;
            let bytes = bytes.ok_or_else(|| Error::new(SqlState::DATA_CORRUPTED, "table data is missing"))?;
            parts.push(decode_delta(&bytes)?);
            batch.delete(key);
        }
        let merged = Delta::concat(&parts[0].schema(), &parts)?.consolidate()?;
        let last = deltas[span.end - 1].0;
        batch.put(Self::key(id, last), encode_delta(&merged)?);
        self.store.commit(batch)?;
        // Merged deltas count as the size they had, so that tiers grow even where rows cancel.
        deltas.splice(span, [(last, parts.iter().map(|part| part.row_count()).sum())]);
        Ok(())
    }
}
