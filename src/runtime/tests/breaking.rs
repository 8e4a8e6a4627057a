//! A store that breaks at any operation, for good or for a while, in the middle of a segment, or right after a commit that
//! it then denies: what comes back is what was acknowledged, and views go on from their checkpoint.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::state::StoreBatch;
use crate::state::store::{Block, EachPair, MemoryStore, SegmentWriter};

/// Breaks after some operations that write; after some more that fail it works again, if it ever does.
struct BreakingStore {
    inner: Arc<MemoryStore>,
    countdown: AtomicI64,
    failure_count: i64,
    /// The first commit that fails has happened nevertheless.
    denies: bool,
}

impl BreakingStore {
    /// `Err` while it is broken; the value says whether this is the first failure.
    fn operate(&self) -> std::result::Result<(), bool> {
        let left = self.countdown.fetch_sub(1, Ordering::SeqCst);
        if left > 0 || left <= -self.failure_count { Ok(()) } else { Err(left == 0) }
    }
}

fn broken() -> Error {
    Error::new(SqlState::IO_ERROR, "the disk is broken")
}

impl Store for BreakingStore {
    fn commit(&self, batch: StoreBatch) -> Result<()> {
        match self.operate() {
            Ok(()) => self.inner.commit(batch),
            Err(is_first) => {
                if is_first && self.denies {
                    self.inner.commit(batch)?;
                }
                Err(broken())
            }
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get(key)
    }

    fn scan(&self, prefix: &[u8], each: &mut EachPair<'_>) -> Result<()> {
        self.inner.scan(prefix, each)
    }

    fn create_segment(&self, number: u64) -> Result<Box<dyn SegmentWriter + '_>> {
        self.operate().map_err(|_| broken())?;
        Ok(Box::new(BreakingWriter { store: self, inner: Some(self.inner.create_segment(number)?) }))
    }

    fn read_block(&self, block: Block) -> Result<Vec<u8>> {
        self.inner.read_block(block)
    }

    fn segments(&self) -> Result<Vec<(u64, u64)>> {
        self.inner.segments()
    }

    fn scratch_file(&self) -> Result<std::fs::File> {
        self.operate().map_err(|_| broken())?;
        self.inner.scratch_file()
    }

    fn remove_segment(&self, number: u64) -> Result<()> {
        self.operate().map_err(|_| broken())?;
        self.inner.remove_segment(number)
    }

    fn backup(&self, directory: &std::path::Path) -> Result<()> {
        self.inner.backup(directory)
    }
}

/// What it has taken stays, though it is never finished.
struct BreakingWriter<'a> {
    store: &'a BreakingStore,
    inner: Option<Box<dyn SegmentWriter + 'a>>,
}

impl SegmentWriter for BreakingWriter<'_> {
    fn append(&mut self, block: &[u8]) -> Result<Block> {
        match (self.store.operate(), &mut self.inner) {
            (Ok(()), Some(inner)) => inner.append(block),
            _ => Err(broken()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.store.operate().map_err(|_| broken())?;
        self.inner.take().map_or(Ok(()), |inner| inner.finish())
    }
}

impl Drop for BreakingWriter<'_> {
    fn drop(&mut self) {
        if let Some(torn) = self.inner.take() {
            // Half of a segment, under its name.
            let _ = torn.finish();
        }
    }
}

const VIEWS: &[RelationId] = &[BY_KEY, JOINED, COUNTS];

/// One life of an engine: until the store breaks, or for some rounds. Returns what the tables may hold.
async fn live(store: Arc<dyn Store>, random: &mut StdRng, models: Vec<Model>, seed: u64) -> Result<Vec<Model>> {
    let worker_count = random.random_range(1..=2);
    // Half of them lets go of whatever is saved.
    let memory = Arc::new(Memory::new(random.random_bool(0.5).then_some(1 << 10)));
    let Ok(runtime) = Runtime::start(worker_count, store, tables(), VIEWS, Some(Duration::ZERO), 1 << 20, memory)
    else {
        return Ok(models);
    };
    if make_views(&runtime).await.is_err() {
        runtime.shutdown().await;
        return Ok(models);
    }
    let found = (rows(&runtime.world(), T)?, rows(&runtime.world(), U)?);
    let is_there = |model: &Model| (&model.t, &model.u) == (&found.0, &found.1);
    let mut models: Vec<Model> = models.into_iter().filter(is_there).collect();
    assert!(!models.is_empty(), "the tables hold what was never written, seed {seed}");
    let mut model = models.swap_remove(0);
    check(&runtime, &model, seed)?;
    for _ in 0..random.random_range(1..40) {
        let mut next = model.clone();
        match runtime.write(next.change(random)).await {
            Ok(_) => {
                model = next;
                check(&runtime, &model, seed)?;
            }
            // It is not there now. Whether it is when the store is opened again, nobody knows.
            Err(_) => {
                check(&runtime, &model, seed)?;
                runtime.shutdown().await;
                return Ok(vec![model, next]);
            }
        }
    }
    runtime.shutdown().await;
    Ok(vec![model])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_store_breaks() -> Result<()> {
    let (mut broken_count, mut life_count) = (0, 0);
    for seed in 0..25 {
        let mut random = StdRng::seed_from_u64(seed);
        let inner = Arc::new(MemoryStore::default());
        let mut models = vec![Model::default()];
        for _ in 0..5 {
            let store = Arc::new(BreakingStore {
                inner: inner.clone(),
                countdown: AtomicI64::new(random.random_range(1..200)),
                failure_count: if random.random_bool(0.5) { i64::MAX } else { random.random_range(1..6) },
                denies: random.random_bool(0.5),
            });
            models = live(store, &mut random, models, seed).await?;
            life_count += 1;
            broken_count += usize::from(models.len() > 1);
        }
        live(inner, &mut random, models, seed).await?;
    }
    println!("{life_count} lives, {broken_count} of which ended in a write that failed");
    assert!(broken_count > 40, "the store broke {broken_count} times");
    Ok(())
}
