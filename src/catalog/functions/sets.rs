//! The lists behind functions that return sets; `sql::compat` unnests them.
//!
//! A list's items are records, so that a field keeps its type (`jsonb`, `uuid`) when the list is taken apart:
//! `hw_elements(a, b)` has fields `value`, `value2`; `hw_ordinality(list)` appends `ordinality`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result as DfResult, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::regex;
use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::Result;
use crate::types::{PgType, json_scan};

type Fielded = &'static [(&'static str, PgType)];
const JSON: Fielded = &[("value", PgType::Json)];
const JSONB: Fielded = &[("value", PgType::Jsonb)];
const TEXT: Fielded = &[("value", PgType::Text)];
const JSON_PAIR: Fielded = &[("key", PgType::Text), ("value", PgType::Json)];
const JSONB_PAIR: Fielded = &[("key", PgType::Text), ("value", PgType::Jsonb)];
const TEXT_PAIR: Fielded = &[("key", PgType::Text), ("value", PgType::Text)];

pub(super) const FUNCTIONS: &[Function] = &[
    function("hw_json_elements", &[overload(&[Type::Json], Kernel::Records(JSON, elements))]),
    function("hw_jsonb_elements", &[overload(&[Type::Jsonb], Kernel::Records(JSONB, elements))]),
    function("hw_json_elements_text", &[overload(&[Type::Json], Kernel::Records(TEXT, element_texts))]),
    function("hw_jsonb_elements_text", &[overload(&[Type::Jsonb], Kernel::Records(TEXT, element_texts))]),
    function("hw_json_records", &[overload(&[Type::Json], Kernel::Records(JSON, objects))]),
    function("hw_jsonb_records", &[overload(&[Type::Jsonb], Kernel::Records(JSONB, objects))]),
    function("hw_json_each", &[overload(&[Type::Json], Kernel::Records(JSON_PAIR, each))]),
    function("hw_jsonb_each", &[overload(&[Type::Jsonb], Kernel::Records(JSONB_PAIR, each))]),
    function("hw_json_each_text", &[overload(&[Type::Json], Kernel::Records(TEXT_PAIR, each_text))]),
    function("hw_jsonb_each_text", &[overload(&[Type::Jsonb], Kernel::Records(TEXT_PAIR, each_text))]),
    function("hw_json_object_keys", &[overload(&[Type::Json], Kernel::Records(TEXT, keys))]),
    function("hw_jsonb_object_keys", &[overload(&[Type::Jsonb], Kernel::Records(TEXT, keys))]),
    function(
        "hw_regexp_matches",
        &[overload(&[Type::Text, Type::Text, Type::Text], Kernel::TextArrays(regexp_matches)).optional(1)],
    ),
    function(
        "hw_regexp_split",
        &[overload(&[Type::Text, Type::Text, Type::Text], Kernel::Records(TEXT, regexp_split)).optional(1)],
    ),
    function(
        "hw_string_split",
        &[overload(&[Type::Text, Type::Text, Type::Text], Kernel::Records(TEXT, string_split)).optional(1).lenient()],
    ),
];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [
        ScalarUDF::new_from_impl(Elements { signature: Signature::variadic_any(Volatility::Immutable) }),
        ScalarUDF::new_from_impl(Ordinality { signature: Signature::any(1, Volatility::Immutable) }),
    ]
    .map(Arc::new)
    .to_vec()
}

/// 22023 unless the value is of this kind.
fn require(row: &Row<'_>, kind: &str, function: &str) -> Result<()> {
    let found = json_scan::kind(row.text(0));
    if found == kind {
        return Ok(());
    }
    let message = match (kind, found) {
        ("array", "object") => "cannot extract elements from an object".to_string(),
        ("array", _) => "cannot extract elements from a scalar".to_string(),
        (_, found) if function == "keys" => {
            let found = if found == "array" { "an array" } else { "a scalar" };
            format!("cannot call jsonb_object_keys on {found}")
        }
        _ => "cannot call jsonb_each on a non-object".to_string(),
    };
    Err(super::invalid(message))
}

