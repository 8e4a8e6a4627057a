//! Window functions over frames that DataFusion cannot evaluate: those that leave out rows (`EXCLUDE CURRENT ROW | GROUP |
//! TIES`), and frames with a moving start for aggregates that cannot take a value back (`bool_or`, `string_agg`).
//!
//! [`Framed`] evaluates a function anew over each row's frame, as PostgreSQL does: the frame without what is left out is at
//! most three spans of the partition. It is a window function to the planner, so that ad-hoc queries and maintained views
//! share it; FILTER is its last argument. [`super::bind`] puts it in the place of the call.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{filter, partition};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    AggregateUDF, PartitionEvaluator, Signature, Volatility, WindowFunctionDefinition, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};

use crate::error::Error;

/// What a frame leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Exclude {
    Nothing,
    CurrentRow,
    /// The row and its peers.
    Group,
    /// The peers of the row, but not the row.
    Ties,
}

impl Exclude {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Exclude::Nothing => "NO OTHERS",
            Exclude::CurrentRow => "CURRENT ROW",
            Exclude::Group => "GROUP",
            Exclude::Ties => "TIES",
        }
    }

    pub fn of(text: &str) -> Option<Exclude> {
        let all = [Exclude::Nothing, Exclude::CurrentRow, Exclude::Group, Exclude::Ties];
        all.into_iter().find(|exclude| exclude.text().eq_ignore_ascii_case(text))
    }
}

/// A function of the rows in the frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Framed {
    function: WindowFunctionDefinition,
    argument_count: usize,
    has_filter: bool,
    distinct: bool,
    exclude: Exclude,
    signature: Signature,
}

impl Framed {
    /// `call`: of an aggregate, or of a window function that looks at its frame.
    pub fn new(call: &WindowFunction, exclude: Exclude) -> Framed {
        Framed {
            function: call.fun.clone(),
            argument_count: call.params.args.len(),
            has_filter: call.params.filter.is_some(),
            distinct: call.params.distinct,
            exclude,
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }

    /// The one behind a call, if it is one.
    pub fn of(call: &WindowFunction) -> Option<&Framed> {
        let WindowFunctionDefinition::WindowUDF(function) = &call.fun else { return None };
        let inner: &dyn Any = function.inner().as_ref();
        inner.downcast_ref()
    }

    /// How many arguments are the function's own; the filter comes behind them.
    pub fn argument_count(&self) -> usize {
        self.argument_count
    }

    pub fn is_distinct(&self) -> bool {
        self.distinct
    }

    pub fn exclude(&self) -> Exclude {
        self.exclude
    }
}

/// An aggregate over columns of these types, literals as they are.
pub(super) fn aggregate(
    function: &Arc<AggregateUDF>,
    arguments: &[(FieldRef, Option<ScalarValue>)],
    distinct: bool,
    ignore_nulls: bool,
) -> PlanResult<AggregateFunctionExpr> {
    let mut exprs: Vec<Arc<dyn PhysicalExpr>> = vec![];
    let mut fields = vec![];
    for (at, (field, literal)) in arguments.iter().enumerate() {
        let name = format!("argument{at}");
        fields.push(field.as_ref().clone().with_name(&name));
        exprs.push(match literal {
            Some(value) => Arc::new(Literal::new(value.clone())),
            None => Arc::new(Column::new(&name, at)),
        });
    }
    AggregateExprBuilder::new(function.clone(), exprs)
        .schema(Arc::new(Schema::new(fields)))
        .alias(function.name())
        .with_distinct(distinct)
        .with_ignore_nulls(ignore_nulls)
        .build()
}

impl WindowUDFImpl for Framed {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, args: WindowUDFFieldArgs) -> PlanResult<FieldRef> {
        let own = &args.input_fields()[..self.argument_count];
        match &self.function {
            WindowFunctionDefinition::AggregateUDF(function) => {
                let field = function.return_field(own)?.as_ref().clone();
                Ok(Arc::new(field.with_name(args.name()).with_nullable(function.is_nullable())))
            }
            WindowFunctionDefinition::WindowUDF(function) => {
                let field = function.field(WindowUDFFieldArgs::new(own, args.name()))?;
                Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
            }
        }
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> PlanResult<Box<dyn PartitionEvaluator>> {
        let literal = |at: usize| {
            let expr: &dyn Any = args.input_exprs()[at].as_ref();
            expr.downcast_ref::<Literal>().map(|literal| literal.value().clone())
        };
        let take = match (&self.function, self.function.name()) {
            (WindowFunctionDefinition::AggregateUDF(function), _) => {
                let own: Vec<_> =
                    (0..self.argument_count).map(|at| (args.input_fields()[at].clone(), literal(at))).collect();
                Take::Aggregate(Box::new(aggregate(function, &own, self.distinct, args.ignore_nulls())?))
            }
            (_, "first_value") => Take::Nth { number: 1, ignore_nulls: args.ignore_nulls() },
            (_, "last_value") => Take::Nth { number: -1, ignore_nulls: args.ignore_nulls() },
            (_, "nth_value") => {
                let number = literal(1).map(|value| value.cast_to(&datafusion::arrow::datatypes::DataType::Int64));
                match number.transpose()? {
                    Some(ScalarValue::Int64(Some(number))) if number > 0 => {
                        Take::Nth { number, ignore_nulls: args.ignore_nulls() }
                    }
                    _ => {
                        let message = "argument of nth_value must be greater than zero";
                        return Err(Error::new(crate::error::SqlState("22016"), message).into());
                    }
                }
            }
            (_, name) => return Err(Error::internal(format!("{name} does not look at its frame")).into()),
        };
        Ok(Box::new(FrameEvaluator {
            take,
            argument_count: self.argument_count,
            has_filter: self.has_filter,
            exclude: self.exclude,
            row: 0,
            peers: vec![],
        }))
    }
}

/// What is made of a frame's rows.
#[derive(Debug)]
enum Take {
    Aggregate(Box<AggregateFunctionExpr>),
    /// Counted from the start; from the end if it is negative.
    Nth {
        number: i64,
        ignore_nulls: bool,
    },
}

#[derive(Debug)]
struct FrameEvaluator {
    take: Take,
    argument_count: usize,
    has_filter: bool,
    exclude: Exclude,
    /// The row that is asked for next: each is, in order.
    row: usize,
    /// Spans of peers, from the first row's on.
    peers: Vec<Range<usize>>,
}

impl PartitionEvaluator for FrameEvaluator {
    fn uses_window_frame(&self) -> bool {
        true
    }

