//! COPY: rows in bulk, in and out.
//!
//! ```text
//! pieces ──split (text | csv | binary)──▶ fields ──input functions──▶ Rows ──one write──▶ table
//! table or query ──batches──▶ encode (text | csv | binary) ──▶ lines
//! ```
//!
//! A COPY FROM is one change: it is written when the client ends it, all of it or nothing.

mod binary;
mod export;
mod import;
mod rows;
mod split;

use super::dml::Target;
use super::limits::{Busy, Limits};
use super::{Outcome, Session};
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::OnConflict;
use crate::sql::{Copy, CopyDirection, CopyFormat, CopySubject, Name};
use import::Import;

/// A COPY … FROM STDIN under way.
pub struct CopyIn {
    pub column_count: usize,
    pub binary: bool,
    import: Import,
    limits: Limits,
    busy: Busy,
}

impl Session {
    pub(super) async fn copy(&mut self, copy: &Copy, limits: Limits, busy: Busy) -> Result<Outcome> {
        match (copy.direction, &copy.subject) {
            (CopyDirection::FromStdin, CopySubject::Table { name, columns }) => {
                self.require_writable("COPY FROM")?;
                let catalog = self.shared.catalog();
                let id = self.resolver(catalog.clone()).dml_target(name)?.id;
                let target = Target::of(&catalog, id)?;
                let columns = column_indices(&target, columns)?;
                let binary = copy.options.format == CopyFormat::Binary;
                let column_count = columns.len();
                let bytes_max = self.shared.config.query_memory_bytes_max;
                let import = Import::new(target, columns, copy.options.clone(), self.time_zone(), bytes_max);
                Ok(Outcome::CopyIn(Box::new(CopyIn { column_count, binary, import, limits, busy })))
            }
            (CopyDirection::FromStdin, CopySubject::Query(_) | CopySubject::Subscribe(_)) => {
                Err(Error::new(SqlState::SYNTAX_ERROR, "COPY FROM takes a table, not a query"))
            }
            (CopyDirection::ToStdout, subject) => self.copy_out(subject, &copy.options, limits, busy).await,
        }
    }

    /// Takes the next piece of the client's data. An error ends the copy; what follows may be fed and is passed over.
    pub async fn copy_in(&mut self, copy: &mut CopyIn, data: &[u8]) -> Result<()> {
        let fed = async { copy.import.feed(data) };
        let result = copy.limits.guard(fed).await;
        if result.is_err() {
            self.fail_transaction();
        }
        result
    }

    /// Ends the copy; the tag is `COPY n`.
    pub async fn copy_done(&mut self, copy: Box<CopyIn>) -> Result<String> {
        let CopyIn { import, mut limits, mut busy, .. } = *copy;
        let result = self.write_import(import, &mut limits).await;
        if result.is_err() {
            self.fail_transaction();
        }
        busy.status = self.transaction_status();
        Ok(format!("COPY {}", result?))
    }

    async fn write_import(&mut self, import: Import, limits: &mut Limits) -> Result<usize> {
        let imported = import.finish()?;
        let target = imported.target;
        let row_count = imported.row_count;
        let mut columns = imported.columns;
        for index in 0..target.columns.len() {
            if columns[index].is_none() {
                columns[index] = Some(limits.guard(self.default_values(&target, index, row_count)).await?);
            }
        }
        let proposed = rows::batch(&target, columns.into_iter().flatten().collect(), row_count)?;
        let mut attempt = 0;
        loop {
            let effect = self.insert(&target, proposed.clone(), &OnConflict::Error, None)?;
            match self.apply(&target, effect.delta).await {
                Ok(()) => return Ok(row_count),
                Err(error) => self.back_off(error, &mut attempt).await?,
            }
        }
    }

    /// The client gave up (CopyFail), or an error ended it.
    pub fn copy_fail(&mut self, mut copy: Box<CopyIn>) {
        self.fail_transaction();
        copy.busy.status = self.transaction_status();
    }
}

/// 42703 for an unknown column, 42701 for one named twice; none named: all.
fn column_indices(target: &Target, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..target.columns.len()).collect());
    }
    let mut indices = vec![];
    for name in names {
        let index = target.columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", target.name);
            Error::new(SqlState::UNDEFINED_COLUMN, message)
        })?;
        if indices.contains(&index) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
        }
        indices.push(index);
    }
    Ok(indices)
}

/// A table's columns, quoted, as a query would name them.
pub(super) fn select_text(name: &Name, columns: &[String]) -> String {
    use crate::catalog::functions::quote_identifier;
    let list: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
    let list = if list.is_empty() { "*".to_string() } else { list.join(", ") };
    match &name.schema {
        Some(schema) => format!("SELECT {list} FROM {}.{}", quote_identifier(schema), quote_identifier(&name.name)),
        None => format!("SELECT {list} FROM {}", quote_identifier(&name.name)),
    }
}
