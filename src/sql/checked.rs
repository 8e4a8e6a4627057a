//! Integer arithmetic that refuses to overflow: 22003 `integer out of range`, where DataFusion wraps around.
//!
//! After types are settled, `+`, `-`, `*` and negation of integers become functions over Arrow's checked kernels. Ad-hoc
//! queries and maintained views go through the same rule.

pub(super) mod aggregates;
mod one;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Datum};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::error::{Error, SqlState};
use crate::types::PgType;

type Kernel = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

/// Runs after type coercion: both sides have the same type then.
#[derive(Debug, Default)]
pub(super) struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> PlanResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(check_node)?.data)
    }
}

/// One expression over `schema`, its types settled and its arithmetic checked.
pub(super) fn checked(expr: Expr, schema: &DFSchema, state: &SessionState) -> PlanResult<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let coerced = ExprSimplifier::new(context).coerce(expr, schema)?;
    Ok(coerced.transform_up(|expr| check_expr(expr, schema))?.data)
}

fn check_node(plan: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let checked = expr.transform_up(|expr| check_expr(expr, &schema))?;
        Ok(if checked.transformed { checked.update_data(|expr| name.restore(expr)) } else { checked })
    })?
    .transform_data(|plan| plan.recompute_schema().map(Transformed::yes))
}

fn check_expr(expr: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let is_integer = |expr: &Expr| {
        let known = expr.get_type(schema).ok();
        known.filter(|t| matches!(t, DataType::Int16 | DataType::Int32 | DataType::Int64))
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let function = match op {
                Operator::Plus => &ADD,
                Operator::Minus => &SUBTRACT,
                Operator::Multiply => &MULTIPLY,
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            match (is_integer(&left), is_integer(&right)) {
                (Some(l), Some(r)) if l == r => Ok(Transformed::yes(function.call(vec![*left, *right]))),
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::Negative(inner) => match is_integer(&inner) {
            Some(data_type) => {
                let zero = lit(ScalarValue::new_zero(&data_type)?);
                Ok(Transformed::yes(SUBTRACT.call(vec![zero, *inner])))
            }
            None => Ok(Transformed::no(Expr::Negative(inner))),
        },
        other => Ok(Transformed::no(other)),
    }
}

static ADD: LazyLock<ScalarUDF> = LazyLock::new(|| Checked::function("int_add"));
static SUBTRACT: LazyLock<ScalarUDF> = LazyLock::new(|| Checked::function("int_subtract"));
static MULTIPLY: LazyLock<ScalarUDF> = LazyLock::new(|| Checked::function("int_multiply"));

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    signature: Signature,
}

impl Checked {
    fn function(name: &'static str) -> ScalarUDF {
        ScalarUDF::new_from_impl(Checked { name, signature: Signature::any(2, Volatility::Immutable) })
    }

    fn kernel(&self) -> Kernel {
        match self.name {
            "int_add" => numeric::add,
            "int_subtract" => numeric::sub,
            _ => numeric::mul,
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Int32))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let data_type = args.arg_fields.first().map_or(DataType::Int32, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(self.name, data_type, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return Err(Error::internal("integer arithmetic takes two arguments").into());
        };
        let kernel = self.kernel();
        let result = match (left, right) {
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => kernel(left, right),
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => kernel(left, &right.to_scalar()?),
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => kernel(&left.to_scalar()?, right),
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                let array =
                    kernel(&left.to_scalar()?, &right.to_scalar()?).map_err(|e| overflow(e, args.return_type()))?;
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
            }
        };
        Ok(ColumnarValue::Array(result.map_err(|e| overflow(e, args.return_type()))?))
    }
}

/// `integer out of range`, with the type that overflowed.
fn overflow(error: ArrowError, data_type: &DataType) -> Error {
    match error {
        ArrowError::ArithmeticOverflow(_) => {
            let name = PgType::of_arrow(data_type).name();
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("{name} out of range"))
        }
        other => Error::from(other),
    }
}
