//! Transaction blocks: BEGIN, COMMIT, ROLLBACK, savepoints.
//!
//! Writes are staged as one consolidated delta for each table and go to the runtime in one atomic write on COMMIT. Each
//! statement reads the newest world with the staged writes over it: read committed. A block that is READ ONLY, REPEATABLE
//! READ or SERIALIZABLE holds the world of its first statement, so that all its queries read one epoch. DDL is not part of it: it takes
//! effect at once, and the client is told so.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};

use super::settings::Settings;
use super::{Outcome, Session, TransactionStatus};
use crate::error::{Error, Result, SqlState};
use crate::runtime::TableWrite;
use crate::state::World;
use crate::types::{Delta, RelationId};

/// What a transaction changes, by table.
pub type Writes = BTreeMap<RelationId, Delta>;

/// No block: each statement commits by itself.
#[derive(Default)]
pub struct Transaction {
    block: Option<Block>,
}

struct Block {
    failed: bool,
    /// Around the statements of one message; ends with it, and BEGIN makes it a block of the client's.
    implicit: bool,
    read_only: bool,
    writes: Writes,
    savepoints: Vec<Savepoint>,
    settings_before: Settings,
    /// The client was told that DDL is not rolled back.
    ddl_noticed: bool,
    started: DateTime<Utc>,
    /// What all statements of a block that holds its epoch read, once the first has.
    world: OnceLock<Arc<World>>,
}

struct Savepoint {
    name: String,
    writes: Writes,
    settings: Settings,
}

impl Transaction {
    pub fn status(&self) -> TransactionStatus {
        match &self.block {
            None => TransactionStatus::Idle,
            Some(block) if block.failed => TransactionStatus::Failed,
            Some(block) if block.implicit => TransactionStatus::Idle,
            Some(_) => TransactionStatus::Open,
        }
    }

    pub fn is_open(&self) -> bool {
        self.block.is_some()
    }

    pub fn fail(&mut self) {
        if let Some(block) = &mut self.block {
            block.failed = true;
        }
    }

    /// When the block began: what `now()` says in it.
    pub fn started(&self) -> Option<DateTime<Utc>> {
        self.block.as_ref().map(|block| block.started)
    }

    /// What a statement reads: what the block holds, if it holds an epoch; else the newest.
    pub fn held(&self, settings: &Settings, newest: impl FnOnce() -> Arc<World>) -> Arc<World> {
        let holds = |block: &&Block| {
            !block.implicit && (block.read_only || settings.transaction_read_only() || settings.holds_epoch())
        };
        match self.block.as_ref().filter(holds) {
            Some(block) => block.world.get_or_init(newest).clone(),
            None => newest(),
        }
    }

    pub fn is_read_only(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.read_only)
    }

    pub fn writes(&self) -> Option<&Writes> {
        self.block.as_ref().map(|block| &block.writes)
    }

    /// Adds a change to the block; false if there is none.
    pub fn stage(&mut self, table: RelationId, delta: &Delta) -> Result<bool> {
        let Some(block) = &mut self.block else { return Ok(false) };
        let staged = match block.writes.remove(&table) {
            None => delta.clone(),
            Some(earlier) => Delta::concat(&earlier.schema(), &[earlier, delta.clone()])?.consolidate()?,
        };
        if !staged.is_empty() {
            block.writes.insert(table, staged);
        }
        Ok(true)
    }

    /// Staged writes of tables that are dropped go with them.
    pub fn forget(&mut self, tables: &[RelationId]) {
        if let Some(block) = &mut self.block {
            block.writes.retain(|id, _| !tables.contains(id));
        }
    }

    /// True the first time in a client's block.
    pub fn notice_ddl(&mut self) -> bool {
        match &mut self.block {
            Some(block) if !block.implicit && !block.ddl_noticed => {
                block.ddl_noticed = true;
                true
            }
            _ => false,
        }
    }
}

impl Session {
    /// Around several statements of one message: they succeed or fail together, unless the client says BEGIN itself.
    pub fn begin_implicit(&mut self) {
        if self.transaction.block.is_none() {
            self.open_block(true, false);
        }
    }