fn elements(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    require(row, "array", "elements")?;
    cells.extend(json_scan::items(row.text(0)).map(|item| Some(item.to_string())));
    Ok(())
}

/// What `jsonb_to_recordset` takes apart.
fn objects(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    let text = row.text(0);
    if json_scan::kind(text) != "array" || json_scan::items(text).any(|item| json_scan::kind(item) != "object") {
        return Err(super::invalid("argument of jsonb_to_recordset must be an array of objects"));
    }
    elements(row, cells)
}

fn element_texts(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    require(row, "array", "elements")?;
    cells.extend(json_scan::items(row.text(0)).map(json_scan::text));
    Ok(())
}

fn each(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    require(row, "object", "each")?;
    for (key, value) in json_scan::members(row.text(0)) {
        cells.extend([json_scan::string(key), Some(value.to_string())]);
    }
    Ok(())
}

fn each_text(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    require(row, "object", "each")?;
    for (key, value) in json_scan::members(row.text(0)) {
        cells.extend([json_scan::string(key), json_scan::text(value)]);
    }
    Ok(())
}

fn keys(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    require(row, "object", "keys")?;
    cells.extend(json_scan::members(row.text(0)).map(|(key, _)| json_scan::string(key)));
    Ok(())
}

fn regexp_matches(row: &Row<'_>, arrays: &mut Vec<Vec<Option<String>>>) -> Result<()> {
    let flags = row.text_or(2, "");
    let matches = regex::matches(row.text(0), row.text(1), flags)?;
    arrays.extend(matches);
    Ok(())
}

fn regexp_split(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    cells.extend(regex::split(row.text(0), row.text(1), row.text_or(2, ""))?.into_iter().map(Some));
    Ok(())
}

fn string_split(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    if !row.is_null(0) {
        let delimiter = (!row.is_null(1)).then(|| row.text(1));
        let null = (row.len() > 2 && !row.is_null(2)).then(|| row.text(2));
        cells.extend(super::strings::split(row.text(0), delimiter, null));
    }
    Ok(())
}

/// `hw_elements(array, …)`: the items side by side, NULL from the end of the shorter ones on. Arrays of arrays are gone
/// through to the bottom, as Postgres' arrays of several dimensions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    signature: Signature,
}

impl Elements {
    fn field(arguments: &[FieldRef]) -> DfResult<FieldRef> {
        let mut fields = vec![];
        for (index, argument) in arguments.iter().enumerate() {
            let mut item = argument.clone();
            let name = if index == 0 { "value".to_string() } else { format!("value{}", index + 1) };
            let mut depth = 0;
            while let DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) =
                item.data_type()
            {
                item = inner.clone();
                depth += 1;
            }
            if depth == 0 {
                return plan_err!(
                    "No function matches the given name and argument types 'unnest({})'. ",
                    PgType::of(argument).name()
                );
            }
            fields.push(Arc::new(item.as_ref().clone().with_name(name).with_nullable(true)));
        }
        let item = Field::new("item", DataType::Struct(Fields::from(fields)), true);
        Ok(Arc::new(Field::new("hw_elements", DataType::List(Arc::new(item)), true)))
    }
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        "hw_elements"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        plan_err!("hw_elements is typed by its fields")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Elements::field(args.arg_fields)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let DataType::List(item) = args.return_field.data_type() else { return exec_err!("hw_elements gives a list") };
        let DataType::Struct(fields) = item.data_type() else { return exec_err!("hw_elements gives records") };
        let lists = args.args.iter().map(|arg| flat_list(&arg.to_array(args.number_rows)?));
        let lists = lists.collect::<DfResult<Vec<ListArray>>>()?;
        let length = |list: &ListArray, row: usize| if list.is_null(row) { 0 } else { list.value_length(row) as usize };
        let longest = |row| lists.iter().map(|list| length(list, row)).max().unwrap_or(0);
        let lengths: Vec<usize> = (0..args.number_rows).map(longest).collect();
        let columns = lists.iter().zip(fields).map(|(list, field)| -> DfResult<ArrayRef> {
            let offsets = list.value_offsets();
            let dense = (0..args.number_rows).all(|row| length(list, row) == lengths[row])
                && (0..args.number_rows).all(|row| list.is_valid(row) || list.value_length(row) == 0);
            if *list.values().data_type() == DataType::Null {
                return Ok(new_null_array(field.data_type(), lengths.iter().sum()));
            }
            if dense {
                let (first, last) = (offsets[0] as usize, offsets[args.number_rows] as usize);
                return Ok(list.values().slice(first, last - first));
            }
            let mut positions: Vec<Option<u32>> = vec![];
            for (row, longest) in lengths.iter().enumerate() {
                let (first, length) = (offsets[row] as usize, length(list, row));
                positions.extend((0..*longest).map(|at| (at < length).then_some((first + at) as u32)));
            }
            Ok(take(list.values(), &UInt32Array::from(positions), None)?)
        });
        let records = StructArray::try_new(fields.clone(), columns.collect::<DfResult<_>>()?, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(records), None)?)))
    }
}

