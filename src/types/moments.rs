//! Variance, covariance, correlation and linear regression from exact sums, so that values may come and go in any order:
//!
//! ```text
//! Sxx = Σx² − (Σx)²/n      Sxy = Σxy − ΣxΣy/n
//! ```
//! The sums are exact and so is n·Σx² − (Σx)²; only the last steps round. Definitions are Postgres' (Aggregate Functions for
//! Statistics): of a regression's two arguments the first is Y, the dependent one, the second X.

use super::{ExactNumber, ExactSum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statistic {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    CovarPop,
    CovarSamp,
    Corr,
    RegrAvgX,
    RegrAvgY,
    RegrSxx,
    RegrSyy,
    RegrSxy,
    RegrSlope,
    RegrIntercept,
    RegrR2,
}

/// A sum that a statistic is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    X,
    Y,
    Xx,
    Yy,
    Xy,
}

impl Statistic {
    /// All of them by their name, with other names that they go by.
    pub const ALL: &'static [(Statistic, &'static str, &'static [&'static str])] = &[
        (Statistic::VarPop, "var_pop", &["var_population"]),
        (Statistic::VarSamp, "var_samp", &["variance", "var", "var_sample"]),
        (Statistic::StddevPop, "stddev_pop", &[]),
        (Statistic::StddevSamp, "stddev_samp", &["stddev"]),
        (Statistic::CovarPop, "covar_pop", &[]),
        (Statistic::CovarSamp, "covar_samp", &["covar"]),
        (Statistic::Corr, "corr", &[]),
        (Statistic::RegrAvgX, "regr_avgx", &[]),
        (Statistic::RegrAvgY, "regr_avgy", &[]),
        (Statistic::RegrSxx, "regr_sxx", &[]),
        (Statistic::RegrSyy, "regr_syy", &[]),
        (Statistic::RegrSxy, "regr_sxy", &[]),
        (Statistic::RegrSlope, "regr_slope", &[]),
        (Statistic::RegrIntercept, "regr_intercept", &[]),
        (Statistic::RegrR2, "regr_r2", &[]),
    ];

    pub fn of_name(name: &str) -> Option<Statistic> {
        Statistic::ALL.iter().find(|(_, own, _)| *own == name).map(|(statistic, ..)| *statistic)
    }

    /// One argument X, or two: Y and X.
    pub fn argument_count(self) -> usize {
        use Statistic::*;
        if matches!(self, VarPop | VarSamp | StddevPop | StddevSamp) { 1 } else { 2 }
    }

    fn terms(self) -> &'static [Term] {
        use Statistic::*;
        match self {
            VarPop | VarSamp | StddevPop | StddevSamp | RegrSxx => &[Term::X, Term::Xx],
            RegrSyy => &[Term::Y, Term::Yy],
            CovarPop | CovarSamp | RegrSxy => &[Term::X, Term::Y, Term::Xy],
            Corr | RegrR2 => &[Term::X, Term::Y, Term::Xx, Term::Yy, Term::Xy],
            RegrSlope | RegrIntercept => &[Term::X, Term::Y, Term::Xx, Term::Xy],
            RegrAvgX => &[Term::X],
            RegrAvgY => &[Term::Y],
        }
    }
}

/// The state of one statistic over one group. A commutative group: taking back is adding with a negative weight.
#[derive(Clone, Debug)]
pub struct Moments {
    statistic: Statistic,
    count: i64,
    /// One for each of the statistic's terms.
    sums: Box<[ExactSum]>,
}

impl Moments {
    pub fn new(statistic: Statistic) -> Moments {
        Moments { statistic, count: 0, sums: vec![ExactSum::default(); statistic.terms().len()].into() }
    }

