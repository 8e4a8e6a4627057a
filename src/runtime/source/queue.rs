//! The bounded queue between a source thread and the sequencer. The sequencer never waits; the thread does, when the
//! queue is full.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::SourceEvent;

const QUEUE_BYTES_MAX: usize = 64 << 20;

pub struct Queue {
    state: Mutex<State>,
    /// Told when there is room, and when the queue is stopped.
    room: Condvar,
    ended: Condvar,
    row_count_max: usize,
}

#[derive(Default)]
struct State {
    events: VecDeque<(SourceEvent, Size)>,
    total: Size,
    is_stopped: bool,
    /// The thread is gone.
    is_ended: bool,
}

#[derive(Clone, Copy, Default)]
struct Size {
    row_count: usize,
    bytes: usize,
}

impl Size {
    fn of(event: &SourceEvent) -> Size {
        match event {
            SourceEvent::Batch(batch) => Size {
                row_count: batch.rows.num_rows(),
                bytes: batch.rows.get_array_memory_size() + batch.bad_records.len() * 256,
            },
            _ => Size::default(),
        }
    }
}

impl Queue {
    pub fn new(row_count_max: usize) -> Queue {
        Queue { state: Mutex::default(), room: Condvar::new(), ended: Condvar::new(), row_count_max }
    }

    /// Waits for room; `false` if the queue was stopped.
    pub fn push(&self, event: SourceEvent) -> bool {
        let size = Size::of(&event);
        let mut state = self.state.lock();
        // At least one batch always fits, so that a bound of any size lets rows pass.
        while !state.is_stopped && state.total.row_count > 0 && self.is_full(&state.total, &size) {
            self.room.wait(&mut state);
        }
        if state.is_stopped {
            return false;
        }
        state.add(event, size);
        true
    }

    /// For a last word: there is always room for it.
    pub fn push_now(&self, event: SourceEvent) {
        self.state.lock().add(event, Size::default());
    }

    fn is_full(&self, total: &Size, more: &Size) -> bool {
        total.row_count + more.row_count > self.row_count_max || total.bytes + more.bytes > QUEUE_BYTES_MAX
    }

    pub fn pop(&self) -> Option<SourceEvent> {
        let mut state = self.state.lock();
        let (event, size) = state.events.pop_front()?;
        state.total.row_count -= size.row_count;
        state.total.bytes -= size.bytes;
        if size.row_count > 0 {
            self.room.notify_one();
        }
        Some(event)
    }

    #[cfg(test)]
    pub fn row_count(&self) -> usize {
        self.state.lock().total.row_count
    }

    pub fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Returns at once if the queue is stopped: `false`.
    pub fn sleep(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut state = self.state.lock();
        while !state.is_stopped && !self.room.wait_until(&mut state, deadline).timed_out() {}
        !state.is_stopped
    }

    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopped = true;
        state.events.clear();
        state.total = Size::default();
        self.room.notify_all();
    }

    pub fn end(&self) {
        self.state.lock().is_ended = true;
        self.ended.notify_all();
    }

    pub fn wait_until_ended(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.is_ended && !self.ended.wait_until(&mut state, deadline).timed_out() {}
        state.is_ended
    }
}

impl State {
    fn add(&mut self, event: SourceEvent, size: Size) {
        self.total.row_count += size.row_count;
        self.total.bytes += size.bytes;
        self.events.push_back((event, size));
    }
}
