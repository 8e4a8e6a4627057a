//! SUBSCRIBE: what a relation holds, then how it changes, epoch by epoch.
//!
//! ```text
//! snapshot at e ──▶ changes of epochs (e, w1] ──▶ changes of (w1, w2] ──▶ …      w: the newest world at the time
//! ```
//! A subscriber reads the relation's [`History`](crate::state::History) at its own pace, from a hold that keeps what it
//! has not taken. So it has no queue of its own, many subscribers share one log, and one that takes nothing costs what the
//! log may keep for it: beyond that the hold is gone, and the subscriber ends with 53400. Nobody waits for it.
//!
//! Each epoch's rows are added up; in an epoch retractions come first.

use std::any::Any;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow::datatypes::{Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Result, SqlState};
use crate::state::World;
use crate::state::history::{Changes, Hold};
use crate::types::{Delta, Epoch, Moment, PgType, RelationId};

/// Rows of one batch; what a client is behind by beyond it stays in the log.
const BATCH_ROW_COUNT_MAX: usize = 8192;
/// How often a subscriber that wants to know is told that nothing has changed.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// When a subscription ends by itself.
pub enum End {
    Never,
    /// After the changes of this epoch.
    At(Epoch),
    /// After those of an epoch that is known once the time has come.
    Later(Pin<Box<dyn Future<Output = Result<Epoch>> + Send>>),
}

pub struct Subscription {
    pub relation: RelationId,
    /// As messages call it.
    pub name: String,
    /// Columns that the client is told of, as it is told; what the relation keeps behind them is its own.
    pub columns: Vec<FieldRef>,
    /// The rows that it begins with, if it tells them, and when that was.
    pub snapshot: Option<Arc<Vec<RecordBatch>>>,
    pub from: Moment,
    /// What has changed between then and the hold's place, as one change, where that is later.
    pub gap: Option<Changes>,
    pub progress: bool,
    pub hold: Hold,
    pub worlds: watch::Receiver<Arc<World>>,
    pub end: End,
    /// For others to see: the epoch up to which all changes have been taken.
    pub place: Arc<AtomicU64>,
    /// What has to live as long as the subscription.
    pub kept: Box<dyn Any + Send>,
}

/// The columns of the answer.
pub fn fields(columns: &[FieldRef], progress: bool) -> Vec<FieldRef> {
    let field = |name: &str, pg_type: PgType| -> FieldRef { pg_type.field(name, true) };
    let mut fields = vec![field("hw_epoch", PgType::Int8), field("hw_time", PgType::Timestamptz)];
    if progress {
        fields.push(field("hw_progressed", PgType::Bool));
    }
    fields.push(field("hw_weight", PgType::Int8));
    fields.extend(columns.iter().map(|column| Arc::new(column.as_ref().clone().with_nullable(true))));
    fields
}

