//! Runs bound plans on threads of its own, so that a heavy query never stalls the wire.
//!
//! A query is one task: it optimises, plans, executes, and sends batches through a bounded channel. Whoever drops the
//! stream ends the task. All queries share one memory pool; one that wants too much fails with 53200. What they use counts
//! against the memory limit, so that operators make room for it.

use std::future::Future;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::endless::refuse_endless;
use crate::error::{Error, Result};
use crate::state::Memory;
use crate::state::memory::Holder;

/// Batches that wait for a slow client.
const BATCH_COUNT_MAX: usize = 2;
/// Of threads that bind and plan, which recurse over statements, plans and expressions; only what is used of it takes memory.
pub const STACK_BYTES: usize = 16 << 20;

pub struct QueryEngine {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    environment: Arc<RuntimeEnv>,
}

/// A pool whose use is told.
#[derive(Debug)]
struct CountedPool {
    pool: FairSpillPool,
    memory: Arc<Memory>,
}

impl CountedPool {
    fn tell(&self) {
        self.memory.set(Holder::Queries, self.pool.reserved() as u64);
    }
}

impl std::fmt::Display for CountedPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for CountedPool {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.tell();
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.tell();
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<(), DataFusionError> {
        self.pool.try_grow(reservation, additional)?;
        self.tell();
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

impl QueryEngine {
    /// `memory_bytes_max` bounds all running queries together. 58030 if threads cannot be had.
    pub fn new(thread_count: usize, memory_bytes_max: usize, memory: Arc<Memory>) -> Result<QueryEngine> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(thread_count)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| Error::new(crate::error::SqlState::IO_ERROR, format!("could not start query threads: {e}")))?;
        let pool = CountedPool { pool: FairSpillPool::new(memory_bytes_max), memory };
        let environment = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc()?;
        Ok(QueryEngine { runtime: Some(runtime), environment })
    }

    /// For session states whose queries run here.
    pub fn environment(&self) -> &Arc<RuntimeEnv> {
        &self.environment
    }

    pub fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime is taken only on drop").handle()
    }

    /// Plans and starts a query. Its scans read the [`super::ReadPoint`] attached to `state`. Dropping the future or
    /// the stream ends it.
    pub async fn run(&self, state: SessionState, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let (sender, receiver) = mpsc::channel(BATCH_COUNT_MAX);
        let (planned, started) = tokio::sync::oneshot::channel();
        let task = self.handle().spawn(async move {
            match start(&state, &plan).await {
                Ok(stream) => {
                    if planned.send(Ok(stream.schema())).is_ok() {
                        pump(stream, sender).await;
                    }
                }
                Err(error) => {
                    // Nobody waits any more: nobody to tell.
                    let _ = planned.send(Err(error));
                }
            }
        });
        let mut running = Running(task);
        let schema = match started.await {
            Ok(planned) => planned?,
            Err(_) => return Err(running.failure().await),
        };
        let batches = futures::stream::unfold(Some((running, receiver)), |state| async move {
            let (mut running, mut receiver) = state?;
            match receiver.recv().await {
                Some(Ok(batch)) => Some((Ok(batch), Some((running, receiver)))),
                Some(Err(error)) => Some((Err(error), None)),
                // A task that panicked closed its channel without a last word: never pass that off as the end.
                None => running.outcome().await.err().map(|error| (Err(DataFusionError::from(error)), None)),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    /// Runs a query to its end, for callers that need all its rows.
    pub async fn collect(&self, state: SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
        let mut stream = self.run(state, plan).await?;
        let mut batches = vec![];
        while let Some(batch) = stream.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }

    /// Waits for a future from a thread that may belong to another async runtime.
    pub fn block_on<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.handle().spawn(async move {
            // The receiver waits below until this is sent.
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| Error::internal("a start-up task panicked"))
    }
}

impl Drop for QueryEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May happen on an async thread, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

async fn start(state: &SessionState, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
    let plan = state.create_physical_plan(plan).await?;
    refuse_endless(&plan)?;
    Ok(execute_stream(plan, state.task_ctx())?)
}

async fn pump(mut stream: SendableRecordBatchStream, sender: mpsc::Sender<Result<RecordBatch, DataFusionError>>) {
    loop {
        let item = tokio::select! {
            _ = sender.closed() => return,
            item = stream.next() => item,
        };
        let Some(item) = item else { return };
        let failed = item.is_err();
        if sender.send(item).await.is_err() || failed {
            return;
        }
    }
}

/// A query's task; ends with this.
struct Running(JoinHandle<()>);

impl Running {
    async fn outcome(&mut self) -> Result<()> {
        (&mut self.0).await.map_err(|e| Error::internal(format!("the query ended abnormally: {e}")))
    }

    async fn failure(&mut self) -> Error {
        match self.outcome().await {
            Ok(()) => Error::internal("the query ended before it started"),
            Err(error) => error,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::logical_expr::{LogicalPlanBuilder, lit};

    use super::*;
    use crate::error::SqlState;

    fn engine() -> QueryEngine {
        QueryEngine::new(1, 64 << 20, Arc::default()).expect("threads can be started")
    }

    fn state(engine: &QueryEngine) -> SessionState {
        SessionStateBuilder::new().with_default_features().with_runtime_env(engine.environment().clone()).build()
    }

    #[tokio::test]
    async fn a_query_runs_elsewhere_and_its_rows_come_back() -> Result<()> {
        let engine = engine();
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1)], vec![lit(2)]])?.build()?;
        let batches = engine.collect(state(&engine), plan).await?;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        Ok(())
    }

    #[tokio::test]
    async fn an_error_of_a_row_keeps_its_sqlstate() -> Result<()> {
        let engine = engine();
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1), lit(0)]])?
            .project(vec![datafusion::logical_expr::col("column1") / datafusion::logical_expr::col("column2")])?
            .build()?;
        let error = engine.collect(state(&engine), plan).await.expect_err("one by zero has no answer");
        assert_eq!(error.code, SqlState::DIVISION_BY_ZERO);
        Ok(())
    }
}
