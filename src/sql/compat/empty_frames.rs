//! `ROWS BETWEEN 1 PRECEDING AND 2 PRECEDING`: a frame that ends before it starts holds no row, which the planner refuses to
//! say. An aggregate over it counts none (`FILTER (WHERE false)`), a value of a row in it is NULL, and functions of the whole
//! partition do not look at it.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, Value, WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};

use super::build::{boolean, function_name, take};

/// Of a call with a window.
pub(super) fn rewrite(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let Some(WindowType::WindowSpec(window)) = &mut function.over else { return };
    if !window.window_frame.as_ref().is_some_and(is_empty) {
        return;
    }
    window.window_frame = None;
    match function_name(&function.name).as_deref() {
        Some("row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "lag" | "lead") => {}
        Some("first_value" | "last_value" | "nth_value") => *expr = never(take(expr)),
        _ => count_none(function),
    }
}

fn count_none(function: &mut Function) {
    let never = match function.filter.take() {
        None => boolean(false),
        Some(filter) => Expr::BinaryOp {
            left: Box::new(Expr::Nested(filter)),
            op: BinaryOperator::And,
            right: Box::new(boolean(false)),
        },
    };
    function.filter = Some(Box::new(never));
    if let Some(WindowType::WindowSpec(WindowSpec { order_by, .. })) = &mut function.over {
        // Without an order the frame is the partition, which is the same for all of its rows.
        order_by.clear();
    }
}

/// NULL, of the expression's type.
fn never(expr: Expr) -> Expr {
    Expr::Case {
        case_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        end_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: boolean(false), result: expr }],
        else_result: None,
    }
}

/// Both bounds are numbers on the same side of the current row, the further one last.
fn is_empty(frame: &WindowFrame) -> bool {
    match (&frame.start_bound, &frame.end_bound) {
        (WindowFrameBound::Preceding(Some(start)), Some(WindowFrameBound::Preceding(Some(end)))) => {
            number(start).zip(number(end)).is_some_and(|(start, end)| start < end)
        }
        (WindowFrameBound::Following(Some(start)), Some(WindowFrameBound::Following(Some(end)))) => {
            number(start).zip(number(end)).is_some_and(|(start, end)| start > end)
        }
        _ => false,
    }
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        Expr::Nested(inner) => number(inner),
        _ => None,
    }
}
