//! Powers, exponentials and logarithms: of `double precision`, with Postgres' errors where others give infinity or NaN, and of
//! `numeric`, with Postgres' digits.

use super::math::number;
use super::scalar::{Decimal, Function, Kernel, Overload, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::NUMERIC_DEFAULT;
use crate::types::power::{self, Failure};

use Type::{Float8, Numeric};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "exp",
        &[
            overload(
                &[Float8],
                Kernel::Float8(|row| checked(row.float(0).exp(), row.float(0).is_infinite(), false).map(Some)),
            ),
            overload(&[Numeric], Kernel::Numeric(|row| decimal(power::exp(number(row.numeric(0)), SCALE)))),
        ],
    ),
    function(
        "ln",
        &[
            overload(&[Float8], Kernel::Float8(|row| logarithm(row.float(0), f64::ln))),
            overload(&[Numeric], Kernel::Numeric(|row| decimal(power::ln(number(row.numeric(0)), SCALE)))),
        ],
    ),
    function(
        "log",
        &[
            overload(&[Float8], Kernel::Float8(|row| logarithm(row.float(0), f64::log10))),
            overload(&[Numeric], LOG_10),
            overload(
                &[Numeric, Numeric],
                Kernel::Numeric(|row| decimal(power::log(number(row.numeric(0)), number(row.numeric(1)), SCALE))),
            ),
        ],
    ),
    function(
        "log10",
        &[overload(&[Float8], Kernel::Float8(|row| logarithm(row.float(0), f64::log10))), overload(&[Numeric], LOG_10)],
    ),
    function("power", POWER),
    function("pow", POWER),
];

const SCALE: i8 = NUMERIC_DEFAULT.1;

const LOG_10: Kernel =
    Kernel::Numeric(|row| decimal(power::log(number(Decimal::new(10, 0)), number(row.numeric(0)), SCALE)));

/// An integer and a numeric make a numeric.
const POWER: &[Overload] = &[
    overload(
        &[Numeric, Numeric],
        Kernel::Numeric(|row| decimal(power::power(number(row.numeric(0)), number(row.numeric(1)), SCALE))),
    ),
    overload(&[Float8, Float8], Kernel::Float8(|row| raised(row.float(0), row.float(1)).map(Some))),
];

fn decimal(result: std::result::Result<i128, Failure>) -> Result<Option<Decimal>> {
    match result {
        Ok(digits) => Ok(Some(Decimal::new(digits, SCALE))),
        Err(failure) => Err(error(failure)),
    }
}

fn error(failure: Failure) -> Error {
    let (code, message) = match failure {
        Failure::Overflow => (SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format"),
        Failure::DivisionByZero => (SqlState::DIVISION_BY_ZERO, "division by zero"),
        Failure::LogarithmOfZero => (SqlState("2201E"), "cannot take logarithm of zero"),
        Failure::LogarithmOfNegative => (SqlState("2201E"), "cannot take logarithm of a negative number"),
        Failure::ZeroToNegative => (SqlState("2201F"), "zero raised to a negative power is undefined"),
        Failure::NegativeToFraction => {
            (SqlState("2201F"), "a negative number raised to a non-integer power yields a complex result")
        }
    };
    Error::new(code, message)
}

/// 22003 where a finite argument gives infinity, or zero that it is not.
fn checked(result: f64, may_be_infinite: bool, may_be_zero: bool) -> Result<f64> {
    let what = match result {
        result if result.is_infinite() && !may_be_infinite => "overflow",
        result if result == 0.0 && !may_be_zero && !may_be_infinite => "underflow",
        result => return Ok(result),
    };
    Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {what}")))
}

fn logarithm(value: f64, logarithm: fn(f64) -> f64) -> Result<Option<f64>> {
    if value == 0.0 {
        return Err(error(Failure::LogarithmOfZero));
    }
    if value < 0.0 { Err(error(Failure::LogarithmOfNegative)) } else { Ok(Some(logarithm(value))) }
}

fn raised(base: f64, exponent: f64) -> Result<f64> {
    if base == 0.0 && exponent < 0.0 {
        return Err(error(Failure::ZeroToNegative));
    }
    if base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0 {
        return Err(error(Failure::NegativeToFraction));
    }
    let is_infinite = base.is_infinite() || exponent.is_infinite();
    checked(base.powf(exponent), is_infinite, base == 0.0)
}