    /// `values`: arguments, filter, ORDER BY columns of the whole partition.
    fn evaluate(&mut self, values: &[ArrayRef], frame: &Range<usize>) -> PlanResult<ScalarValue> {
        let row = self.row;
        self.row += 1;
        let order = &values[self.argument_count + usize::from(self.has_filter)..];
        if row == 0 && matches!(self.exclude, Exclude::Group | Exclude::Ties) {
            self.peers = match order {
                // Without an order all are peers.
                [] => std::iter::once(0..values[0].len()).collect(),
                order => partition(order)?.ranges(),
            };
            self.peers.reverse();
        }
        while self.peers.last().is_some_and(|peers| peers.end <= row) {
            self.peers.pop();
        }
        let spans = self.spans(row, frame);
        let mut batches = vec![];
        for span in spans {
            let slice = |array: &ArrayRef| array.slice(span.start, span.len());
            let own: Vec<ArrayRef> = values[..self.argument_count].iter().map(slice).collect();
            batches.push(match self.has_filter {
                false => own,
                true => {
                    let mask = slice(&values[self.argument_count]);
                    own.iter().map(|array| Ok(filter(array, mask.as_boolean())?)).collect::<PlanResult<_>>()?
                }
            });
        }
        match &self.take {
            Take::Aggregate(aggregate) => {
                let mut accumulator = aggregate.create_accumulator()?;
                for batch in batches.iter().filter(|batch| !batch[0].is_empty()) {
                    accumulator.update_batch(batch)?;
                }
                accumulator.evaluate()
            }
            Take::Nth { number, ignore_nulls } => {
                let is_seen = |array: &ArrayRef, at: usize| !ignore_nulls || array.is_valid(at);
                let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| &batch[0]).collect();
                let mut seen = arrays
                    .iter()
                    .flat_map(|array| (0..array.len()).filter(|&at| is_seen(array, at)).map(move |at| (*array, at)));
                let found = match usize::try_from(*number) {
                    Ok(number) => seen.nth(number - 1),
                    Err(_) => seen.last(),
                };
                match found {
                    Some((array, at)) => ScalarValue::try_from_array(array, at),
                    None => ScalarValue::try_from(values[0].data_type()),
                }
            }
        }
    }
}

impl FrameEvaluator {
    /// The frame of a row without what is left out: spans that are not empty, in order.
    fn spans(&self, row: usize, frame: &Range<usize>) -> Vec<Range<usize>> {
        let left_out = match (self.exclude, self.peers.last()) {
            (Exclude::CurrentRow, _) => row..row + 1,
            (Exclude::Group | Exclude::Ties, Some(peers)) => peers.clone(),
            _ => frame.end..frame.end,
        };
        let kept = match self.exclude {
            Exclude::Ties => row.max(frame.start)..(row + 1).min(frame.end),
            _ => row..row,
        };
        let before = frame.start..left_out.start.min(frame.end);
        let after = left_out.end.max(frame.start)..frame.end;
        [before, kept, after].into_iter().filter(|span| span.start < span.end).collect()
    }
}
