//! One pass over the files of a source, in the order of their names.

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use super::FilesConnector;
use super::lines::LineFile;
use super::listing::Listed;
use super::parquet::ParquetFile;
use crate::connectors::{Chunk, Framing, Polled, Reader};
use crate::error::Result;
use crate::types::Position;

/// What one step on a file came to.
pub enum Step {
    Chunk(Chunk),
    /// Nothing for now; a followed file may grow.
    AtEnd,
    /// Nothing will come from it.
    End,
}

/// How often a followed directory is listed.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// How often followed files are looked at, and how much longer for each of them.
const GROWTH_INTERVAL: Duration = Duration::from_millis(10);
const GROWTH_INTERVAL_PER_FILE: Duration = Duration::from_micros(50);

pub struct FilesReader {
    connector: FilesConnector,
    /// The projected columns.
    schema: SchemaRef,
    from: Position,
    until: Option<Position>,
    /// By partition name.
    files: Vec<Tracked>,
    listed_at: Option<Instant>,
    looked_at: Instant,
}

struct Tracked {
    partition: String,
    state: State,
}

enum State {
    Pending(Listed),
    Reading(Stream),
    /// At its end for now.
    Waiting(Stream),
    Done,
}

enum Stream {
    Lines(Box<LineFile>),
    Parquet(Box<ParquetFile>),
}

impl Stream {
    fn step(&mut self) -> Result<Step> {
        match self {
            Stream::Lines(file) => file.step(),
            Stream::Parquet(file) => file.step(),
        }
    }

    fn has_grown(&self) -> Result<bool> {
        match self {
            Stream::Lines(file) => file.has_grown(),
            // It was not complete; whether it is now shows when it is opened.
            Stream::Parquet(_) => Ok(true),
        }
    }
}

impl FilesReader {
    pub fn new(
        connector: FilesConnector,
        from: &Position,
        until: Option<&Position>,
        projection: &[usize],
    ) -> Result<FilesReader> {
        let schema = std::sync::Arc::new(connector.schema.project(projection)?);
        let mut reader = FilesReader {
            connector,
            schema,
            from: from.clone(),
            until: until.cloned(),
            files: vec![],
            listed_at: None,
            looked_at: Instant::now(),
        };
        reader.list()?;
        Ok(reader)
    }

    fn is_following(&self) -> bool {
        self.connector.is_following && self.until.is_none()
    }

    /// Adds the files that are new. With an end in sight, only those that it names.
    fn list(&mut self) -> Result<()> {
        self.listed_at = Some(Instant::now());
        let listed = self.connector.list()?;
        let is_missing = |partition: &&String| !listed.iter().any(|file| file.partition == **partition);
        let missing = match &self.until {
            // Bytes are due that nobody can read any more.
            Some(until) => {
                let is_due = |(partition, end): &(&String, &u64)| self.from.get(partition).unwrap_or(0) < **end;
                until.0.iter().filter(is_due).map(|(partition, _)| partition).find(is_missing)
            }
            // Of a file that was begun nobody knows whether it was finished; of one that was not, it is plain.
            None if !self.connector.is_following => {
                self.from.0.iter().filter(|(_, offset)| **offset == 0).map(|(partition, _)| partition).find(is_missing)
            }
            None => None,
        };
        if let Some(partition) = missing {
            return Err(super::gone(partition, &self.connector.path));
        }
        for file in listed {
            let is_wanted = self.until.as_ref().is_none_or(|until| until.get(&file.partition).is_some());
            if let Err(place) = self.files.binary_search_by(|tracked| tracked.partition.cmp(&file.partition))
                && is_wanted
            {
                self.files.insert(place, Tracked { partition: file.partition.clone(), state: State::Pending(file) });
            }
        }
        Ok(())
    }

    fn open(&self, Listed { partition, path }: Listed) -> Stream {
        let from = self.from.get(&partition).unwrap_or(0);
        let until = self.until.as_ref().map(|until| until.get(&partition).unwrap_or(0));
        let connector = &self.connector;
        let is_following = connector.is_following;
        match connector.framing {
            Framing::Parquet => {
                let schema = self.schema.clone();
                Stream::Parquet(Box::new(ParquetFile::new(partition, path, schema, is_following, from, until)))
            }
            framing => {
                let compression = connector.compression_of(&path);
                Stream::Lines(Box::new(LineFile::new(partition, path, compression, framing, is_following, from, until)))
            }
        }
    }

    /// The next chunk of any file that has one now.
    fn step(&mut self) -> Result<Option<Chunk>> {
        let growth_interval = GROWTH_INTERVAL + GROWTH_INTERVAL_PER_FILE * self.files.len() as u32;
        let is_look_due = self.looked_at.elapsed() >= growth_interval;
        if is_look_due {
            self.looked_at = Instant::now();
        }
        for index in 0..self.files.len() {
            if let State::Pending(listed) = &self.files[index].state {
                self.files[index].state = State::Reading(self.open(listed.clone()));
            }
            let state = &mut self.files[index].state;
            if let State::Waiting(stream) = state
                && is_look_due
                && stream.has_grown()?
                && let State::Waiting(stream) = std::mem::replace(state, State::Done)
            {
                *state = State::Reading(stream);
            }
            let State::Reading(stream) = state else { continue };
            match stream.step()? {
                Step::Chunk(chunk) => return Ok(Some(chunk)),
                Step::AtEnd => {
                    if let State::Reading(stream) = std::mem::replace(state, State::Done) {
                        *state = State::Waiting(stream);
                    }
                }
                Step::End => *state = State::Done,
            }
        }
        Ok(None)
    }
}

impl Reader for FilesReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.is_following() && self.listed_at.is_none_or(|at| at.elapsed() >= LIST_INTERVAL) {
                self.list()?;
            }
            if let Some(chunk) = self.step()? {
                return Ok(Polled::Chunk(chunk));
            }
            if !self.is_following() && self.files.iter().all(|file| matches!(file.state, State::Done)) {
                return Ok(Polled::Finished);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Polled::Idle);
            }
            std::thread::sleep(left.min(GROWTH_INTERVAL));
        }
    }

    /// Those that are being read or followed: a file that is done, or whose turn has not come, holds nothing back.
    fn partitions(&self) -> Vec<String> {
        let is_live = |file: &&Tracked| matches!(file.state, State::Reading(_) | State::Waiting(_));
        self.files.iter().filter(is_live).map(|file| file.partition.clone()).collect()
    }
}
