//! How a scan finds its rows: by the relation's key, by a secondary index, or all of them.
//!
//! ```text
//! WHERE k = 1, k IN (1, 2)            ──▶ Key, if that is the whole key; else Index
//! WHERE a = 1 AND b > 5 AND b <= 9    ──▶ Index over (a, b): one interval of keys for each value of a
//! ```
//! What is found may be more than what is asked for, never less: bounds count as inclusive and the filters stay above the
//! scan. So an access needs to know nothing of NULLs, and −0.0 is looked up together with 0.0.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::cmp::Reverse;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::arrangement::{Interval, encode_keys};

/// Beyond this many keys a scan of everything is no worse than looking them up.
const LOOKUP_KEY_COUNT_MAX: usize = 1024;

/// A secondary index, as a scan knows it.
#[derive(Clone, Debug)]
pub struct TableIndex {
    pub name: String,
    pub columns: Vec<usize>,
}

#[derive(Debug)]
pub enum Access {
    /// Rows with one of these keys.
    Key(RecordBatch),
    /// `used`: how many columns of the index, from the first on, the filters speak of.
    Index {
        index: TableIndex,
        used: usize,
        intervals: Vec<Interval>,
    },
    All,
}

/// How many rows some intervals of an index over some columns hold.
pub type Count<'a> = &'a dyn Fn(&[usize], &[Interval]) -> Result<usize>;

/// By key, if the filters pin it down; else the index that leaves the fewest rows by `count`.
pub fn choose(
    schema: &SchemaRef,
    key: Option<&[usize]>,
    indexes: &[TableIndex],
    filters: &[Expr],
    count: Count<'_>,
) -> Result<Access> {
    if filters.is_empty() {
        return Ok(Access::All);
    }
    if let Some(keys) = lookup_keys(schema, key.unwrap_or_default(), filters)? {
        return Ok(Access::Key(keys));
    }
    let mut best: Option<((usize, Reverse<usize>), Access)> = None;
    for index in indexes {
        let Some(Narrowed { score, used, intervals }) = narrow(schema, &index.columns, filters)? else { continue };
        let rank = (count(&index.columns, &intervals)?, Reverse(score));
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, Access::Index { index: index.clone(), used, intervals }));
        }
    }
    Ok(best.map_or(Access::All, |(_, access)| access))
}

/// True if a scan may want to see the filter.
pub fn is_of_use(filter: &Expr, schema: &SchemaRef, indexes: &[TableIndex]) -> bool {
    if alternatives(filter).is_some() {
        return true;
    }
    let bounded = bounds(filter);
    bounded.first().is_some_and(|(column, ..)| {
        let place = schema.index_of(&column.name);
        place.is_ok_and(|place| indexes.iter().any(|index| index.columns.contains(&place)))
    })
}

struct Narrowed {
    /// A column that is pinned down counts two, a range one.
    score: usize,
    used: usize,
    intervals: Vec<Interval>,
}

/// Intervals of the index over `columns` that hold everything the filters let through; `None` if they do not speak of its
/// first column.
fn narrow(schema: &SchemaRef, columns: &[usize], filters: &[Expr]) -> Result<Option<Narrowed>> {
    // Values of the leading columns that are pinned down, one list for each combination.
    let mut prefixes: Vec<Vec<ScalarValue>> = vec![vec![]];
    let mut pinned = 0;
    for &column in columns {
        let Some(values) = pinned_values(schema, column, filters) else { break };
        if is_float(schema.field(column).data_type()) || prefixes.len() * values.len() > LOOKUP_KEY_COUNT_MAX {
            break;
        }
        prefixes = prefixes
            .into_iter()
            .flat_map(|prefix| {
                values.iter().map(move |value| [prefix.as_slice(), std::slice::from_ref(value)].concat())
            })
            .collect();
        pinned += 1;
    }
    let range = columns.get(pinned).map(|&column| range(schema, column, filters));
    let (low, high) = range.unwrap_or_default();
    let has_range = low.is_some() || high.is_some();
    if pinned == 0 && !has_range {
        return Ok(None);
    }
    let bound = |bound: &Option<ScalarValue>| -> Result<Vec<Vec<u8>>> {
        let with_bound = prefixes.iter().map(|prefix| prefix.iter().chain(bound).cloned().collect());
        encode(with_bound.collect())
    };
    let intervals = bound(&low)?.into_iter().zip(bound(&high)?).map(|(low, high)| Interval { low, high }).collect();
    let used = pinned + usize::from(has_range);
    Ok(Some(Narrowed { score: 2 * pinned + usize::from(has_range), used, intervals }))
}

/// Rows of values as index keys; a row without values is the empty key.
fn encode(rows: Vec<Vec<ScalarValue>>) -> Result<Vec<Vec<u8>>> {
    let width = rows.first().map_or(0, Vec::len);
    if width == 0 {
        return Ok(vec![vec![]; rows.len()]);
    }
    encode_keys(&columns_of(&rows, width)?)
}

