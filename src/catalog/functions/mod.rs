//! The functions that Postgres clients ask of the catalog and of the session: `format_type`, `pg_get_viewdef`,
//! `current_setting`, `has_table_privilege`, `quote_ident`, …
//!
//! ```text
//! DEFINITIONS (name, arguments, result, kernel) ──all(context)──▶ ScalarUDFs, registered once for a session
//!                                             FunctionContext: the session's catalog, settings, user, pid, as of now
//! ```
//!
//! A session makes its functions once (tens of microseconds) and registers them; each call asks the context for the
//! catalog and settings of that moment, so nothing is registered anew for a query. Kernels work value by value: what
//! they are asked of is a catalog, not a stream. Functions that ask for the session are stable, so that the planner
//! folds a call on literals into a literal.
//!
//! Names with the prefix `hw_` are not for people: `sql::compat` writes them where Postgres has a cast or a
//! construct that DataFusion lacks (`'t'::regclass`, `ARRAY(SELECT …)`, a correlated scalar subquery).

mod aggregate;
mod arrays;
mod bytes;
mod datetime;
mod describe;
mod expand;
mod exponential;
mod format_datetime;
mod format_number;
mod identity;
mod json;
mod json_aggregate;
mod json_change;
mod json_path;
mod keywords;
mod lists;
mod locks;
mod math;
mod ordered_set;
mod privileges;
mod quantified;
mod reg;
mod regex;
mod scalar;
mod series;
mod sets;
mod sleep;
mod string_agg;
mod strings;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::Array;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue, plan_err};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub use datetime::scale_of_field;
pub use describe::index_definition;
pub use locks::AdvisoryLocks;
pub use quantified::operator_of as quantified_operator;
pub use reg::{quote_identifier, regclass_name, regnamespace_name, regproc_name, regtype_name};

use super::system::{Value, array};
use super::{Catalog, Object};
use crate::error::{Error, Result};
use crate::types::PgType;

/// The session that a function is called in. Implementations answer from what the session holds at that moment.
pub trait FunctionContext: Send + Sync {
    fn catalog(&self) -> Arc<Catalog>;
    fn database(&self) -> String;
    /// `current_user`.
    fn user(&self) -> String;
    fn session_user(&self) -> String;
    fn pid(&self) -> i32;
    /// A setting by its lower-case name, as SHOW prints it.
    fn setting(&self, name: &str) -> Option<String>;
    /// SET by `set_config`; returns the value as it now stands. 42704 for an unknown setting, 22023 for a bad value.
    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String>;
    /// What `version()` says.
    fn version(&self) -> String;
    /// Cancels what the session with this pid executes; false if there is none. 42501 if it is another role's.
    fn cancel_backend(&self, pid: i32) -> Result<bool>;
    /// Ends the session with this pid; false if there is none. 42501 if it is another role's.
    fn terminate_backend(&self, pid: i32) -> Result<bool>;
    /// Bytes that a relation takes; 0 where it stores nothing.
    fn relation_bytes(&self, relation: &Object) -> i64;
    /// The last committed epoch: our transaction id.
    fn epoch(&self) -> u64;
    /// Locks that all sessions share.
    fn locks(&self) -> &AdvisoryLocks;
    fn client_address(&self) -> Option<String>;
    /// Microseconds since 1970 at which the server started.
    fn start_time_us(&self) -> i64;

    /// Schemas of `search_path` that exist, `$user` left out, implicit ones not included.
    fn search_path(&self) -> Vec<String> {
        let path = self.setting("search_path").unwrap_or_else(|| super::SCHEMA.to_string());
        let catalog = self.catalog();
        let names = path.split(',').map(|name| name.trim().trim_matches('"').to_string());
        names.filter(|name| catalog.has_schema(name) || name == "pg_catalog").collect()
    }
}

/// What a kernel is told.
pub(crate) struct Call<'a> {
    context: &'a dyn FunctionContext,
    arguments: &'a [ScalarValue],
    /// The arguments' fields: their metadata tells an `int2vector` from an array.
    fields: &'a [FieldRef],
}

impl Call<'_> {
    fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).and_then(text_of)
    }

    fn int(&self, index: usize) -> Option<i64> {
        match self.arguments.get(index)? {
            ScalarValue::Int64(v) => *v,
            ScalarValue::Int32(v) => v.map(i64::from),
            ScalarValue::Int16(v) => v.map(i64::from),
            ScalarValue::UInt32(v) => v.map(i64::from),
            ScalarValue::UInt64(v) => v.and_then(|v| i64::try_from(v).ok()),
            _ => None,
        }
    }

    fn oid(&self, index: usize) -> Option<u32> {
        self.int(index).and_then(|v| u32::try_from(v).ok())
    }

    fn flag(&self, index: usize) -> Option<bool> {
        match self.arguments.get(index)? {
            ScalarValue::Boolean(v) => *v,
            _ => None,
        }
    }
}

