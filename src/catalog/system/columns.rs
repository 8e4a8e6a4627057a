//! What the system relations look like: their columns, read once from plain text tables.
//!
//! In: `pg_catalog.txt`, `information_schema.txt` and `hw_catalog.txt`. Out: one [`Relation`] for each, in Postgres 15's column
//! order, with the Arrow schema that carries the Postgres types.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Schema, SchemaRef};

use crate::types::PgType;

/// A system relation: its place in `pg_class`, and its columns.
pub struct Relation {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: u32,
    /// `r` or `v`.
    pub relkind: char,
    /// What it says, in a few words.
    pub description: Option<&'static str>,
    pub columns: Vec<RelationColumn>,
    pub arrow: SchemaRef,
}

pub struct RelationColumn {
    pub name: &'static str,
    pub pg_type: PgType,
    /// As the text tables spell it; `None`: NULL.
    pub default: Option<&'static str>,
}

/// All system relations, in the order of the text tables.
pub fn relations() -> &'static [Relation] {
    &RELATIONS
}

pub fn find(schema: &str, name: &str) -> Option<&'static Relation> {
    BY_NAME.get(&(schema, name)).map(|i| &RELATIONS[*i])
}

static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| {
    let mut relations = parse("pg_catalog", include_str!("pg_catalog.txt"));
    relations.extend(parse("information_schema", include_str!("information_schema.txt")));
    relations.extend(parse("hw_catalog", include_str!("hw_catalog.txt")));
    relations
});

static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), usize>> =
    LazyLock::new(|| RELATIONS.iter().enumerate().map(|(i, r)| ((r.schema, r.name), i)).collect());

fn parse(schema: &'static str, text: &'static str) -> Vec<Relation> {
    let mut relations: Vec<Relation> = vec![];
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if line.starts_with(' ') {
            let relation = relations.last_mut().expect("columns follow the line that opens their relation");
            relation.columns.extend(line.trim_start().split(", ").map(column));
        } else {
            let (line, description) = match line.split_once(" -- ") {
                Some((line, description)) => (line, Some(description)),
                None => (line, None),
            };
            let mut words = line.split(' ');
            let mut word = || words.next().expect("a relation opens with OID, kind and name");
            let oid = word().parse().expect("an OID is a number");
            let relkind = if word() == "r" { 'r' } else { 'v' };
            let name = word();
            let arrow = Arc::new(Schema::empty());
            relations.push(Relation { schema, name, oid, relkind, description, columns: vec![], arrow });
        }
    }
    for relation in &mut relations {
        relation.arrow =
            Arc::new(Schema::new(relation.columns.iter().map(|c| c.pg_type.field(c.name, true)).collect::<Vec<_>>()));
    }
    relations
}

fn column(text: &'static str) -> RelationColumn {
    let (name, rest) = text.split_once(' ').expect("a column has a name and a type");
    let (type_name, default) = match rest.split_once('=') {
        Some((type_name, default)) => (type_name, Some(default.trim_start_matches('\\'))),
        None => (rest, None),
    };
    RelationColumn { name, pg_type: pg_type(type_name), default }
}

fn pg_type(name: &str) -> PgType {
    if let Some(item) = name.strip_suffix("[]") {
        return PgType::Array(Box::new(pg_type(item)));
    }
    match name {
        "bool" => PgType::Bool,
        "int2" => PgType::Int2,
        "int4" => PgType::Int4,
        "int8" => PgType::Int8,
        "float4" => PgType::Float4,
        "float8" => PgType::Float8,
        "numeric" => PgType::Numeric(None),
        "oid" => PgType::Oid,
        // A transaction id has no type of its own here; all of them are zero or absent.
        "xid" => PgType::Oid,
        "regproc" => PgType::Regproc,
        "regtype" => PgType::Regtype,
        "name" => PgType::Name,
        "char" => PgType::Char,
        "text" => PgType::Text,
        "jsonb" => PgType::Jsonb,
        "varchar" => PgType::Varchar(None),
        "bytea" => PgType::Bytea,
        "timestamptz" => PgType::Timestamptz,
        "interval" => PgType::Interval,
        "int2vector" => PgType::Int2vector,
        "oidvector" => PgType::Oidvector,
        other => unreachable!("the text tables name a type that is not known: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_tables_are_whole() {
        let relation = find("pg_catalog", "pg_class").expect("pg_class is there");
        assert_eq!(relation.columns.len(), 33);
        assert_eq!(find("pg_catalog", "pg_attribute").map(|r| r.columns.len()), Some(26));
        assert_eq!(find("pg_catalog", "pg_type").map(|r| r.columns.len()), Some(32));
        assert_eq!(find("information_schema", "columns").map(|r| r.columns.len()), Some(44));
        let mut oids: Vec<u32> = relations().iter().map(|r| r.oid).collect();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), relations().len(), "every relation has an OID of its own");
    }
}
