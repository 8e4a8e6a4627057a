//! Aggregates that DataFusion has under another name or not at all: `every`, and those that make JSON of a group, which
//! are JSON of an array of the group; and grouping sets in the form that it takes.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    GroupByExpr, Ident, ObjectName,
};

use super::build::{call, is_constant, plain_arguments, text};

/// ROLLUP and CUBE of lists, which DataFusion takes of single expressions only, as the sets that they stand for.
pub(super) fn list_grouping_sets(group_by: &mut GroupByExpr) {
    let GroupByExpr::Expressions(exprs, _) = group_by else { return };
    for expr in exprs {
        let sets = match expr {
            Expr::Rollup(lists) if lists.iter().any(|list| list.len() != 1) => {
                (0..=lists.len()).rev().map(|length| lists[..length].concat()).collect()
            }
            Expr::Cube(lists) if lists.iter().any(|list| list.len() != 1) && lists.len() <= CUBE_LIST_COUNT_MAX => {
                let kept = |left_out: usize| {
                    let kept = lists.iter().enumerate().filter(|(index, _)| left_out & (1 << index) == 0);
                    kept.flat_map(|(_, list)| list.clone()).collect::<Vec<Expr>>()
                };
                (0..1 << lists.len()).map(kept).collect()
            }
            _ => continue,
        };
        *expr = Expr::GroupingSets(sets);
    }
}

/// As in Postgres; a longer one is refused by the planner.
const CUBE_LIST_COUNT_MAX: usize = 12;

/// `array_agg(x ORDER BY 1)`: a constant orders nothing, and the planner would take it for a position.
pub(super) fn drop_constant_order(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    list.clauses.retain_mut(|clause| match clause {
        FunctionArgumentClause::OrderBy(sorts) => {
            sorts.retain(|sort| !is_constant(&sort.expr));
            !sorts.is_empty()
        }
        _ => true,
    });
}

/// `name` is the function's, folded.
pub(super) fn rewrite(function: &mut Function, name: &str) -> Option<Expr> {
    let (array, of_items) = match name {
        "every" => {
            function.name = ObjectName::from(vec![Ident::new("bool_and")]);
            return None;
        }
        "json_agg" => ("hw_json_array", "hw_json_list"),
        "jsonb_agg" => ("hw_jsonb_array", "hw_jsonb_list"),
        "json_object_agg" => ("hw_json_object", ""),
        "jsonb_object_agg" => ("hw_jsonb_object", ""),
        _ => return None,
    };
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let arguments = plain_arguments(&list.args)?;
    let is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let (outer, item) = match arguments.as_slice() {
        // What is distinct is the value, not its text.
        [value] if is_distinct && !of_items.is_empty() => (of_items, value.clone()),
        [value] if !of_items.is_empty() => (array, call("hw_json_item", vec![value.clone()])),
        [key, value] if of_items.is_empty() => {
            let value = call("hw_json_item", vec![value.clone()]);
            (array, call("named_struct", vec![text("key"), key.clone(), text("value"), value]))
        }
        // Binding says that there is no such function.
        _ => return None,
    };
    list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(item))];
    function.name = ObjectName::from(vec![Ident::new("array_agg")]);
    Some(call(outer, vec![Expr::Function(function.clone())]))
}