    /// `y` does not matter where the statistic has one argument.
    pub fn add(&mut self, x: f64, y: f64, weight: i64) {
        self.count += weight;
        for (term, sum) in self.statistic.terms().iter().zip(&mut self.sums) {
            match term {
                Term::X => sum.add(x, weight),
                Term::Y => sum.add(y, weight),
                Term::Xx => sum.add_product(x, x, weight),
                Term::Yy => sum.add_product(y, y, weight),
                Term::Xy => sum.add_product(x, y, weight),
            }
        }
    }

    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| sum.merge(other));
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.sums.iter().all(ExactSum::is_empty)
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Moments>() + self.sums.iter().map(ExactSum::memory_bytes).sum::<usize>()
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.count.to_le_bytes());
        self.sums.iter().for_each(|sum| sum.write(out));
    }

    /// `None` if the bytes are not those of this statistic.
    pub fn read(statistic: Statistic, mut bytes: &[u8]) -> Option<Moments> {
        let (count, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        let sums = statistic.terms().iter().map(|_| ExactSum::read(&mut bytes)).collect::<Option<_>>()?;
        Some(Moments { statistic, count: i64::from_le_bytes(*count), sums })
    }

    fn sum(&self, term: Term) -> &ExactSum {
        let place = self.statistic.terms().iter().position(|known| *known == term);
        &self.sums[place.expect("a statistic reads the terms that it names")]
    }

    /// `n · Σab − Σa Σb`, exactly: n times the centered sum of products.
    fn centered(&self, product: Term) -> ExactNumber {
        let (a, b) = match product {
            Term::Xx => (Term::X, Term::X),
            Term::Yy => (Term::Y, Term::Y),
            _ => (Term::X, Term::Y),
        };
        let squares = ExactNumber::of_integer(self.count).times(&self.sum(product).exact());
        squares.minus(&self.sum(a).exact().times(&self.sum(b).exact()))
    }

    /// NULL where Postgres says NULL.
    pub fn value(&self) -> Option<f64> {
        use Statistic::*;
        let count = self.count as f64;
        let is_sample = matches!(self.statistic, VarSamp | StddevSamp | CovarSamp);
        if self.count < if is_sample { 2 } else { 1 } {
            return None;
        }
        if let RegrAvgX | RegrAvgY = self.statistic {
            return Some(self.sums[0].value() / count);
        }
        if self.sums.iter().any(|sum| sum.special_value().is_some()) {
            return Some(f64::NAN);
        }
        let (pairs, sample_pairs) = (count * count, count * (count - 1.0));
        Some(match self.statistic {
            RegrAvgX | RegrAvgY => unreachable!("answered above"),
            VarPop => self.centered(Term::Xx).to_f64() / pairs,
            VarSamp => self.centered(Term::Xx).to_f64() / sample_pairs,
            StddevPop => (self.centered(Term::Xx).to_f64() / pairs).sqrt(),
            StddevSamp => (self.centered(Term::Xx).to_f64() / sample_pairs).sqrt(),
            CovarPop => self.centered(Term::Xy).to_f64() / pairs,
            CovarSamp => self.centered(Term::Xy).to_f64() / sample_pairs,
            RegrSxx => self.centered(Term::Xx).to_f64() / count,
            RegrSyy => self.centered(Term::Yy).to_f64() / count,
            RegrSxy => self.centered(Term::Xy).to_f64() / count,
            Corr => {
                let (xx, yy) = (self.centered(Term::Xx), self.centered(Term::Yy));
                if xx.is_zero() || yy.is_zero() {
                    return None;
                }
                self.centered(Term::Xy).to_f64() / xx.times(&yy).to_f64().sqrt()
            }
            RegrR2 => {
                let (xx, yy, xy) = (self.centered(Term::Xx), self.centered(Term::Yy), self.centered(Term::Xy));
                if xx.is_zero() {
                    return None;
                }
                if yy.is_zero() {
                    return Some(1.0);
                }
                xy.times(&xy).to_f64() / xx.times(&yy).to_f64()
            }
            RegrSlope => {
                let xx = self.centered(Term::Xx);
                if xx.is_zero() {
                    return None;
                }
                self.centered(Term::Xy).to_f64() / xx.to_f64()
            }
            RegrIntercept => {
                let (xx, xy) = (self.centered(Term::Xx), self.centered(Term::Xy));
                if xx.is_zero() {
                    return None;
                }
                let (x, y) = (self.sum(Term::X).exact(), self.sum(Term::Y).exact());
                let above = y.times(&xx).minus(&x.times(&xy));
                above.to_f64() / ExactNumber::of_integer(self.count).times(&xx).to_f64()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::{Moments, Statistic};

    fn of(statistic: Statistic, pairs: &[(f64, f64)]) -> Option<f64> {
        let mut moments = Moments::new(statistic);
        pairs.iter().for_each(|&(x, y)| moments.add(x, y, 1));
        moments.value()
    }

    /// Two passes over the values.
    fn naive(statistic: Statistic, pairs: &[(f64, f64)]) -> f64 {
        use Statistic::*;
        let n = pairs.len() as f64;
        let (mean_x, mean_y) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
        let centered = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|p| f(p.0 - mean_x, p.1 - mean_y)).sum::<f64>();
        let (xx, yy, xy) = (centered(&|x, _| x * x), centered(&|_, y| y * y), centered(&|x, y| x * y));
        match statistic {
            VarPop => xx / n,
            VarSamp => xx / (n - 1.0),
            StddevPop => (xx / n).sqrt(),
            StddevSamp => (xx / (n - 1.0)).sqrt(),
            CovarPop => xy / n,
            CovarSamp => xy / (n - 1.0),
            Corr => xy / (xx * yy).sqrt(),
            RegrAvgX => mean_x,
            RegrAvgY => mean_y,
            RegrSxx => xx,
            RegrSyy => yy,
            RegrSxy => xy,
            RegrSlope => xy / xx,
            RegrIntercept => mean_y - xy / xx * mean_x,
            RegrR2 => xy * xy / (xx * yy),
        }
    }

    #[test]
    fn statistics_are_those_of_their_definitions() {
        let mut random = StdRng::seed_from_u64(4);
        for &(statistic, name, _) in Statistic::ALL {
            for _ in 0..50 {
                let mut value = || (random.random::<f64>() - 0.3) * 100.0;
                let pairs: Vec<(f64, f64)> = (0..20).map(|_| (value(), value())).collect();
                let (found, expected) = (of(statistic, &pairs).expect("twenty values"), naive(statistic, &pairs));
                assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{name}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_small_variance_survives_a_great_mean() {
        let pairs: Vec<(f64, f64)> = [1e15, 1e15 + 1.0, 1e15 + 2.0].map(|x| (x, x)).into();
        assert_eq!(of(Statistic::VarSamp, &pairs), Some(1.0));
        assert_eq!(of(Statistic::Corr, &pairs), Some(1.0));
        let tenths = [(0.1, 0.3); 7];
        assert_eq!(of(Statistic::VarPop, &tenths), Some(0.0));
        assert_eq!(of(Statistic::Corr, &tenths), None);
        assert_eq!(of(Statistic::RegrR2, &[(1.0, 5.0), (2.0, 5.0)]), Some(1.0));
    }

    #[test]
    fn changes_and_partial_states_come_to_the_same() {
        let mut random = StdRng::seed_from_u64(5);
        for &(statistic, ..) in Statistic::ALL {
            let mut value = || (random.random::<f64>() - 0.5) * 1e6;
            let pairs: Vec<(f64, f64)> = (0..12).map(|_| (value(), value())).collect();
            let gone: Vec<(f64, f64)> = (0..12).map(|_| (value() * 1e9, value())).collect();
            let mut changes: Vec<((f64, f64), i64)> = pairs.iter().map(|&pair| (pair, 1)).collect();
            changes.extend(gone.iter().flat_map(|&pair| [(pair, 1), (pair, -1)]));
            changes.shuffle(&mut random);
            let (mut moments, mut rest) = (Moments::new(statistic), Moments::new(statistic));
            for (number, ((x, y), weight)) in changes.into_iter().enumerate() {
                if number % 3 == 0 { &mut rest } else { &mut moments }.add(x, y, weight);
            }
            let mut bytes = vec![];
            rest.write(&mut bytes);
            moments.merge(&Moments::read(statistic, &bytes).expect("just written"));
            assert_eq!(moments.value(), of(statistic, &pairs));
            pairs.iter().for_each(|&(x, y)| moments.add(x, y, -1));
            assert!(moments.is_empty());
        }
    }

    #[test]
    fn too_few_values_are_null_and_wild_ones_are_not_a_number() {
        assert_eq!(of(Statistic::VarSamp, &[(1.0, 0.0)]), None);
        assert_eq!(of(Statistic::VarPop, &[(1.0, 0.0)]), Some(0.0));
        assert_eq!(of(Statistic::VarPop, &[]), None);
        assert!(of(Statistic::VarPop, &[(f64::INFINITY, 0.0), (1.0, 0.0)]).is_some_and(f64::is_nan));
        assert_eq!(of(Statistic::RegrAvgX, &[(f64::INFINITY, 0.0), (1.0, 0.0)]), Some(f64::INFINITY));
    }
}