fn text_of(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(v) | ScalarValue::LargeUtf8(v) | ScalarValue::Utf8View(v) => v.as_deref(),
        _ => None,
    }
}

/// What an argument is brought to before the kernel sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Argument {
    Text,
    /// OIDs and integers alike; a quoted number counts.
    Int,
    Bool,
    /// As it comes.
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Returns {
    Bool,
    Int4,
    Int8,
    Oid,
    Text,
    Name,
    Json,
    Jsonb,
    Void,
    Regclass,
    Regtype,
    Regproc,
    Regnamespace,
    Timestamptz,
    TextArray,
    Int4Array,
    OidArray,
}

impl Returns {
    fn pg_type(self) -> PgType {
        let array_of = |item| PgType::Array(Box::new(item));
        match self {
            Returns::Bool => PgType::Bool,
            Returns::Int4 => PgType::Int4,
            Returns::Int8 => PgType::Int8,
            Returns::Oid => PgType::Oid,
            Returns::Text => PgType::Text,
            Returns::Name => PgType::Name,
            Returns::Json => PgType::Json,
            Returns::Jsonb => PgType::Jsonb,
            Returns::Void => PgType::Void,
            Returns::Regclass => PgType::Regclass,
            Returns::Regtype => PgType::Regtype,
            Returns::Regproc => PgType::Regproc,
            Returns::Regnamespace => PgType::Regnamespace,
            Returns::Timestamptz => PgType::Timestamptz,
            Returns::TextArray => array_of(PgType::Text),
            Returns::Int4Array => array_of(PgType::Int4),
            Returns::OidArray => array_of(PgType::Oid),
        }
    }
}

type Kernel = fn(&Call<'_>) -> Result<Value>;

/// One function, whoever calls it.
pub(crate) struct Definition {
    name: &'static str,
    arguments: &'static [Argument],
    /// How many of the arguments, from the end, may be left out.
    optional: usize,
    /// Any number of `Any` arguments may follow.
    variadic: bool,
    returns: Returns,
    /// NULL in, NULL out.
    strict: bool,
    volatility: Volatility,
    kernel: Kernel,
}

const fn define(name: &'static str, arguments: &'static [Argument], returns: Returns, kernel: Kernel) -> Definition {
    Definition {
        name,
        arguments,
        optional: 0,
        variadic: false,
        returns,
        strict: true,
        volatility: Volatility::Stable,
        kernel,
    }
}

impl Definition {
    const fn optional(mut self, count: usize) -> Definition {
        self.optional = count;
        self
    }

    const fn variadic(mut self) -> Definition {
        self.variadic = true;
        self
    }

    /// The kernel is called for NULLs too.
    const fn lenient(mut self) -> Definition {
        self.strict = false;
        self
    }

    const fn volatile(mut self) -> Definition {
        self.volatility = Volatility::Volatile;
        self
    }

    const fn immutable(mut self) -> Definition {
        self.volatility = Volatility::Immutable;
        self
    }
}

fn definitions() -> impl Iterator<Item = &'static Definition> {
    [
        identity::DEFINITIONS,
        describe::DEFINITIONS,
        privileges::DEFINITIONS,
        reg::DEFINITIONS,
        text::DEFINITIONS,
        arrays::DEFINITIONS,
        json_aggregate::DEFINITIONS,
        locks::DEFINITIONS,
    ]
    .into_iter()
    .flatten()
}

/// Those that need no session.
fn scalar_definitions() -> impl Iterator<Item = &'static scalar::Function> {
    [
        sets::FUNCTIONS,
        regex::FUNCTIONS,
        strings::FUNCTIONS,
        json::FUNCTIONS,
        json_change::FUNCTIONS,
        json_path::FUNCTIONS,
        math::FUNCTIONS,
        exponential::FUNCTIONS,
        datetime::FUNCTIONS,
        format_datetime::FUNCTIONS,
        format_number::FUNCTIONS,
        bytes::FUNCTIONS,
        lists::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

static SCALAR: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut functions: Vec<Arc<ScalarUDF>> = scalar_definitions().map(scalar::ScalarFunction::udf).collect();
    functions.extend(sets::functions());
    functions.push(series::function());
    functions.extend(quantified::functions());
    functions.into_iter().map(|function| (function.name().to_string(), function)).collect()
});

/// The functions that need no session.
pub fn scalar_functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    SCALAR.values().cloned()
}

/// One of them by name.
pub fn scalar_function(name: &str) -> Option<Arc<ScalarUDF>> {
    SCALAR.get(name).cloned()
}

/// The functions of a session.
pub fn all(context: Arc<dyn FunctionContext>) -> Vec<Arc<ScalarUDF>> {
    let mut functions: Vec<Arc<ScalarUDF>> =
        definitions().map(|d| Arc::new(ScalarUDF::new_from_impl(CatalogFunction::new(d, context.clone())))).collect();
    functions.push(Arc::new(ScalarUDF::new_from_impl(expand::ExpandArray::default())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(expand::ArrayOrEmpty::default())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(aggregate::One::default())));
    functions.extend(sleep::functions());
    functions.extend(locks::waiting(context));
    functions
}

