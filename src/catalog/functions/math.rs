//! Numbers: rounding, remainders, `numeric` arithmetic, trigonometry in degrees.
//!
//! `numeric` is a decimal of 38 digits; products and quotients are worked out with twice as many and kept with sixteen
//! behind the point.

use arrow::datatypes::i256;
use datafusion::common::ScalarValue;

use super::invalid;
use super::scalar::{Decimal, Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::NUMERIC_DEFAULT;
use crate::types::quotient::{self, Number, divided};

use Type::{Any, Array, Float8, Int4, Int8, Numeric};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "round",
        &[
            overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).round_ties_even())))),
            overload(&[Numeric], Kernel::Numeric(|row| rounded(row.numeric(0), 0))),
            overload(&[Numeric, Int4], Kernel::Numeric(|row| rounded(row.numeric(0), row.int(1)))),
        ],
    ),
    function(
        "trunc",
        &[
            overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).trunc())))),
            overload(&[Numeric], Kernel::Numeric(|row| truncated(row.numeric(0), 0))),
            overload(&[Numeric, Int4], Kernel::Numeric(|row| truncated(row.numeric(0), row.int(1)))),
        ],
    ),
    function("ceil", CEIL),
    function("ceiling", CEIL),
    function(
        "floor",
        &[
            overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).floor())))),
            overload(&[Numeric], Kernel::Numeric(|row| whole(row.numeric(0), false))),
        ],
    ),
    function(
        "sign",
        &[
            overload(
                &[Float8],
                Kernel::Float8(|row| {
                    let value = row.float(0);
                    Ok(Some(if value == 0.0 || value.is_nan() { value } else { value.signum() }))
                }),
            ),
            overload(&[Numeric], Kernel::Numeric(|row| Ok(Some(Decimal::new(row.numeric(0).digits.signum(), 0))))),
        ],
    ),
    function(
        "mod",
        &[
            overload(&[Int4, Int4], Kernel::Int4(|row| Ok(Some(remainder(row.int(0), row.int(1))? as i32)))),
            overload(&[Int8, Int8], Kernel::Int8(|row| remainder(row.int(0), row.int(1)).map(Some))),
            overload(
                &[Numeric, Numeric],
                Kernel::Numeric(|row| {
                    let (a, b) = aligned(row.numeric(0), row.numeric(1))?;
                    if b.digits == 0 {
                        return Err(division_by_zero());
                    }
                    Ok(Some(Decimal::new(a.digits % b.digits, a.scale)))
                }),
            ),
        ],
    ),
    function(
        "div",
        &[overload(
            &[Numeric, Numeric],
            Kernel::Numeric(|row| {
                let (a, b) = aligned(row.numeric(0), row.numeric(1))?;
                if b.digits == 0 {
                    return Err(division_by_zero());
                }
                Ok(Some(Decimal::new(a.digits / b.digits, 0)))
            }),
        )],
    ),
    function(
        "gcd",
        &[
            overload(&[Int4, Int4], Kernel::Int4(|row| narrow(gcd(row.int(0).into(), row.int(1).into())).map(Some))),
            overload(&[Int8, Int8], Kernel::Int8(|row| fits(gcd(row.int(0).into(), row.int(1).into())).map(Some))),
        ],
    ),
    function(
        "lcm",
        &[
            overload(&[Int4, Int4], Kernel::Int4(|row| narrow(lcm(row.int(0).into(), row.int(1).into())).map(Some))),
            overload(&[Int8, Int8], Kernel::Int8(|row| fits(lcm(row.int(0).into(), row.int(1).into())).map(Some))),
        ],
    ),
    function(
        "sqrt",
        &[
            overload(
                &[Float8],
                Kernel::Float8(|row| {
                    let value = row.float(0);
                    if value < 0.0 { Err(negative_root()) } else { Ok(Some(value.sqrt())) }
                }),
            ),
            overload(&[Numeric], Kernel::Numeric(square_root)),
        ],
    ),
    function("factorial", &[overload(&[Int8], Kernel::Numeric(factorial))]),
    function("scale", &[overload(&[Numeric], Kernel::Int4(|row| Ok(Some(number(row.numeric(0)).shown.into()))))]),
    function("min_scale", &[overload(&[Numeric], Kernel::Int4(|row| Ok(Some(trimmed(row.numeric(0)).scale.into()))))]),
    function("trim_scale", &[overload(&[Numeric], Kernel::Numeric(|row| Ok(Some(trimmed(row.numeric(0))))))]),
    function(
        "width_bucket",
        &[
            overload(&[Float8, Float8, Float8, Int4], Kernel::Int4(width_bucket)),
            overload(&[Numeric, Numeric, Numeric, Int4], Kernel::Int4(width_bucket_numeric)),
            overload(&[Any, Array], Kernel::Int4(width_bucket_of)),
        ],
    ),
    function("sind", &[overload(&[Float8], Kernel::Float8(|row| Ok(Some(sine(row.float(0))))))]),
    function("cosd", &[overload(&[Float8], Kernel::Float8(|row| Ok(Some(sine(90.0 - row.float(0).abs() % 360.0)))))]),
    function(
        "tand",
        &[overload(
            &[Float8],
            Kernel::Float8(|row| {
                let angle = row.float(0);
                let tangent = sine(angle) / sine(90.0 - angle.abs() % 360.0);
                Ok(Some(if tangent.abs() == 1.0 || angle % 45.0 != 0.0 { tangent } else { tangent + 0.0 }))
            }),
        )],
    ),
    function("asind", &[overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).asin().to_degrees()))))]),
    function("acosd", &[overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).acos().to_degrees()))))]),
    function("atand", &[overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).atan().to_degrees()))))]),
    function(
        "hw_bit_not",
        &[
            overload(&[Int4], Kernel::Int4(|row| Ok(Some(!(row.int(0) as i32))))),
            overload(&[Int8], Kernel::Int8(|row| Ok(Some(!row.int(0))))),
        ],
    ),
    function(
        "hw_numeric_multiply",
        &[overload(
            &[Numeric, Numeric],
            Kernel::Numeric(|row| {
                let (a, b) = (row.numeric(0), row.numeric(1));
                let product = i256::from_i128(a.digits).checked_mul(i256::from_i128(b.digits)).ok_or_else(overflow)?;
                kept(product, i32::from(a.scale) + i32::from(b.scale)).map(Some)
            }),
        )],
    ),
    function("hw_numeric_divide", &[overload(&[Numeric, Numeric], Kernel::Numeric(divide))]),
];

