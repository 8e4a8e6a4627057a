//! Functions that carry what the planner has no word for through it. They never run: binding takes them out again.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as PlanResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;
use crate::sql::compat::DISTINCTIVE;
use crate::sql::parser::{EXCLUDE, WITH_TIES};

/// The mark of this name.
pub(super) fn mark(name: &str) -> Option<Arc<ScalarUDF>> {
    static MARKS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let mark = |name| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::new_from_impl(Mark { name, signature }))
        };
        // The count of FETCH … WITH TIES, what a frame leaves out, a cast that tells two calls apart.
        [WITH_TIES, EXCLUDE, DISTINCTIVE].into_iter().map(mark).collect()
    });
    MARKS.iter().find(|mark| mark.name() == name).cloned()
}

/// Has the type of its first argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let field = args.arg_fields.first().map(|field| field.as_ref().clone().with_name(self.name));
        field.map(Arc::new).ok_or_else(|| Error::internal(format!("{} takes an argument", self.name)).into())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        Err(Error::internal(format!("{} is left in a plan", self.name)).into())
    }
}
