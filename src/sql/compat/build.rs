//! Small pieces of syntax tree, and questions to ask of one.

use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use std::ops::ControlFlow;

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: list(arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub(super) fn list(arguments: Vec<Expr>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: arguments.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
        clauses: vec![],
    })
}

pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The type of row ids in the catalogs.
pub(super) fn oid() -> DataType {
    DataType::Custom(ObjectName::from(vec![Ident::new("oid")]), vec![])
}

pub(super) fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

pub(super) fn null_text() -> Expr {
    cast(null(), DataType::Text)
}

pub(super) fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).into())
}

pub(super) fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

/// Takes an expression out of its place, to be put back in another form.
pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

/// Calls `rewrite` on every expression of `node`, inner ones first, but for those of its subqueries, where a name may be
/// another's.
pub(super) fn rewrite_outside_subqueries(node: &mut impl VisitMut, rewrite: impl FnMut(&mut Expr)) {
    struct Outside<F> {
        depth: usize,
        rewrite: F,
    }
    impl<F: FnMut(&mut Expr)> VisitorMut for Outside<F> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if self.depth == 0 {
                (self.rewrite)(expr);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = node.visit(&mut Outside { depth: 0, rewrite });
}

/// The content of a string literal.
pub(super) fn string_literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        Expr::Nested(inner) => string_literal(inner),
        _ => None,
    }
}

/// An identifier as it is looked up: folded unless quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The parts of a name, folded; `None` if one is not a plain identifier.
pub(super) fn folded_parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(folded(ident)),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// The name of a function, without the schemas that hold built-in ones.
pub(super) fn function_name(name: &ObjectName) -> Option<String> {
    let mut parts = folded_parts(name)?;
    let last = parts.pop()?;
    matches!(parts.as_slice(), []).then_some(()).or_else(|| {
        (parts.len() == 1 && matches!(parts[0].as_str(), "pg_catalog" | "information_schema")).then_some(())
    })?;
    Some(last)
}

/// The arguments of a call in the plain form `f(a, b)`.
pub(super) fn plain_arguments(arguments: &[FunctionArg]) -> Option<Vec<Expr>> {
    arguments
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect()
}

/// The last part of a column reference, folded.
pub(super) fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded),
        Expr::Nested(inner) => column_name(inner),
        _ => None,
    }
}

const AGGREGATES: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "every",
    "first_value",
    "grouping",
    "hw_single_value",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "last_value",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "nth_value",
    "percentile_cont",
    "percentile_disc",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

/// True if a call without OVER makes one value of many rows.
pub(super) fn is_aggregate(function: &Function) -> bool {
    function_name(&function.name).is_some_and(|name| AGGREGATES.contains(&name.as_str()))
}

/// True for a value that is written out, with its type or without.
pub(super) fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::TypedString(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } | Expr::UnaryOp { expr: inner, .. } => is_constant(inner),
        _ => false,
    }
}

/// True if the expression aggregates, uses a window, or yields a set. Subqueries in it are not looked into.
pub(super) fn is_not_plain(expr: &Expr) -> bool {
    struct Look {
        depth: usize,
        found: bool,
    }
    impl Visitor for Look {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if self.depth == 0
                && let Expr::Function(function) = expr
            {
                let name = function_name(&function.name).unwrap_or_default();
                self.found |= function.over.is_some()
                    || name == "unnest"
                    || super::sets::is_set_function(&name)
                    || AGGREGATES.contains(&name.as_str());
            }
            ControlFlow::Continue(())
        }
    }
    let mut look = Look { depth: 0, found: false };
    let _ = expr.visit(&mut look);
    look.found
}

/// True if there is a subquery anywhere in the expression.
pub(super) fn has_subquery(expr: &Expr) -> bool {
    struct Look;
    impl Visitor for Look {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Look).is_break()
}
