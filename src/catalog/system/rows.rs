//! Rows of a system relation, written by column name; what a row does not say takes the column's default.
//!
//! In: `rows.push(&[("oid", 16384.into()), …])`. Out: one record batch in the relation's schema.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListBuilder,
    RecordBatch, RecordBatchOptions, StringArray, StringBuilder, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use arrow::array::{Int16Builder, Int32Builder, UInt32Builder};
use arrow::datatypes::{DataType, FieldRef};

use super::columns::Relation;

/// One value of a system relation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// Every integer type, OIDs, and timestamps as microseconds since 1970.
    Int(i64),
    Float(f64),
    Text(String),
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

macro_rules! value_from {
    ($($from:ty => |$v:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value { fn from($v: $from) -> Value { $to } })*
    };
}

value_from! {
    bool => |v| Value::Bool(v),
    i16 => |v| Value::Int(v.into()),
    i32 => |v| Value::Int(v.into()),
    u32 => |v| Value::Int(v.into()),
    i64 => |v| Value::Int(v),
    f64 => |v| Value::Float(v),
    char => |v| Value::Text(v.to_string()),
    &str => |v| Value::Text(v.to_string()),
    String => |v| Value::Text(v),
    Vec<i64> => |v| Value::Ints(v),
    Vec<String> => |v| Value::Texts(v),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

pub struct Rows {
    relation: &'static Relation,
    defaults: Vec<Value>,
    columns: Vec<Vec<Value>>,
}

impl Rows {
    pub fn new(relation: &'static Relation) -> Rows {
        let defaults = relation
            .columns
            .iter()
            .map(|c| c.default.map_or(Value::Null, |text| default_value(&c.pg_type.arrow(), text)))
            .collect();
        Rows { relation, defaults, columns: vec![vec![]; relation.columns.len()] }
    }

    pub fn push(&mut self, values: &[(&str, Value)]) {
        for (column, default) in self.columns.iter_mut().zip(&self.defaults) {
            column.push(default.clone());
        }
        for (name, value) in values {
            let index = self.relation.columns.iter().position(|c| c.name == *name);
            let index = index.unwrap_or_else(|| unreachable!("{} has no column {name}", self.relation.name));
            *self.columns[index].last_mut().expect("every column was just given a value") = value.clone();
        }
    }

    pub fn finish(self) -> RecordBatch {
        let row_count = self.columns.first().map_or(0, Vec::len);
        let schema = self.relation.arrow.clone();
        let arrays = self.columns.iter().zip(schema.fields()).map(|(values, field)| array(values, field)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .expect("arrays are made for the schema's types, one value a row")
    }
}

fn default_value(data_type: &DataType, text: &str) -> Value {
    match data_type {
        DataType::Boolean => Value::Bool(text == "t"),
        DataType::Utf8 => Value::Text(text.to_string()),
        DataType::Float32 | DataType::Float64 => Value::Float(text.parse().expect("a default of its column's type")),
        _ => Value::Int(text.parse().expect("a default of its column's type")),
    }
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(i) => Some(*i),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(s) => Some(s),
        _ => None,
    }
}

/// Values as an array of the field's type; a value of another kind reads as NULL.
pub(crate) fn array(values: &[Value], field: &FieldRef) -> ArrayRef {
    let ints = || values.iter().map(int);
    match field.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        }))),
        DataType::Int16 => Arc::new(Int16Array::from_iter(ints().map(|v| v.map(|v| v as i16)))),
        DataType::Int32 => Arc::new(Int32Array::from_iter(ints().map(|v| v.map(|v| v as i32)))),
        DataType::Int64 => Arc::new(Int64Array::from_iter(ints())),
        DataType::UInt32 => Arc::new(UInt32Array::from_iter(ints().map(|v| v.map(|v| v as u32)))),
        DataType::Float32 => Arc::new(Float32Array::from_iter(values.iter().map(|v| float(v).map(|f| f as f32)))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.iter().map(float))),
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(text))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.iter().map(|v| text(v).map(str::as_bytes)))),
        DataType::Timestamp(_, zone) => {
            Arc::new(TimestampMicrosecondArray::from_iter(ints()).with_timezone_opt(zone.clone()))
        }
        DataType::List(item) => match item.data_type() {
            DataType::Int32 => {
                let mut list = ListBuilder::new(Int32Builder::new()).with_field(item.clone());
                for value in values {
                    match value {
                        Value::Ints(ints) => list.append_value(ints.iter().map(|i| Some(*i as i32))),
                        _ => list.append_null(),
                    }
                }
                Arc::new(list.finish())
            }
            DataType::Int16 => {
                let mut list = ListBuilder::new(Int16Builder::new()).with_field(item.clone());
                for value in values {
                    match value {
                        Value::Ints(ints) => list.append_value(ints.iter().map(|i| Some(*i as i16))),
                        _ => list.append_null(),
                    }
                }
                Arc::new(list.finish())
            }
            DataType::UInt32 => {
                let mut list = ListBuilder::new(UInt32Builder::new()).with_field(item.clone());
                for value in values {
                    match value {
                        Value::Ints(ints) => list.append_value(ints.iter().map(|i| Some(*i as u32))),
                        _ => list.append_null(),
                    }
                }
                Arc::new(list.finish())
            }
            DataType::Utf8 => {
                let mut list = ListBuilder::new(StringBuilder::new()).with_field(item.clone());
                for value in values {
                    match value {
                        Value::Texts(texts) => list.append_value(texts.iter().map(Some)),
                        _ => list.append_null(),
                    }
                }
                Arc::new(list.finish())
            }
            _ => new_null_array(field.data_type(), values.len()),
        },
        other => new_null_array(other, values.len()),
    }
}
