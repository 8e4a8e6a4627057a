//! `pg_sleep(seconds)`: waits without holding a thread, so that a cancelled query stops waiting at once.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use async_trait::async_trait;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::types::PgType;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let sleep = Sleep { signature: Signature::exact(vec![DataType::Float64], Volatility::Volatile) };
    vec![Arc::new(AsyncScalarUDF::new(Arc::new(sleep)).into_scalar_udf())]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(PgType::Void.field("pg_sleep", true))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        unreachable!("an async function is invoked through invoke_async_with_args")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds = args.args[0].to_array(args.number_rows)?;
        let seconds = seconds.as_primitive::<Float64Type>();
        // A day at a time, so that no duration overflows the timer.
        for mut rest in seconds.iter().flatten().filter(|s| s.is_finite() && *s > 0.0) {
            while rest > 0.0 {
                let step = rest.min(86_400.0);
                tokio::time::sleep(Duration::from_secs_f64(step)).await;
                rest -= step;
            }
        }
        Ok(ColumnarValue::Array(ScalarValue::Utf8(Some(String::new())).to_array_of_size(seconds.len())?))
    }
}
