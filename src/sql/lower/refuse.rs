//! What cannot be maintained yet, by name and with a way around.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::temporal::is_now_call;
use crate::error::{Error, Result, SqlState};

/// A maintained relation's columns have different names: 42701.
pub(super) fn duplicate_columns(plan: &LogicalPlan) -> Result<()> {
    let fields = plan.schema().fields();
    let repeated = fields.iter().enumerate().find(|(at, f)| fields[..*at].iter().any(|other| other.name() == f.name()));
    match repeated {
        None => Ok(()),
        Some((_, field)) => {
            let message = format!("column \"{}\" specified more than once", field.name());
            Err(Error::new(SqlState::DUPLICATE_COLUMN, message).with_hint("name the columns with AS"))
        }
    }
}

/// Everything that no rule of the optimiser turns into something else.
pub(super) fn constructs(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|root| {
            root.apply(|inner| {
                refused = refused.take().or_else(|| expression(inner).err());
                Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        if refused.is_none() {
            refused = match node {
                LogicalPlan::RecursiveQuery(_) => Some(self::node(node)),
                _ => None,
            };
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    refused.map_or(Ok(()), Err)
}

fn expression(expr: &Expr) -> Result<()> {
    let refuse = |what: String, hint: &str| Err(Error::unsupported(what, hint));
    match expr {
        // Whether it stands where it can be maintained is seen when it is lowered.
        call if is_now_call(call) => Ok(()),
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => refuse(
            format!("function {}() in a maintained view", call.func.name()),
            "its result changes without a change of its input; use it in the query that reads the view",
        ),
        Expr::Placeholder(placeholder) => {
            Err(Error::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {}", placeholder.id)))
        }
        _ => Ok(()),
    }
}

/// 42P10, as Postgres says it.
pub(super) fn distinct_order() -> Error {
    let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
    Error::new(SqlState("42P10"), message)
}

/// A relational operator without an incremental form yet.
pub(super) fn node(plan: &LogicalPlan) -> Error {
    let (what, hint) = match plan {
        LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE in a maintained view", "query it when needed"),
        other => {
            let name = other.display().to_string();
            let name = name.split([':', ' ']).next().unwrap_or_default().to_string();
            return Error::unsupported(format!("{name} in a maintained view"), "query it when needed");
        }
    };
    Error::unsupported(what, hint)
}