/// The aggregate functions that DataFusion lacks, or has otherwise than Postgres; the same for every session.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    use ordered_set::{OrderedSet, Pick};
    let ordered = [Pick::Continuous, Pick::Discrete, Pick::Mode].map(|pick| {
        let function = AggregateUDF::new_from_impl(OrderedSet::new(pick));
        Arc::new(function)
    });
    let single = Arc::new(AggregateUDF::new_from_impl(aggregate::SingleValue::default()));
    let strings = Arc::new(AggregateUDF::new_from_impl(string_agg::StringAgg::default()));
    ordered.into_iter().chain([single, strings]).collect()
}

/// A function as `pg_proc` lists it, with type OIDs.
pub struct Listed {
    pub name: &'static str,
    pub arguments: Vec<u32>,
    pub returns: u32,
    pub strict: bool,
    pub volatility: char,
}

/// The functions that people may call.
pub fn listed() -> impl Iterator<Item = Listed> {
    let scalar = scalar_definitions().flat_map(scalar::Function::listed);
    scalar.filter(|listed| !listed.name.starts_with("hw_")).chain(of_session())
}

fn of_session() -> impl Iterator<Item = Listed> {
    definitions().filter(|d| !d.name.starts_with("hw_")).map(|d| Listed {
        name: d.name,
        arguments: d
            .arguments
            .iter()
            .map(|a| match a {
                Argument::Text => PgType::Text.oid(),
                Argument::Int => PgType::Oid.oid(),
                Argument::Bool => PgType::Bool.oid(),
                // "any"
                Argument::Any => 2276,
            })
            .collect(),
        returns: d.returns.pg_type().oid(),
        strict: d.strict,
        volatility: match d.volatility {
            Volatility::Immutable => 'i',
            Volatility::Stable => 's',
            Volatility::Volatile => 'v',
        },
    })
}

/// A [`Definition`] in a session.
struct CatalogFunction {
    definition: &'static Definition,
    signature: Signature,
    returns: FieldRef,
    context: Arc<dyn FunctionContext>,
}

impl CatalogFunction {
    fn new(definition: &'static Definition, context: Arc<dyn FunctionContext>) -> CatalogFunction {
        let signature = Signature::user_defined(definition.volatility);
        let returns = definition.returns.pg_type().field(definition.name, true);
        CatalogFunction { definition, signature, returns, context }
    }

    fn identity(&self) -> (&'static str, *const ()) {
        (self.definition.name, Arc::as_ptr(&self.context).cast())
    }
}

impl fmt::Debug for CatalogFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.definition.name)
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &CatalogFunction) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.returns.clone())
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let declared = self.definition.arguments;
        let enough = given.len() + self.definition.optional >= declared.len();
        if !enough || (given.len() > declared.len() && !self.definition.variadic) {
            // Worded as DataFusion words it, so that it gets 42883.
            return plan_err!(
                "no function matches the given name and argument types: {}({})",
                self.definition.name,
                given.iter().map(|t| PgType::of_arrow(t).name()).collect::<Vec<_>>().join(", ")
            );
        }
        let coerced = |(index, given): (usize, &DataType)| match declared.get(index).unwrap_or(&Argument::Any) {
            Argument::Text => DataType::Utf8,
            Argument::Int => DataType::Int64,
            Argument::Bool => DataType::Boolean,
            Argument::Any => given.clone(),
        };
        Ok(given.iter().enumerate().map(coerced).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let all_scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let volatile = self.definition.volatility == Volatility::Volatile;
        let row_count = if all_scalar && (!volatile || args.number_rows <= 1) { 1 } else { args.number_rows };
        let mut values = Vec::with_capacity(row_count);
        let mut row = Vec::with_capacity(args.args.len());
        for index in 0..row_count {
            row.clear();
            for argument in &args.args {
                row.push(match argument {
                    ColumnarValue::Scalar(scalar) => scalar.clone(),
                    ColumnarValue::Array(array) => ScalarValue::try_from_array(array, index)?,
                });
            }
            let is_null = self.definition.strict && row.iter().any(ScalarValue::is_null);
            values.push(if is_null {
                Value::Null
            } else {
                let call = Call { context: self.context.as_ref(), arguments: &row, fields: &args.arg_fields };
                (self.definition.kernel)(&call)?
            });
        }
        let result = array(&values, &self.returns);
        Ok(if all_scalar && result.len() == 1 {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)
        } else {
            ColumnarValue::Array(result)
        })
    }
}

/// 22023: an argument that a function must refuse.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(crate::error::SqlState::INVALID_PARAMETER_VALUE, message)
}