fn columns_of(rows: &[Vec<ScalarValue>], width: usize) -> Result<Vec<ArrayRef>> {
    (0..width)
        .map(|place| ScalarValue::iter_to_array(rows.iter().map(|row| row[place].clone())).map_err(Error::from))
        .collect()
}

fn is_float(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
}

/// Literals of the column's own type: of another, the filter above decides, not the key's bytes.
fn fits(schema: &SchemaRef, column: usize, literal: &ScalarValue) -> bool {
    literal.data_type() == *schema.field(column).data_type() && !literal.is_null()
}

fn pinned_values(schema: &SchemaRef, column: usize, filters: &[Expr]) -> Option<Vec<ScalarValue>> {
    let name = schema.field(column).name();
    let mut found = filters.iter().filter_map(alternatives);
    let (_, values) = found.find(|(column_name, literals)| {
        column_name.name == *name && literals.iter().all(|literal| fits(schema, column, literal))
    })?;
    Some(values)
}

/// The least and the greatest value that the filters allow, where they say.
fn range(schema: &SchemaRef, column: usize, filters: &[Expr]) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let name = schema.field(column).name();
    let (mut low, mut high): (Option<ScalarValue>, Option<ScalarValue>) = (None, None);
    let all = filters.iter().flat_map(bounds).filter(|(c, _, value)| c.name == *name && fits(schema, column, value));
    for (_, side, value) in all {
        let (bound, wins) = match side {
            Side::Low => (&mut low, std::cmp::Ordering::Greater),
            Side::High => (&mut high, std::cmp::Ordering::Less),
        };
        // Of two bounds the tighter one.
        if bound.as_ref().is_none_or(|known| value.partial_cmp(known) == Some(wins)) {
            *bound = Some(value);
        }
    }
    (low.map(|value| zero(value, -0.0)), high.map(|value| zero(value, 0.0)))
}

/// The two zeroes are equal and sort apart.
fn zero(value: ScalarValue, zero: f64) -> ScalarValue {
    match value {
        ScalarValue::Float32(Some(0.0)) => ScalarValue::Float32(Some(zero as f32)),
        ScalarValue::Float64(Some(0.0)) => ScalarValue::Float64(Some(zero)),
        other => other,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Low,
    High,
}

/// `c > 1`, `1 <= c`, `c BETWEEN 1 AND 2`, `c = 1`: the bounds that it sets.
fn bounds(filter: &Expr) -> Vec<(&Column, Side, ScalarValue)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, value, op) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => (column, value, *op),
                (Expr::Literal(value, _), Expr::Column(column)) => match op.swap() {
                    Some(op) => (column, value, op),
                    None => return vec![],
                },
                _ => return vec![],
            };
            let low = matches!(op, Operator::Gt | Operator::GtEq | Operator::Eq);
            let high = matches!(op, Operator::Lt | Operator::LtEq | Operator::Eq);
            let sides = [(low, Side::Low), (high, Side::High)];
            sides.into_iter().filter(|(set, _)| *set).map(|(_, side)| (column, side, value.clone())).collect()
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let Expr::Column(column) = expr.as_ref() else { return vec![] };
            let sides = [(low.as_ref(), Side::Low), (high.as_ref(), Side::High)];
            let literal = |(bound, side): (&Expr, Side)| match bound {
                Expr::Literal(value, _) => Some((column, side, value.clone())),
                _ => None,
            };
            sides.into_iter().filter_map(literal).collect()
        }
        _ => vec![],
    }
}

/// One row for each key that the filters allow, if they pin down every key column.
fn lookup_keys(schema: &SchemaRef, key: &[usize], filters: &[Expr]) -> Result<Option<RecordBatch>> {
    if key.is_empty() || filters.is_empty() {
        return Ok(None);
    }
    let mut values: Vec<Vec<ScalarValue>> = vec![];
    for &column in key {
        match pinned_values(schema, column, filters) {
            // 0.0 equals −0.0, and a key does not know that.
            Some(literals) if !is_float(schema.field(column).data_type()) => values.push(literals),
            _ => return Ok(None),
        }
    }
    if values.iter().map(Vec::len).product::<usize>() > LOOKUP_KEY_COUNT_MAX {
        return Ok(None);
    }
    let mut rows: Vec<Vec<ScalarValue>> = vec![vec![]];
    for literals in values {
        rows = rows
            .into_iter()
            .flat_map(|row| literals.iter().map(move |l| [row.as_slice(), std::slice::from_ref(l)].concat()))
            .collect();
    }
    key_batch(schema, key, &rows).map(Some)
}

/// Rows of values of the key columns, as a lookup takes them.
pub fn key_batch(schema: &SchemaRef, key: &[usize], rows: &[Vec<ScalarValue>]) -> Result<RecordBatch> {
    let fields: Vec<_> = key.iter().map(|&column| schema.fields()[column].clone()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns_of(rows, key.len())?)?)
}

