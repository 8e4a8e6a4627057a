//! Operators that mean something else to Postgres than to DataFusion, by the types of their operands: those of json and
//! jsonb, of intervals and timestamps, of `numeric`, of arrays; and constructs that become functions of ours.

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, Operator, binary_expr, lit, not};
use sqlparser::ast::BinaryOperator as Op;

use crate::catalog::functions::scalar_function;
use crate::error::Error;
use crate::types::PgType;

#[derive(Debug)]
pub(super) struct PostgresOperators;

fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let Some(func) = scalar_function(name) else {
        return Err(Error::internal(format!("function {name} is not there")).into());
    };
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(func, args)))
}

fn planned<T>(expr: Result<Expr>) -> Result<PlannerResult<T>> {
    expr.map(PlannerResult::Planned)
}

fn type_of(expr: &Expr, schema: &DFSchema) -> PgType {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, None) => PgType::Unknown,
        _ => expr.to_field(schema).map_or(PgType::Unknown, |(_, field)| PgType::of(&field)),
    }
}

fn is_json(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Json | PgType::Jsonb)
}

fn is_number(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Numeric(_))
}

fn is_text(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Unknown)
}

/// Types that DataFusion would print otherwise.
fn prints(pg_type: &PgType) -> bool {
    matches!(
        pg_type,
        PgType::Float4
            | PgType::Float8
            | PgType::Numeric(None)
            | PgType::Time
            | PgType::Timestamp
            | PgType::Timestamptz
            | PgType::Interval
            | PgType::Record(_)
    )
}

fn as_text(expr: Expr) -> Expr {
    Expr::Cast(Cast::new_from_field(Box::new(expr), PgType::Text.field("cast", true)))
}

/// `=` and its kin.
fn comparison(op: &Op) -> Option<Operator> {
    Some(match op {
        Op::Eq => Operator::Eq,
        Op::NotEq => Operator::NotEq,
        Op::Lt => Operator::Lt,
        Op::LtEq => Operator::LtEq,
        Op::Gt => Operator::Gt,
        Op::GtEq => Operator::GtEq,
        _ => return None,
    })
}

