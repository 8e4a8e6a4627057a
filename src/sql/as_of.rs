//! `relation FOR SYSTEM_TIME AS OF expression`: the rows that the relation had at an instant.
//!
//! The grammar has no place for it, and the planner tells scans apart by name alone; so the name says it: the parser
//! ([`super::parser`]) reads such a relation as one whose name ends with the clause, under the alias of its own name. Whoever
//! looks a name up splits it again. The expression stays text until a statement is run, and is evaluated once for it.

/// What stands between a name and an expression. The invisible character keeps it apart from any name in use.
const CLAUSE: &str = " \u{2060}FOR SYSTEM_TIME AS OF ";

/// The name of a relation as of an instant; of the relation itself where there is none.
pub fn name_at(relation: &str, instant: Option<&str>) -> String {
    instant.map_or_else(|| relation.to_string(), |instant| format!("{relation}{CLAUSE}{instant}"))
}

/// The relation, and the expression of the instant.
pub fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once(CLAUSE).map_or((name, None), |(relation, instant)| (relation, Some(instant)))
}
