//! Advisory locks: names (one 64-bit number or two 32-bit ones) that sessions hold against each other.
//!
//! One [`AdvisoryLocks`] is shared by all sessions. A lock belongs to its session and counts: it is free when it was
//! unlocked as often as locked, or when the session ends and calls [`AdvisoryLocks::unlock_all`]. Shared and exclusive
//! locks differ as in Postgres. The `_xact_` forms are held until the session's locks are dropped, too: transactions
//! here do not outlive a statement's effect, and a lock held longer is safe.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, FieldRef};
use async_trait::async_trait;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use parking_lot::Mutex;

use super::Argument::Int;
use super::{Call, Definition, FunctionContext, Returns, define};
use crate::catalog::system::Value;
use crate::error::Result;
use crate::types::PgType;

pub(super) const DEFINITIONS: &[Definition] = &[
    define("pg_try_advisory_lock", &[Int, Int], Returns::Bool, |call| try_lock(call, false)).optional(1).volatile(),
    define("pg_try_advisory_xact_lock", &[Int, Int], Returns::Bool, |call| try_lock(call, false))
        .optional(1)
        .volatile(),
    define("pg_try_advisory_lock_shared", &[Int, Int], Returns::Bool, |call| try_lock(call, true))
        .optional(1)
        .volatile(),
    define("pg_advisory_unlock", &[Int, Int], Returns::Bool, |call| unlock(call, false)).optional(1).volatile(),
    define("pg_advisory_unlock_shared", &[Int, Int], Returns::Bool, |call| unlock(call, true)).optional(1).volatile(),
    define("pg_advisory_unlock_all", &[], Returns::Void, |call| {
        call.context.locks().unlock_all(call.context.pid());
        Ok("".into())
    })
    .volatile(),
];

/// A lock's name: the number, and whether it was given as two halves (which is another space of names).
type Key = (i64, bool);

#[derive(Default)]
pub struct AdvisoryLocks {
    held: Mutex<HashMap<Key, Vec<Holder>>>,
}

#[derive(Clone, Copy)]
struct Holder {
    pid: i32,
    shared: bool,
    count: u32,
}

impl AdvisoryLocks {
    /// Takes the lock if no other session holds it against us.
    fn try_lock(&self, key: Key, pid: i32, shared: bool) -> bool {
        let mut held = self.held.lock();
        let holders = held.entry(key).or_default();
        if holders.iter().any(|h| h.pid != pid && !(h.shared && shared)) {
            return false;
        }
        match holders.iter_mut().find(|h| h.pid == pid && h.shared == shared) {
            Some(holder) => holder.count += 1,
            None => holders.push(Holder { pid, shared, count: 1 }),
        }
        true
    }

    /// False if the session does not hold the lock.
    fn unlock(&self, key: Key, pid: i32, shared: bool) -> bool {
        let mut held = self.held.lock();
        let Some(holders) = held.get_mut(&key) else { return false };
        let Some(index) = holders.iter().position(|h| h.pid == pid && h.shared == shared) else { return false };
        holders[index].count -= 1;
        if holders[index].count == 0 {
            holders.remove(index);
        }
        if holders.is_empty() {
            held.remove(&key);
        }
        true
    }

    /// Frees all locks of a session; to be called when it ends, too.
    pub fn unlock_all(&self, pid: i32) {
        self.held.lock().retain(|_, holders| {
            holders.retain(|h| h.pid != pid);
            !holders.is_empty()
        });
    }
}

fn key(first: i64, second: Option<i64>) -> Key {
    match second {
        Some(second) => (first << 32 | second & 0xffff_ffff, true),
        None => (first, false),
    }
}

fn try_lock(call: &Call<'_>, shared: bool) -> Result<Value> {
    let key = key(call.int(0).unwrap_or(0), call.int(1));
    Ok(call.context.locks().try_lock(key, call.context.pid(), shared).into())
}

fn unlock(call: &Call<'_>, shared: bool) -> Result<Value> {
    let key = key(call.int(0).unwrap_or(0), call.int(1));
    Ok(call.context.locks().unlock(key, call.context.pid(), shared).into())
}

/// `pg_advisory_lock` and its kin, which wait.
pub(super) fn waiting(context: Arc<dyn FunctionContext>) -> impl Iterator<Item = Arc<ScalarUDF>> {
    const WAITING: &[(&str, bool)] = &[
        ("pg_advisory_lock", false),
        ("pg_advisory_xact_lock", false),
        ("pg_advisory_lock_shared", true),
        ("pg_advisory_xact_lock_shared", true),
    ];
    WAITING.iter().map(move |(name, shared)| {
        let one = TypeSignature::Exact(vec![DataType::Int64]);
        let two = TypeSignature::Exact(vec![DataType::Int64, DataType::Int64]);
        let signature = Signature::one_of(vec![one, two], Volatility::Volatile);
        let waiting = Waiting { name, shared: *shared, signature, context: context.clone() };
        Arc::new(AsyncScalarUDF::new(Arc::new(waiting)).into_scalar_udf())
    })
}

struct Waiting {
    name: &'static str,
    shared: bool,
    signature: Signature,
    context: Arc<dyn FunctionContext>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for Waiting {}

impl Hash for Waiting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, Arc::as_ptr(&self.context).cast::<()>()).hash(state);
    }
}

impl ScalarUDFImpl for Waiting {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(PgType::Void.field(self.name, true))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        unreachable!("an async function is invoked through invoke_async_with_args")
    }
}

/// How often a waiting session looks again. Advisory locks are held for long and waited for seldom.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[async_trait]
impl AsyncScalarUDFImpl for Waiting {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = args.args.iter().map(|a| a.to_array(args.number_rows)).collect::<DfResult<Vec<_>>>()?;
        for index in 0..args.number_rows {
            let mut numbers = vec![];
            for array in &arrays {
                if let ScalarValue::Int64(Some(number)) = ScalarValue::try_from_array(array, index)? {
                    numbers.push(number);
                }
            }
            let Some(first) = numbers.first().filter(|_| numbers.len() == arrays.len()) else { continue };
            let key = key(*first, numbers.get(1).copied());
            while !self.context.locks().try_lock(key, self.context.pid(), self.shared) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(ColumnarValue::Array(ScalarValue::Utf8(Some(String::new())).to_array_of_size(args.number_rows)?))
    }
}
