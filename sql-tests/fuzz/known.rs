//! What is no finding, and why.

/// A part of a message, and the reason.
pub type Known = (&'static str, &'static str);

/// What PostgreSQL refuses and we do: such a query is held against its own SQL only.
pub const POSTGRES_REFUSES: &[Known] =
    &[("FULL JOIN is only supported with merge-joinable or hash-joinable join conditions", "a nested loop does it")];

/// What PostgreSQL answers and we do not yet, ad hoc: DataFusion's limits. Listed with a query, and not a failure.
pub const AD_HOC_FAILS: &[Known] = &[];

/// `0A000` says by name that a construct is not supported; it is counted and listed.
pub fn is_refusal(code: &str) -> bool {
    code == "0A000"
}

pub fn is_known(list: &[Known], message: &str) -> bool {
    list.iter().any(|(part, _)| message.contains(part))
}