/// The rows; they end when `end` says so, with an error, or never.
pub fn stream(subscription: Subscription) -> SendableRecordBatchStream {
    let schema: SchemaRef = Arc::new(Schema::new(fields(&subscription.columns, subscription.progress)));
    let progress = subscription.progress;
    let Subscription { relation, name, columns, snapshot, from, gap, hold, worlds, end, place, kept, .. } =
        subscription;
    let running = Running {
        shape: Shape { schema: schema.clone(), columns: columns.len(), progress },
        relation,
        name,
        snapshot,
        gap,
        place: from,
        told: None,
        hold,
        worlds,
        end,
        queue: VecDeque::new(),
        shown: place,
        _kept: kept,
    };
    let batches = futures::stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.next().await {
            Ok(Some(batch)) => Some((Ok(batch), Some(running))),
            Ok(None) => None,
            Err(error) => Some((Err(DataFusionError::from(error)), None)),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Running {
    shape: Shape,
    relation: RelationId,
    name: String,
    snapshot: Option<Arc<Vec<RecordBatch>>>,
    gap: Option<Changes>,
    /// All up to here is in the queue, or has been taken.
    place: Moment,
    /// When the client was last told of a place, and which.
    told: Option<(Instant, Epoch)>,
    hold: Hold,
    worlds: watch::Receiver<Arc<World>>,
    end: End,
    queue: VecDeque<Piece>,
    shown: Arc<AtomicU64>,
    _kept: Box<dyn Any + Send>,
}

/// What becomes a batch when it is taken.
enum Piece {
    Snapshot(Moment, RecordBatch),
    Changes(Changes),
    Rows(RecordBatch),
    Progress(Moment),
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(snapshot) = self.snapshot.take() {
            self.queue.extend(snapshot.iter().flat_map(cut).map(|rows| Piece::Snapshot(self.place, rows)));
            self.note_progress();
        } else if self.shape.progress && self.told.is_none() {
            self.note_progress();
        }
        if let Some(gap) = self.gap.take() {
            self.place = gap.epochs().last().map_or(self.place, |(at, _)| at);
            self.queue.push_back(Piece::Changes(gap));
            self.note_progress();
        }
        loop {
            match self.queue.pop_front() {
                Some(Piece::Snapshot(at, rows)) => return self.shape.snapshot(at, &rows).map(Some),
                Some(Piece::Rows(rows)) => return Ok(Some(rows)),
                Some(Piece::Progress(at)) => return self.shape.progressed(at).map(Some),
                Some(Piece::Changes(changes)) => {
                    let rows = self.shape.changes(&changes)?;
                    cut(&rows).rev().for_each(|piece| self.queue.push_front(Piece::Rows(piece)));
                }
                None => {
                    self.hold.advance(self.place.epoch);
                    self.shown.store(self.place.epoch.0, Ordering::Relaxed);
                    if !self.wait().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Fills the queue with what has come since. False: there is nothing more to come.
    async fn wait(&mut self) -> Result<bool> {
        loop {
            let world = self.worlds.borrow_and_update().clone();
            let last = match &self.end {
                End::At(epoch) => Some(*epoch),
                _ => None,
            };
            if last.is_some_and(|last| self.place.epoch >= last) {
                return Ok(false);
            }
            if !world.snapshots.contains_key(&self.relation) {
                let message = format!("relation \"{}\" was dropped or replaced, or has failed", self.name);
                return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .with_hint("subscribe again to what is there now"));
            }
            let through = last.map_or(world.epoch, |last| last.min(world.epoch));
            if through > self.place.epoch {
                let changes = self.hold.changes(through).ok_or_else(|| too_slow(&self.name, self.place.epoch))?;
                self.place = match through == world.epoch {
                    true => world.moment(),
                    false => Moment { epoch: through, ..world.timeline.of(through).unwrap_or(world.moment()) },
                };
                if !changes.is_empty() {
                    self.queue.extend(changes.into_iter().map(Piece::Changes));
                    self.note_progress();
                    return Ok(true);
                }
                self.hold.advance(through);
                self.shown.store(through.0, Ordering::Relaxed);
                if last == Some(through) {
                    self.note_progress();
                    return Ok(!self.queue.is_empty());
                }
            }
            // Something else goes on: now and then that is told, too.
            let due = match self.told {
                Some((at, epoch)) if self.shape.progress && epoch < self.place.epoch => Some(at + PROGRESS_EVERY),
                _ => None,
            };
            let progress_is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let ended = async {
                match &mut self.end {
                    End::Later(epoch) => epoch.await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.worlds.changed() => if changed.is_err() {
                    return Err(Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down"));
                },
                epoch = ended => self.end = End::At(epoch?),
                () = progress_is_due => {
                    self.note_progress();
                    return Ok(true);
                }
            }
        }
    }

    fn note_progress(&mut self) {
        if self.shape.progress {
            self.told = Some((Instant::now(), self.place.epoch));
            self.queue.push_back(Piece::Progress(self.place));
        }
    }
}

/// 53400.
fn too_slow(name: &str, place: Epoch) -> Error {
    let message = format!("the subscriber to \"{name}\" does not keep up: what it has not taken is no longer kept");
    Error::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
        .with_detail(format!("It has taken all changes up to epoch {place}."))
        .with_hint(
            "take rows faster, or give the relation a retention and go on with AS OF that epoch; subscriber_memory_bytes \
             in the server's configuration says how much is kept for one",
        )
}

fn cut(batch: &RecordBatch) -> impl DoubleEndedIterator<Item = RecordBatch> {
    let row_count = batch.num_rows();
    let starts = (0..row_count.div_ceil(BATCH_ROW_COUNT_MAX)).map(|piece| piece * BATCH_ROW_COUNT_MAX);
    let batch = batch.clone();
    starts.map(move |start| batch.slice(start, BATCH_ROW_COUNT_MAX.min(row_count - start)))
}

/// How rows are told.
struct Shape {
    schema: SchemaRef,
    columns: usize,
    progress: bool,
}

impl Shape {
    fn snapshot(&self, at: Moment, rows: &RecordBatch) -> Result<RecordBatch> {
        let epochs = Int64Array::from(vec![at.epoch.0 as i64; rows.num_rows()]);
        let times = vec![at.at_us; rows.num_rows()];
        let weights = Int64Array::from(vec![1; rows.num_rows()]);
        self.batch(epochs, times, weights, &rows.columns()[..self.columns])
    }

    /// Added up by epoch, retractions before insertions.
    fn changes(&self, changes: &Changes) -> Result<RecordBatch> {
        let mut epochs = Vec::with_capacity(changes.delta.row_count());
        let mut instants = vec![];
        for (at, rows) in changes.epochs() {
            epochs.extend(std::iter::repeat_n(at.epoch.0 as i64, rows.len()));
            instants.push((at.epoch.0 as i64, at.at_us));
        }
        let told = &changes.delta.batch().columns()[..self.columns];
        let number = Arc::new(Field::new("epoch", arrow::datatypes::DataType::Int64, false));
        let own = changes.delta.schema();
        let fields: Vec<FieldRef> =
            std::iter::once(number).chain(own.fields()[..self.columns].iter().cloned()).collect();
        let epochs: ArrayRef = Arc::new(Int64Array::from(epochs));
        let columns = std::iter::once(epochs).chain(told.iter().cloned()).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let delta = changes.delta.with_batch(batch).consolidate()?;
        let epoch_of = delta.column(0).as_primitive::<Int64Type>().values().clone();
        let mut order: Vec<u32> = (0..delta.row_count() as u32).collect();
        order.sort_by_key(|&row| (epoch_of[row as usize], delta.weight(row as usize) > 0));
        let delta: Delta = delta.take(&UInt32Array::from(order))?;
        let epochs = delta.column(0).as_primitive::<Int64Type>().clone();
        let instant = |epoch: &i64| {
            let place = instants.binary_search_by_key(epoch, |(epoch, _)| *epoch);
            place.map(|place| instants[place].1).expect("each row is of one of the epochs")
        };
        let times = epochs.values().iter().map(instant).collect();
        let weights = (0..delta.row_count()).map(|row| delta.weight(row)).collect::<Vec<_>>();
        self.batch(epochs, times, weights.into(), &delta.batch().columns()[1..])
    }

    fn progressed(&self, at: Moment) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![at.epoch.0 as i64])),
            Arc::new(TimestampMicrosecondArray::from(vec![at.at_us]).with_timezone("UTC")),
            Arc::new(BooleanArray::from(vec![true])),
        ];
        let told = columns.len();
        columns.extend(self.schema.fields()[told..].iter().map(|field| new_null_array(field.data_type(), 1)));
        self.conform(columns)
    }

    fn batch(
        &self,
        epochs: Int64Array,
        times: Vec<i64>,
        weights: Int64Array,
        rows: &[ArrayRef],
    ) -> Result<RecordBatch> {
        let row_count = epochs.len();
        let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![Arc::new(epochs), Arc::new(times)];
        if self.progress {
            columns.push(Arc::new(BooleanArray::from(vec![false; row_count])));
        }
        columns.push(Arc::new(weights));
        columns.extend(rows.iter().cloned());
        self.conform(columns)
    }

    /// What a view holds may be carried in another type than the client was told of it.
    fn conform(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        conform(columns, &self.schema)
    }
}

/// The columns in the types of the schema.
pub fn conform(columns: Vec<ArrayRef>, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns =
        columns.into_iter().zip(schema.fields()).map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(column),
            false => arrow::compute::cast(&column, field.data_type()),
        });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}