const CEIL: &[super::scalar::Overload] = &[
    overload(&[Float8], Kernel::Float8(|row| Ok(Some(row.float(0).ceil())))),
    overload(&[Numeric], Kernel::Numeric(|row| whole(row.numeric(0), true))),
];

fn overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

/// At `places` behind the point (before it, if negative), half away from zero.
fn rounded(value: Decimal, places: i64) -> Result<Option<Decimal>> {
    if places >= i64::from(value.scale) {
        return Ok(Some(value));
    }
    let places = places.max(-38) as i8;
    let rounded = value.rescale(places).ok_or_else(overflow)?;
    rounded.rescale(value.scale).map(Some).ok_or_else(overflow)
}

fn truncated(value: Decimal, places: i64) -> Result<Option<Decimal>> {
    let dropped = i64::from(value.scale) - places;
    if dropped <= 0 {
        return Ok(Some(value));
    }
    let unit = u32::try_from(dropped).ok().and_then(|dropped| 10i128.checked_pow(dropped));
    Ok(Some(Decimal { digits: unit.map_or(0, |unit| value.digits / unit * unit), ..value }))
}

fn whole(value: Decimal, up: bool) -> Result<Option<Decimal>> {
    let unit = 10i128.pow(value.scale.max(0) as u32);
    let down = value.digits.div_euclid(unit);
    let is_whole = value.digits.rem_euclid(unit) == 0;
    Ok(Some(Decimal::new(if up && !is_whole { down + 1 } else { down }, 0)))
}

fn trimmed(mut value: Decimal) -> Decimal {
    while value.scale > 0 && value.digits % 10 == 0 {
        value = Decimal::new(value.digits / 10, value.scale - 1);
    }
    value
}

fn aligned(a: Decimal, b: Decimal) -> Result<(Decimal, Decimal)> {
    let scale = a.scale.max(b.scale);
    match (a.rescale(scale), b.rescale(scale)) {
        (Some(a), Some(b)) => Ok((a, b)),
        _ => Err(overflow()),
    }
}

fn remainder(a: i64, b: i64) -> Result<i64> {
    if b == 0 { Err(division_by_zero()) } else { Ok(a.wrapping_rem(b)) }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

fn lcm(a: i128, b: i128) -> i128 {
    if a == 0 || b == 0 { 0 } else { (a / gcd(a, b) * b).abs() }
}

fn narrow(value: i128) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range"))
}

fn fits(value: i128) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))
}

fn factorial(row: &Row<'_>) -> Result<Option<Decimal>> {
    let n = row.int(0);
    if n < 0 {
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "factorial of a negative number is undefined"));
    }
    let product = (1..=i128::from(n)).try_fold(1i128, |product, factor| product.checked_mul(factor));
    product.map(|digits| Some(Decimal::new(digits, 0))).ok_or_else(overflow)
}

/// Digits at a scale of any size, kept as `numeric` is, rounded half away from zero.
fn kept(digits: i256, scale: i32) -> Result<Decimal> {
    let target = i32::from(NUMERIC_DEFAULT.1);
    let ten = |power: u32| i256::from_i128(10).checked_pow(power).ok_or_else(overflow);
    let digits = if scale > target {
        let unit = ten((scale - target) as u32)?;
        half_away(digits, unit)?
    } else {
        digits.checked_mul(ten((target - scale) as u32)?).ok_or_else(overflow)?
    };
    Ok(Decimal::new(digits.to_i128().ok_or_else(overflow)?, NUMERIC_DEFAULT.1))
}

