//! What a statement's text says of its parameters' types: `$1::int4` takes an integer, as in Postgres.
//!
//! The planner gives a parameter the type of what it is compared with. Three forms it does not know: a parameter that counts
//! rows (LIMIT) or is a condition; one that is an array (`id = ANY ($1)`, `tags @> $1`); a span added to an instant. For the last
//! two the type follows from the other side's, which a trial of planning tells: in it, the form is a plain comparison.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, LimitClause, Query, UnaryOperator, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::sql::types::pg_type;
use crate::types::PgType;

/// The hints, and what the query's form adds to them. `plan` plans a query as a trial.
pub(super) fn with_form(
    query: &Query,
    hints: &[Option<PgType>],
    plan: impl FnOnce(Box<Query>) -> PlanResult<LogicalPlan>,
) -> Vec<Option<PgType>> {
    let mut forms = Forms::default();
    // Nothing breaks it off.
    let _ = Visit::visit(query, &mut forms);
    let mut known = hints.to_vec();
    let mut add = |number: usize, pg_type: PgType| {
        if (1..=super::PARAMETER_COUNT_MAX).contains(&number) {
            known.resize(known.len().max(number), None);
            known[number - 1].get_or_insert(pg_type);
        }
    };
    for (number, form) in &forms.0 {
        match form {
            Form::Count => add(*number, PgType::Int8),
            Form::Condition => add(*number, PgType::Bool),
            _ => {}
        }
    }
    let is_open = |number: &usize| hints.get(number.wrapping_sub(1)).is_none_or(Option::is_none);
    let mut open: HashMap<usize, Form> = forms.0.into_iter().filter(|(number, _)| is_open(number)).collect();
    open.retain(|_, form| matches!(form, Form::Elements | Form::Same | Form::Span));
    if open.is_empty() {
        return known;
    }
    let mut trial = Box::new(query.clone());
    let _ = VisitMut::visit(trial.as_mut(), &mut Trial(&open));
    // What is wrong with the query is told when it is planned in earnest.
    let Some(fields) = plan(trial).ok().and_then(|plan| plan.get_parameter_fields().ok()) else { return known };
    for (number, form) in open {
        let Some(Some(field)) = fields.get(&format!("${number}")) else { continue };
        match (form, unmodified(PgType::of(field))) {
            (_, PgType::Unknown) => {}
            (Form::Elements, item) => add(number, PgType::Array(Box::new(item))),
            (Form::Same, other) => add(number, other),
            (Form::Span, PgType::Timestamp | PgType::Timestamptz) => add(number, PgType::Interval),
            _ => {}
        }
    }
    known
}

/// As a parameter is declared: without length, precision and scale.
fn unmodified(pg_type: PgType) -> PgType {
    match pg_type {
        PgType::Varchar(_) | PgType::Name => PgType::Text,
        PgType::Bpchar(_) => PgType::Bpchar(None),
        PgType::Numeric(_) => PgType::Numeric(None),
        other => other,
    }
}

/// The place of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A number of rows.
    Count,
    /// True or false.
    Condition,
    /// An array of what stands on the other side.
    Elements,
    /// Of the other side's type.
    Same,
    /// Added to what may be an instant.
    Span,
}

/// The parameters of these forms, by number; the first place counts.
#[derive(Default)]
struct Forms(HashMap<usize, Form>);

impl Forms {
    fn note(&mut self, expr: &Expr, form: Form) {
        if let Some(number) = parameter_number(expr) {
            self.0.entry(number).or_insert(form);
        }
    }
}

impl Visitor for Forms {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => {
                limit.iter().chain(offset.as_ref().map(|offset| &offset.value)).for_each(|e| self.note(e, Form::Count));
            }
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
                [offset, limit].into_iter().for_each(|e| self.note(e, Form::Count));
            }
            None => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => self.note(right, Form::Elements),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.note(expr, Form::Condition),
            Expr::Case { operand: None, conditions, .. } => {
                conditions.iter().for_each(|when| self.note(&when.condition, Form::Condition));
            }
            Expr::BinaryOp { left, op, right } => {
                let form = match op {
                    BinaryOperator::And | BinaryOperator::Or => Form::Condition,
                    op if is_of_arrays(op) => Form::Same,
                    BinaryOperator::Plus => Form::Span,
                    _ => return ControlFlow::Continue(()),
                };
                [left, right].into_iter().for_each(|side| self.note(side, form));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `@>`, `<@`, `&&`: both sides have one type.
fn is_of_arrays(op: &BinaryOperator) -> bool {
    matches!(op, BinaryOperator::AtArrow | BinaryOperator::ArrowAt | BinaryOperator::PGOverlap)
}

/// Makes comparisons of these parameters' places.
struct Trial<'a>(&'a HashMap<usize, Form>);

impl Trial<'_> {
    fn has(&self, expr: &Expr, form: Form) -> bool {
        parameter_number(expr).is_some_and(|number| self.0.get(&number) == Some(&form))
    }
}

impl VisitorMut for Trial<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let equal = |left: &Expr, right: &Expr| Expr::BinaryOp {
            left: Box::new(left.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(right.clone()),
        };
        match expr {
            Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } if self.has(right, Form::Elements) => {
                *expr = equal(left, right);
            }
            Expr::BinaryOp { left, op, right }
                if is_of_arrays(op) && (self.has(left, Form::Same) || self.has(right, Form::Same)) =>
            {
                *expr = equal(left, right);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Plus, right } => {
                let other = match (self.has(left, Form::Span), self.has(right, Form::Span)) {
                    (false, true) => left.clone(),
                    (true, false) => right.clone(),
                    _ => return ControlFlow::Continue(()),
                };
                let condition = equal(left, right);
                // Its type is that of the other side.
                *expr = Expr::Case {
                    case_token: AttachedToken::empty(),
                    end_token: AttachedToken::empty(),
                    operand: None,
                    conditions: vec![CaseWhen { condition, result: *other.clone() }],
                    else_result: Some(other),
                };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The types that parameters are cast to, by number; the first cast counts.
pub(super) fn cast_types(nodes: &[impl Visit]) -> HashMap<usize, PgType> {
    struct Casts(HashMap<usize, PgType>);
    impl Visitor for Casts {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            // A type that does not exist is told by the planner.
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(number) = parameter_number(expr)
                && let Ok(pg_type) = pg_type(data_type)
            {
                self.0.entry(number).or_insert(pg_type);
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(HashMap::new());
    for node in nodes {
        // Nothing breaks it off.
        let _ = node.visit(&mut casts);
    }
    casts.0
}

/// `$3` and `($3)` are 3.
fn parameter_number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => parameter_number(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
