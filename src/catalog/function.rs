//! A function's definition, as it is kept: `CREATE FUNCTION … LANGUAGE SQL`.

use serde::{Deserialize, Serialize};

use super::QualifiedName;
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, RelationId};

/// Functions share the ids of relations, so that views depend on both alike; names they share with nobody. Two of one
/// name differ in how many arguments they take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Function {
    pub id: RelationId,
    pub name: QualifiedName,
    pub arguments: Vec<Argument>,
    pub returns: Returns,
    /// NULL for a NULL argument, without looking further.
    pub strict: bool,
    /// `i`, `s` or `v`, as its author says.
    pub volatility: char,
    /// One query; of `RETURN expression`, a SELECT of that expression.
    pub body: String,
    /// The whole CREATE statement.
    pub definition: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Argument {
    pub name: Option<String>,
    pub pg_type: PgType,
    /// The DEFAULT expression as SQL.
    pub default: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Returns {
    Value(PgType),
    /// SETOF a type: rows of one column.
    SetOf(PgType),
    /// TABLE (name type, …).
    Table(Vec<(String, PgType)>),
}

impl Function {
    /// True if it can be called with so many arguments.
    pub fn takes(&self, count: usize) -> bool {
        let required = self.arguments.iter().filter(|argument| argument.default.is_none()).count();
        (required..=self.arguments.len()).contains(&count)
    }

    /// `a integer, b text DEFAULT 'x'`.
    pub fn argument_list(&self, with_defaults: bool) -> String {
        let shown = |argument: &Argument| {
            let name = argument.name.as_ref().map_or_else(String::new, |name| format!("{name} "));
            let default = match &argument.default {
                Some(default) if with_defaults => format!(" DEFAULT {default}"),
                _ => String::new(),
            };
            format!("{name}{}{default}", argument.pg_type.name())
        };
        self.arguments.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// `f(integer, text)`, as messages name it.
    pub fn signature(&self) -> String {
        let types: Vec<String> = self.arguments.iter().map(|argument| argument.pg_type.name()).collect();
        format!("{}({})", self.name, types.join(", "))
    }

    /// `integer`, `SETOF text`, `TABLE(a integer)`.
    pub fn result(&self) -> String {
        match &self.returns {
            Returns::Value(pg_type) => pg_type.name(),
            Returns::SetOf(pg_type) => format!("SETOF {}", pg_type.name()),
            Returns::Table(columns) => {
                let columns: Vec<String> = columns.iter().map(|(name, t)| format!("{name} {}", t.name())).collect();
                format!("TABLE({})", columns.join(", "))
            }
        }
    }

    pub fn to_record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a function has only string keys")
    }

    /// XX001 if the record cannot be read.
    pub fn from_record(record: &[u8]) -> Result<Function> {
        serde_json::from_slice(record)
            .map_err(|e| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable catalog record: {e}")))
    }
}