/// One list of all that is at the bottom of an array of arrays.
fn flat_list(array: &ArrayRef) -> DfResult<ListArray> {
    let list = match array.data_type() {
        DataType::List(_) => array.clone(),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            arrow::compute::cast(array, &DataType::List(item.clone()))?
        }
        _ => return exec_err!("unnest takes an array"),
    };
    let outer = list.as_list::<i32>();
    if !matches!(outer.value_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) {
        return Ok(outer.clone());
    }
    let inner = flat_list(outer.values())?;
    // NULL arrays may have items under them.
    let mut positions: Vec<u32> = vec![];
    let mut lengths = vec![];
    for row in 0..outer.len() {
        let before = positions.len();
        if outer.is_valid(row) {
            for at in outer.value_offsets()[row] as usize..outer.value_offsets()[row + 1] as usize {
                if inner.is_valid(at) {
                    positions.extend(inner.value_offsets()[at] as u32..inner.value_offsets()[at + 1] as u32);
                }
            }
        }
        lengths.push(positions.len() - before);
    }
    let values = take(inner.values(), &UInt32Array::from(positions), None)?;
    let DataType::List(item) = inner.data_type() else { return exec_err!("a list has items") };
    let nulls: Option<NullBuffer> = outer.nulls().cloned();
    Ok(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, nulls)?)
}

/// `hw_ordinality(list of records)`: the list with each record's position, from 1.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordinality {
    signature: Signature,
}

impl ScalarUDFImpl for Ordinality {
    fn name(&self) -> &str {
        "hw_ordinality"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        if let DataType::List(item) = &arguments[0]
            && let DataType::Struct(fields) = item.data_type()
        {
            let ordinality = Arc::new(Field::new("ordinality", DataType::Int64, true));
            let fields: Fields = fields.iter().cloned().chain([ordinality]).collect();
            return Ok(DataType::List(Arc::new(Field::new("item", DataType::Struct(fields), true))));
        }
        plan_err!("WITH ORDINALITY takes a function that returns a set")
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let list = array.as_list::<i32>();
        let DataType::List(item) = args.return_field.data_type() else { return exec_err!("a list of records") };
        let DataType::Struct(fields) = item.data_type() else { return exec_err!("a list of records") };
        let offsets = list.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
        let values = list.values().slice(first, last - first);
        let positions = offsets.windows(2).flat_map(|window| 1..=i64::from(window[1] - window[0]));
        let mut columns = values.as_struct().columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(positions)));
        let records = StructArray::try_new(fields.clone(), columns, values.nulls().cloned())?;
        let offsets = OffsetBuffer::from_lengths(offsets.windows(2).map(|window| (window[1] - window[0]) as usize));
        let numbered = ListArray::try_new(item.clone(), offsets, Arc::new(records), list.nulls().cloned())?;
        Ok(match &args.args[0] {
            ColumnarValue::Scalar(_) if args.number_rows == 1 => {
                ColumnarValue::Scalar(ScalarValue::List(Arc::new(numbered)))
            }
            _ => ColumnarValue::Array(Arc::new(numbered)),
        })
    }
}