fn half_away(digits: i256, unit: i256) -> Result<i256> {
    let (whole, rest) = (digits / unit, digits % unit);
    let twice = rest.checked_mul(i256::from_i128(2)).ok_or_else(overflow)?;
    let (twice, size) = (if twice < i256::ZERO { -twice } else { twice }, if unit < i256::ZERO { -unit } else { unit });
    if twice < size {
        return Ok(whole);
    }
    let negative = (digits < i256::ZERO) != (unit < i256::ZERO);
    Ok(if negative { whole - i256::ONE } else { whole + i256::ONE })
}

fn divide(row: &Row<'_>) -> Result<Option<Decimal>> {
    let (a, b) = (row.numeric(0), row.numeric(1));
    if b.digits == 0 {
        return Err(division_by_zero());
    }
    let digits = divided(number(a), number(b), NUMERIC_DEFAULT.1).ok_or_else(overflow)?;
    Ok(Some(Decimal::new(digits, NUMERIC_DEFAULT.1)))
}

/// What carries an undeclared `numeric` has more digits behind the point than the number.
pub(super) fn number(value: Decimal) -> Number {
    let is_declared = value.scale != NUMERIC_DEFAULT.1;
    Number::new(i256::from_i128(value.digits), value.scale, is_declared)
}

fn negative_root() -> Error {
    Error::new(SqlState("2201F"), "cannot take square root of a negative number")
}

fn square_root(row: &Row<'_>) -> Result<Option<Decimal>> {
    let square = number(row.numeric(0));
    if square.digits.is_negative() {
        return Err(negative_root());
    }
    let root = quotient::square_root(square, NUMERIC_DEFAULT.1).ok_or_else(overflow)?;
    Ok(Some(Decimal::new(root, NUMERIC_DEFAULT.1)))
}

fn bucket_error(what: &str) -> Error {
    Error::new(SqlState("2201G"), what)
}

fn width_bucket(row: &Row<'_>) -> Result<Option<i32>> {
    let (operand, low, high, count) = (row.float(0), row.float(1), row.float(2), row.int(3));
    if count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return Err(bucket_error("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let inside = (operand - low) / (high - low);
    narrow(if inside < 0.0 {
        0
    } else if inside >= 1.0 {
        i128::from(count) + 1
    } else {
        (inside * count as f64) as i128 + 1
    })
    .map(Some)
}

fn width_bucket_numeric(row: &Row<'_>) -> Result<Option<i32>> {
    let count = row.int(3);
    if count <= 0 {
        return Err(bucket_error("count must be greater than zero"));
    }
    let scale = (0..3).map(|index| row.numeric(index).scale).max().unwrap_or(0);
    let at = |index| row.numeric(index).rescale(scale).map(|value| value.digits).ok_or_else(overflow);
    let (operand, low, high) = (at(0)?, at(1)?, at(2)?);
    if low == high {
        return Err(bucket_error("lower bound cannot equal upper bound"));
    }
    let (from_low, width) = if low < high { (operand - low, high - low) } else { (low - operand, low - high) };
    narrow(if from_low < 0 {
        0
    } else if from_low >= width {
        i128::from(count) + 1
    } else {
        from_low.checked_mul(count.into()).ok_or_else(overflow)? / width + 1
    })
    .map(Some)
}

/// How many of the sorted thresholds are at most the operand.
fn width_bucket_of(row: &Row<'_>) -> Result<Option<i32>> {
    let thresholds = row.list(1);
    let operand = arrow::compute::cast(&row.scalar(0)?.to_array()?, thresholds.data_type())?;
    let operand = ScalarValue::try_from_array(&operand, 0)?;
    let mut count = 0;
    for index in 0..thresholds.len() {
        let threshold = ScalarValue::try_from_array(&thresholds, index)?;
        if threshold.is_null() {
            return Err(invalid("thresholds array must not contain NULLs"));
        }
        count += i32::from(threshold <= operand);
    }
    Ok(Some(count))
}

/// Of degrees, exact where it is a simple number.
fn sine(degrees: f64) -> f64 {
    let angle = degrees % 360.0;
    let (angle, sign) = if angle < 0.0 { (-angle, -1.0) } else { (angle, 1.0) };
    let (angle, sign) = if angle > 180.0 { (angle - 180.0, -sign) } else { (angle, sign) };
    let angle = if angle > 90.0 { 180.0 - angle } else { angle };
    let value = match angle {
        0.0 => 0.0,
        30.0 => 0.5,
        90.0 => 1.0,
        angle => angle.to_radians().sin(),
    };
    sign * value
}
