//! What is no finding, and why.

/// A part of a message, and the reason.
pub type Known = (&'static str, &'static str);

/// What PostgreSQL refuses and we do: such a query is held against its own SQL only.
pub const POSTGRES_REFUSES: &[Known] =
    &[("FULL JOIN is only supported with merge-joinable or hash-joinable join conditions", "a nested loop does it")];

/// What PostgreSQL answers and we do not yet, ad hoc: DataFusion's limits. Listed with a query, and not a failure.
pub const AD_HOC_FAILS: &[Known] = &[
    ("correlated scalar subquery can only be used in", "a scalar subquery in the list of DISTINCT ON"),
    ("is too large to store in a Decimal128", "lag's default is given the scale and precision of a literal before it"),
    (
        "missing FROM-clause entry for table",
        "a function of sets over the row before it, inside of a correlated subquery",
    ),
];

/// `0A000` says by name that a construct is not supported; it is counted and listed.
pub fn is_refusal(code: &str) -> bool {
    code == "0A000"
}

pub fn is_known(list: &[Known], message: &str) -> bool {
    list.iter().any(|(part, _)| message.contains(part))
}
