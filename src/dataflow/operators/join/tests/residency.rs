//! Keys that are on disk alone, at random: what a join puts out does not depend on which of them are in memory, on when
//! checkpoints come through, and on restarts.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::residency::by_hand::Life;
use crate::state::Memory;
use crate::state::memory::Holder;

#[test]
fn keys_on_disk_are_as_good_as_those_in_memory() -> Result<()> {
    let mut evicted_count = 0;
    for (number, case) in Case::all().into_iter().filter(|case| case.has_key).enumerate() {
        for limit in [None, Some(8 << 10)] {
            let mut random = StdRng::seed_from_u64(number as u64);
            let memory = Arc::new(Memory::new(limit));
            let mut life = Life::begin(case.operator()?, memory.clone())?;
            let mut inputs: [BTreeMap<Row, i64>; 2] = Default::default();
            let mut output = Rows::new();
            for step in 0..120 {
                let mut deltas: Vec<Vec<Delta>> = vec![vec![], vec![]];
                for side in 0..2 {
                    for _ in 0..random.random_range(0..3) {
                        let mut rows = vec![];
                        for _ in 0..random.random_range(1..4) {
                            let present: Vec<Row> = inputs[side].keys().copied().collect();
                            let (row, weight) = match !present.is_empty() && random.random_bool(0.45) {
                                true => (present[random.random_range(0..present.len())], -1),
                                false => {
                                    let key = Some(random.random_range(0..9)).filter(|key| *key > 0);
                                    ((key, random.random_range(0..4)), random.random_range(1..3))
                                }
                            };
                            *inputs[side].entry(row).or_default() += weight;
                            inputs[side].retain(|_, weight| *weight != 0);
                            rows.push((row, weight));
                        }
                        deltas[side].push(delta(life.operator.sides[side].schema(), &rows));
                    }
                }
                let mut context = EpochContext::new(Epoch(step), step == 0, 0);
                add(&mut output, &life.operator.step(deltas, &mut context)?);
                assert_eq!(output, case.naive(&inputs), "{case:?} at step {step}");
                life.disturb(&mut random)?;
                if random.random_bool(0.05) {
                    life.restart(case.operator()?, random.random_bool(0.7))?;
                }
            }
            evicted_count += life.evicted_count;
            if limit.is_some() {
                (0..3).try_for_each(|_| life.go_on())?;
                assert!(memory.used_bytes(Holder::Keys) < 64 << 10, "{} bytes", memory.used_bytes(Holder::Keys));
            }
            // Nothing is left of what is taken back, in memory and on disk.
            let rest = [0, 1].map(|side| {
                let rows: Vec<(Row, i64)> = inputs[side].iter().map(|(row, weight)| (*row, -weight)).collect();
                vec![delta(life.operator.sides[side].schema(), &rows)]
            });
            let mut context = EpochContext::new(Epoch(120), false, 0);
            add(&mut output, &life.operator.step(rest.into(), &mut context)?);
            assert!(output.is_empty(), "{case:?}");
            (0..6).try_for_each(|_| life.go_on())?;
            assert_eq!((life.operator.keys.len(), life.operator.state_size().row_count), (0, 0), "{case:?}");
            let left: usize = life.disk.read()?.iter().flatten().map(Delta::row_count).sum();
            assert_eq!(left, 0, "{case:?}");
        }
    }
    assert!(evicted_count > 500, "{evicted_count} keys went");
    Ok(())
}
