//! Every summary is a commutative group, whatever it is cut into; results are those that PostgreSQL 15 gives.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

fn decimals(digits: &[i128], scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(digits.to_vec()).with_precision_and_scale(38, scale);
    Arc::new(array.expect("38 digits"))
}

fn shown<S: Summary>(summary: &S, state: &S::State) -> String {
    let results = summary.results(std::iter::once(state)).expect("values of the type");
    if let Some((_, error)) = results.failed.first() {
        return error.message.clone();
    }
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(&results.values, &options).expect("a type that can be shown");
    formatter.value(0).to_string()
}

fn of<S: Summary>(summary: &S, column: &ArrayRef) -> S::State {
    let columns = summary.columns(std::slice::from_ref(column)).expect("values of the type");
    let mut state = summary.start();
    (0..column.len()).for_each(|row| S::add(&mut state, S::value(&columns, row), 1));
    state
}

/// Values that stay and values that come and go, in any order, over two states, one of which was written and read.
fn check<S: Summary>(summary: S, kept: &ArrayRef, gone: &ArrayRef, random: &mut StdRng) {
    let (stay, go) = (std::slice::from_ref(kept), std::slice::from_ref(gone));
    let (stay, go) = (summary.columns(stay).expect("values"), summary.columns(go).expect("values"));
    let mut changes: Vec<(S::Value, i64)> = (0..kept.len()).map(|row| (S::value(&stay, row), 1)).collect();
    changes.extend((0..gone.len()).flat_map(|row| [(S::value(&go, row), 3), (S::value(&go, row), -3)]));
    changes.shuffle(random);
    let (mut one, mut other) = (summary.start(), summary.start());
    for (number, (value, weight)) in changes.into_iter().enumerate() {
        let value = S::unpack(S::pack(value));
        S::add(if number % 2 == 0 { &mut one } else { &mut other }, value, weight);
    }
    let mut bytes = vec![];
    S::write(&other, &mut bytes);
    S::merge(&mut one, &summary.read(&bytes).expect("just written"));
    assert_eq!(shown(&summary, &one), shown(&summary, &of(&summary, kept)), "{summary:?}");
    (0..kept.len()).for_each(|row| S::add(&mut one, S::value(&stay, row), -1));
    assert!(S::is_empty(&one), "{summary:?}");
    assert_eq!(shown(&summary, &one), shown(&summary, &summary.start()));
}

#[test]
fn changes_and_partial_states_come_to_the_same() {
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..40 {
        let ints = |random: &mut StdRng| -> ArrayRef {
            Arc::new(
                (0..9)
                    .map(|_| random.random_range(i64::MIN..=i64::MAX) >> random.random_range(0..60))
                    .collect::<Int64Array>(),
            )
        };
        let (kept, gone) = (ints(&mut random), ints(&mut random));
        for measure in [Measure::Sum, Measure::Average] {
            check(Integers::new(measure, &DataType::Int64).expect("integers"), &kept, &gone, &mut random);
        }
        check(Spread::new(Statistic::StddevSamp, &DataType::Int64).expect("integers"), &kept, &gone, &mut random);

        let numbers = |random: &mut StdRng| {
            let number = |random: &mut StdRng| {
                random.random_range(-(10i128.pow(37))..10i128.pow(37)) >> random.random_range(0..120)
            };
            decimals(&(0..9).map(|_| number(random)).collect::<Vec<_>>(), 16)
        };
        let (kept, gone) = (numbers(&mut random), numbers(&mut random));
        for measure in [Measure::Sum, Measure::Average] {
            check(Decimals::new(measure, kept.data_type()).expect("decimals"), &kept, &gone, &mut random);
        }
        check(Spread::new(Statistic::VarPop, kept.data_type()).expect("decimals"), &kept, &gone, &mut random);

        let intervals = |random: &mut StdRng| -> ArrayRef {
            let interval = |random: &mut StdRng| IntervalMonthDayNano {
                months: random.random_range(-20..20),
                days: random.random_range(-50..50),
                nanoseconds: random.random_range(-100_000..100_000i64) * 1_000_000_000,
            };
            Arc::new((0..9).map(|_| Some(interval(random))).collect::<IntervalMonthDayNanoArray>())
        };
        let (kept, gone) = (intervals(&mut random), intervals(&mut random));
        for measure in [Measure::Sum, Measure::Average] {
            check(Intervals::new(measure).expect("intervals"), &kept, &gone, &mut random);
        }

        let floats = |random: &mut StdRng| -> ArrayRef {
            Arc::new((0..9).map(|_| (random.random::<f64>() - 0.5) * 1e9).collect::<Float64Array>())
        };
        let (kept, gone) = (floats(&mut random), floats(&mut random));
        check(Floats::new(Measure::Average, &DataType::Float64).expect("floats"), &kept, &gone, &mut random);
        check(FloatStatistic(Statistic::VarSamp), &kept, &gone, &mut random);
    }
}

#[test]
fn variances_are_those_of_postgres() {
    for (values, scale, statistic, expected) in [
        (&[1i128, 2, 4][..], 0, Statistic::VarSamp, "2.3333333333333333"),
        (&[1, 2, 4], 0, Statistic::StddevSamp, "1.5275252316519467"),
        (&[1, 2, 2, 3], 0, Statistic::VarSamp, "0.6666666666666667"),
        (&[10, 20, 25, 100_000], 0, Statistic::StddevSamp, "49990.8337222900000000"),
        (&[10, 20, 25, 100_000], 0, Statistic::VarPop, "1874312592.1875000000000000"),
        (&[225, 310, 10001, 225], 2, Statistic::StddevPop, "42.2100612265606646"),
        (&[225, 310, 10001, 225], 2, Statistic::VarSamp, "2375.5856916666666667"),
        (&[5, 5, 5], 3, Statistic::VarPop, "0.0000000000000000"),
        (&[5], 0, Statistic::VarSamp, "NULL"),
        (&[i64::MAX as i128, i64::MIN as i128, 3], 0, Statistic::StddevSamp, "9223372036854775808.0000000000000000"),
        (&[i64::MAX as i128, i64::MIN as i128, 3], 0, Statistic::VarSamp, "value overflows numeric format"),
    ] {
        let column = decimals(values, scale);
        let summary = Spread::new(statistic, column.data_type()).expect("decimals");
        assert_eq!(shown(&summary, &of(&summary, &column)), expected, "{statistic:?} of {values:?}");
    }
}