impl ExprPlanner for PostgresOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (left, right) = (type_of(&expr.left, schema), type_of(&expr.right, schema));
        if let Some(name) = json_operator(&expr.op, &left, &right) {
            return planned(call(name, vec![expr.left, expr.right]));
        }
        if expr.op == Op::ArrowAt && (left == PgType::Jsonb || right == PgType::Jsonb) {
            return planned(call("hw_jsonb_contains", vec![expr.right, expr.left]));
        }
        let either = |wanted: PgType| left == wanted || right == wanted;
        let RawBinaryExpr { op, left: l, right: r } = expr;
        if let Some(operator) = comparison(&op) {
            if either(PgType::Jsonb) {
                return planned(match operator {
                    Operator::Eq => call("hw_jsonb_eq", vec![l, r]),
                    Operator::NotEq => call("hw_jsonb_eq", vec![l, r]).map(not),
                    _ => call("hw_jsonb_compare", vec![l, r]).map(|order| binary_expr(order, operator, lit(0i32))),
                });
            }
            if either(PgType::Interval) && (left == right || either(PgType::Unknown)) {
                return planned(
                    call("hw_interval_compare", vec![l, r]).map(|order| binary_expr(order, operator, lit(0i32))),
                );
            }
        }
        let expr = match (&op, &left, &right) {
            (Op::Multiply, PgType::Interval, other) if is_number(other) => call("hw_interval_scale", vec![l, r]),
            (Op::Multiply, other, PgType::Interval) if is_number(other) => call("hw_interval_scale", vec![r, l]),
            (Op::Divide, PgType::Interval, other) if is_number(other) => call("hw_interval_divide", vec![l, r]),
            (Op::Minus, PgType::Timestamp | PgType::Timestamptz, PgType::Timestamp | PgType::Timestamptz) => {
                call("hw_timestamp_minus", vec![l, r])
            }
            (Op::Plus, PgType::Date, PgType::Time) => call("hw_date_plus_time", vec![l, r]),
            (Op::Plus, PgType::Time, PgType::Date) => call("hw_date_plus_time", vec![r, l]),
            (Op::Divide, PgType::Numeric(_), other) | (Op::Divide, other, PgType::Numeric(_))
                if is_number(other) && !matches!(other, PgType::Float4 | PgType::Float8) =>
            {
                call("hw_numeric_divide", vec![l, r])
            }
            // Of numbers without a declared scale, the result has none.
            (Op::Multiply, PgType::Numeric(None), other) | (Op::Multiply, other, PgType::Numeric(None))
                if is_number(other) && !matches!(other, PgType::Float4 | PgType::Float8) =>
            {
                call("hw_numeric_multiply", vec![l, r])
            }
            (Op::Plus | Op::Minus | Op::Modulo, PgType::Numeric(None), other)
            | (Op::Plus | Op::Minus | Op::Modulo, other, PgType::Numeric(None))
                if is_number(other) && !matches!(other, PgType::Float4 | PgType::Float8) =>
            {
                let operator = match op {
                    Op::Plus => Operator::Plus,
                    Op::Minus => Operator::Minus,
                    _ => Operator::Modulo,
                };
                let plain = Box::new(binary_expr(l, operator, r));
                Ok(Expr::Cast(Cast::new_from_field(plain, PgType::Numeric(None).field("cast", true))))
            }
            // What is no text is put behind text as it prints.
            (Op::StringConcat, text, other) if is_text(text) && prints(other) => {
                Ok(binary_expr(l, Operator::StringConcat, as_text(r)))
            }
            (Op::StringConcat, other, text) if is_text(text) && prints(other) => {
                Ok(binary_expr(as_text(l), Operator::StringConcat, r))
            }
            (Op::PGStartsWith, ..) => call("starts_with", vec![l, r]),
            (Op::PGOverlap, PgType::Array(_), _) | (Op::PGOverlap, _, PgType::Array(_)) => {
                call("hw_array_overlaps", vec![l, r])
            }
            (Op::AtArrow, PgType::Array(_), _) => call("hw_array_contains", vec![l, r]),
            (Op::ArrowAt, _, PgType::Array(_)) => call("hw_array_contains", vec![r, l]),
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left: l, right: r })),
        };
        planned(expr)
    }

    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let pg_type = type_of(&expr.expr, schema);
        if !is_json(&pg_type) {
            return Ok(PlannerResult::Original(expr));
        }
        let name = if pg_type == PgType::Jsonb { "hw_jsonb_get" } else { "hw_json_get" };
        match expr.field_access {
            GetFieldAccess::NamedStructField { name: key } => {
                planned(call(name, vec![expr.expr, Expr::Literal(key, None)]))
            }
            GetFieldAccess::ListIndex { key } => planned(call(name, vec![expr.expr, *key])),
            field_access => Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr: expr.expr })),
        }
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(call("hw_extract", args))
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(call("strpos", args))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(call("substring", args))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        planned(call("overlay", args))
    }
}

/// The function behind an operator of json or jsonb.
fn json_operator(op: &Op, left: &PgType, right: &PgType) -> Option<&'static str> {
    let jsonb = *left == PgType::Jsonb;
    if is_json(left) {
        match op {
            Op::Arrow if jsonb => return Some("hw_jsonb_get"),
            Op::Arrow => return Some("hw_json_get"),
            Op::LongArrow => return Some("hw_json_get_text"),
            Op::HashArrow if jsonb => return Some("hw_jsonb_path"),
            Op::HashArrow => return Some("hw_json_path"),
            Op::HashLongArrow => return Some("hw_json_path_text"),
            _ => {}
        }
    }
    if jsonb {
        match op {
            Op::Question => return Some("hw_jsonb_exists"),
            Op::QuestionPipe => return Some("hw_jsonb_exists_any"),
            Op::QuestionAnd => return Some("hw_jsonb_exists_all"),
            Op::HashMinus => return Some("hw_jsonb_delete_path"),
            Op::Minus => return Some("hw_jsonb_delete"),
            Op::AtQuestion => return Some("hw_jsonb_path_exists"),
            Op::AtAt => return Some("hw_jsonb_path_match"),
            _ => {}
        }
    }
    if jsonb || *right == PgType::Jsonb {
        let both = [left, right].iter().all(|side| matches!(side, PgType::Jsonb | PgType::Unknown));
        match op {
            Op::AtArrow => return Some("hw_jsonb_contains"),
            Op::StringConcat if both => return Some("hw_jsonb_concat"),
            _ => {}
        }
    }
    None
}

/// What a cast of a jsonb to this type takes first.
pub(super) fn jsonb_value(expr: Expr, target: &PgType) -> Option<Expr> {
    match target {
        PgType::Bool => call("hw_jsonb_bool", vec![expr]).ok(),
        target if is_number(target) => call("hw_jsonb_number", vec![expr, lit(target.name())]).ok(),
        _ => None,
    }
}