/// `c = 1`, `1 = c`, `c IN (1, 2)` and ORs of these over one column: the column and the distinct values it may have.
fn alternatives(filter: &Expr) -> Option<(&Column, Vec<ScalarValue>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                Some((column, vec![value.clone()]))
            }
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = alternatives(left)?;
            let (other, more) = alternatives(right)?;
            let same = column == other;
            values.extend(more.into_iter().filter(|value| !values.contains(value)).collect::<Vec<_>>());
            same.then_some((column, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let mut values: Vec<ScalarValue> = vec![];
            for item in list {
                let Expr::Literal(value, _) = item else { return None };
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            Some((column, values))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int32Type};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false), Field::new("n", DataType::Utf8, true)]))
    }

    fn index(columns: &[usize]) -> TableIndex {
        TableIndex { name: format!("{columns:?}"), columns: columns.to_vec() }
    }

    #[test]
    fn equality_on_the_key_becomes_a_lookup() -> Result<()> {
        let filter = col("id").eq(lit(7)).or(lit(9).eq(col("id"))).or(col("id").eq(lit(7)));
        let keys = lookup_keys(&schema(), &[0], &[filter])?.expect("the key is pinned down");
        assert_eq!(keys.column(0).as_primitive::<Int32Type>().values(), &[7, 9]);
        Ok(())
    }

    #[test]
    fn other_filters_scan() -> Result<()> {
        assert!(lookup_keys(&schema(), &[0], &[col("n").eq(lit("x"))])?.is_none());
        assert!(lookup_keys(&schema(), &[0], &[col("id").gt(lit(7))])?.is_none());
        // Another type than the column's: the filter above decides, not the key's bytes.
        assert!(lookup_keys(&schema(), &[0], &[col("id").eq(lit(7_i64))])?.is_none());
        assert!(lookup_keys(&schema(), &[0], &[col("id").eq(lit(ScalarValue::Int32(None)))])?.is_none());
        assert!(lookup_keys(&schema(), &[], &[col("id").eq(lit(7))])?.is_none());
        Ok(())
    }

    #[test]
    fn a_composite_key_needs_all_its_columns() -> Result<()> {
        let both = [col("id").in_list(vec![lit(1), lit(2)], false), col("n").eq(lit("x"))];
        assert_eq!(lookup_keys(&schema(), &[0, 1], &both)?.expect("both columns are pinned").num_rows(), 2);
        assert!(lookup_keys(&schema(), &[0, 1], &both[..1])?.is_none());
        Ok(())
    }

    #[test]
    fn the_index_that_narrows_most_is_taken() -> Result<()> {
        let indexes = [index(&[0]), index(&[1, 0]), index(&[1])];
        let chosen = |filters: &[Expr]| match choose(&schema(), None, &indexes, filters, &|_, _| Ok(0))? {
            Access::Index { index, used, intervals } => Ok(Some((index.columns, used, intervals.len()))),
            _ => Ok::<_, Error>(None),
        };
        assert_eq!(chosen(&[col("id").gt(lit(7))])?, Some((vec![0], 1, 1)));
        assert_eq!(chosen(&[col("id").lt(lit(7)), col("n").eq(lit("x"))])?, Some((vec![1, 0], 2, 1)));
        assert_eq!(chosen(&[col("n").in_list(vec![lit("x"), lit("y")], false)])?, Some((vec![1, 0], 1, 2)));
        assert_eq!(chosen(&[col("id").gt(lit(7_i64))])?, None);
        assert_eq!(chosen(&[col("id").not_eq(lit(7))])?, None);
        // What is known of the rows counts more than the form of the filters.
        let both = [col("id").gt(lit(7)), col("n").eq(lit("x"))];
        let few = |columns: &[usize], _: &[Interval]| Ok(if columns == [0] { 1 } else { 100 });
        let access = choose(&schema(), None, &indexes, &both, &few)?;
        assert!(matches!(access, Access::Index { index, .. } if index.columns == [0]));
        Ok(())
    }

    #[test]
    fn the_tighter_bound_counts_and_both_zeroes_are_found() {
        let filters = [col("id").gt(lit(3)), lit(5).lt_eq(col("id")), col("id").between(lit(1), lit(9))];
        let five_to_nine = (Some(ScalarValue::from(5)), Some(ScalarValue::from(9)));
        assert_eq!(range(&schema(), 0, &filters), five_to_nine);
        let floats = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
        let (low, high) = range(&floats, 0, &[col("f").eq(lit(0.0))]);
        let signs = [low, high].map(|bound| match bound {
            Some(ScalarValue::Float64(Some(value))) => value.is_sign_negative(),
            _ => unreachable!("both bounds are set"),
        });
        assert_eq!(signs, [true, false]);
    }
}