    /// The message's end. After an error an implicit block is rolled back; a client's own block stays as it is.
    pub async fn end_implicit(&mut self) -> Result<()> {
        match &self.transaction.block {
            Some(block) if block.implicit => self.finish_block().await.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Writes what an implicit block has staged: definitions are not part of it and must find what stands before them.
    pub(super) async fn write_implicit(&mut self) -> Result<()> {
        match &mut self.transaction.block {
            Some(block) if block.implicit && !block.writes.is_empty() => {
                let writes = table_writes(std::mem::take(&mut block.writes));
                self.shared.runtime.write(writes).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin(&mut self, read_only: bool, isolation: Option<&str>) -> Result<Outcome> {
        match &mut self.transaction.block {
            Some(block) if block.implicit => {
                block.implicit = false;
                block.read_only |= read_only;
            }
            Some(_) => {
                self.warning(SqlState::ACTIVE_SQL_TRANSACTION, "there is already a transaction in progress");
            }
            None => self.open_block(false, read_only),
        }
        let mut settings = self.context.settings.lock();
        let by_default = settings.get("default_transaction_isolation");
        if let Some(level) = isolation.or(by_default.as_deref()) {
            settings.set("transaction_isolation", Some(level), true)?;
        }
        drop(settings);
        Ok(Outcome::Done { tag: "BEGIN".to_string() })
    }

    fn open_block(&mut self, implicit: bool, read_only: bool) {
        let settings_before = self.context.settings.lock().clone();
        self.transaction.block = Some(Block {
            failed: false,
            implicit,
            read_only: read_only || settings_before.default_transaction_read_only(),
            writes: Writes::new(),
            savepoints: vec![],
            settings_before,
            ddl_noticed: false,
            started: Utc::now(),
            world: OnceLock::new(),
        });
    }

    pub(super) async fn commit(&mut self) -> Result<Outcome> {
        let is_clients = self.transaction.block.as_ref().is_some_and(|block| !block.implicit);
        if !is_clients {
            self.warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress");
        }
        let committed = self.finish_block().await?;
        Ok(Outcome::Done { tag: if committed { "COMMIT" } else { "ROLLBACK" }.to_string() })
    }

    /// Writes what was staged; false if the block had failed and was rolled back.
    async fn finish_block(&mut self) -> Result<bool> {
        let Some(block) = self.transaction.block.take() else { return Ok(true) };
        self.cursors.retain(|_, cursor| cursor.hold && !block.failed);
        if block.failed {
            self.context.settings.lock().restore(block.settings_before);
            return Ok(false);
        }
        let writes = table_writes(block.writes);
        if !writes.is_empty()
            && let Err(error) = self.shared.runtime.write(writes).await
        {
            self.context.settings.lock().restore(block.settings_before);
            return Err(error);
        }
        self.context.settings.lock().end_transaction();
        Ok(true)
    }

    pub(super) fn rollback(&mut self) -> Outcome {
        match self.transaction.block.take() {
            None => self.warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress"),
            Some(block) => {
                if block.implicit {
                    self.warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, "there is no transaction in progress");
                }
                self.context.settings.lock().restore(block.settings_before);
                self.cursors.clear();
            }
        }
        Outcome::Done { tag: "ROLLBACK".to_string() }
    }

    pub(super) fn savepoint(&mut self, name: String) -> Result<Outcome> {
        let settings = self.context.settings.lock().clone();
        let block = self.clients_block("SAVEPOINT")?;
        block.savepoints.push(Savepoint { name, writes: block.writes.clone(), settings });
        Ok(Outcome::Done { tag: "SAVEPOINT".to_string() })
    }

    pub(super) fn release_savepoint(&mut self, name: &str) -> Result<Outcome> {
        let block = self.clients_block("RELEASE SAVEPOINT")?;
        let index = block.find_savepoint(name)?;
        block.savepoints.truncate(index);
        Ok(Outcome::Done { tag: "RELEASE".to_string() })
    }

    /// The savepoint stays; a failed block is open again.
    pub(super) fn rollback_to_savepoint(&mut self, name: &str) -> Result<Outcome> {
        let block = self.clients_block("ROLLBACK TO SAVEPOINT")?;
        let index = block.find_savepoint(name)?;
        block.savepoints.truncate(index + 1);
        let savepoint = &block.savepoints[index];
        block.writes = savepoint.writes.clone();
        block.failed = false;
        let settings = savepoint.settings.clone();
        self.context.settings.lock().restore(settings);
        Ok(Outcome::Done { tag: "ROLLBACK".to_string() })
    }

    /// 25P01 outside of a block.
    fn clients_block(&mut self, statement: &str) -> Result<&mut Block> {
        self.transaction.block.as_mut().filter(|block| !block.implicit).ok_or_else(|| {
            Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{statement} can only be used in transaction blocks"),
            )
        })
    }

    /// 25006 in a read-only transaction.
    pub(super) fn require_writable(&self, statement: &str) -> Result<()> {
        let settings = self.context.settings.lock();
        let read_only = match self.transaction.is_open() {
            true => self.transaction.is_read_only() || settings.transaction_read_only(),
            false => settings.default_transaction_read_only(),
        };
        if read_only {
            let message = format!("cannot execute {statement} in a read-only transaction");
            return Err(Error::new(SqlState("25006"), message));
        }
        Ok(())
    }

    /// Tells once in a block that ROLLBACK will not take this back.
    pub(super) fn notice_ddl(&mut self) {
        if self.transaction.notice_ddl() {
            self.notice(SqlState("00000"), "definitions take effect at once: ROLLBACK will not undo them");
        }
    }
}

fn table_writes(writes: Writes) -> Vec<TableWrite> {
    writes.into_iter().map(|(table, delta)| TableWrite { table, delta }).collect()
}

impl Block {
    /// The latest of this name. 3B001 if there is none.
    fn find_savepoint(&self, name: &str) -> Result<usize> {
        self.savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
            .ok_or_else(|| Error::new(SqlState::INVALID_SAVEPOINT, format!("savepoint \"{name}\" does not exist")))
    }
}
