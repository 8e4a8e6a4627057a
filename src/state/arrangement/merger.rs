//! One thread that merges runs for all arrangements, so that nobody who writes waits for a big merge.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::{Layout, Run};
use crate::error::{Error, Result};

/// A merge under way; dropping it abandons the result.
#[derive(Debug)]
pub struct Merge {
    pub start: usize,
    pub count: usize,
    result: Mutex<Receiver<Result<Run>>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Merge {
    /// `start` is where `runs` stand in their arrangement.
    pub fn start(layout: Arc<Layout>, runs: Vec<Arc<Run>>, start: usize) -> Merge {
        let (done, result) = mpsc::channel();
        let count = runs.len();
        let job: Job = Box::new(move || {
            let merged = Run::merge(&layout, &runs).and_then(|run| {
                layout.indexes.iter().try_for_each(|columns| run.build_index(&layout, columns))?;
                Ok(run)
            });
            // Nobody listens any more if the relation was dropped meanwhile.
            let _ = done.send(merged);
        });
        if let Err(mpsc::SendError(job)) = queue().lock().send(job) {
            // The thread could not be had: merge here.
            job();
        }
        Merge { start, count, result: Mutex::new(result) }
    }

    /// Blocks until it is done.
    pub fn wait(&self) -> Result<Run> {
        self.result.lock().recv().unwrap_or_else(|_| Err(Error::internal("a merge was lost")))
    }

    /// `None` while it goes on.
    pub fn poll(&self) -> Option<Result<Run>> {
        match self.result.lock().try_recv() {
            Ok(result) => Some(result),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Err(Error::internal("a merge was lost"))),
        }
    }
}

fn queue() -> &'static Mutex<Sender<Job>> {
    static QUEUE: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    QUEUE.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("merger".to_string());
        // If the thread cannot start, `jobs` is dropped here and every send fails, which `Merge::start` handles.
        let _ = thread.spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    })
}
