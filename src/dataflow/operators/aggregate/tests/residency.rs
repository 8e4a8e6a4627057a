//! Groups that are on disk alone, at random: what an aggregate puts out does not depend on which of them are in memory, on when
//! checkpoints come through, and on restarts.

use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::TimeUnit;

use super::*;
use crate::dataflow::Durable;
use crate::dataflow::residency::by_hand::{Disk, Life, attach};
use crate::plan::{TimeColumn, Watermark};
use crate::state::Memory;
use crate::state::memory::Holder;
use crate::types::RelationId;

#[test]
fn groups_on_disk_are_as_good_as_those_in_memory() -> Result<()> {
    let mut evicted_count = 0;
    for seed in 0..24 {
        let mut random = StdRng::seed_from_u64(seed);
        let calls = calls()?;
        let always = seed % 3 == 0;
        let keys = RecordBatch::try_from_iter([("key", Arc::new(Int32Array::from(vec![3, 90])) as ArrayRef)])?;
        let build = || {
            let operator = AggregateOperator::new(&input(), vec![0], calls.clone(), output(&calls), false)?;
            Ok::<_, crate::error::Error>(if always { operator.with_always(keys.clone(), 1) } else { operator })
        };
        // Half of them lets go by itself, too.
        let memory = Arc::new(Memory::new((seed % 2 == 0).then_some(8 << 10)));
        let mut life = Life::begin(build()?, memory.clone())?;
        let (mut contents, mut shown): (Vec<(Row, i64)>, _) = (vec![], BTreeMap::new());
        for step in 0..80 {
            let mut changes = vec![];
            for _ in 0..random.random_range(1..8) {
                if random.random_bool(0.45) && !contents.is_empty() {
                    let at = random.random_range(0..contents.len());
                    let weight = contents[at].1;
                    changes.push((contents.swap_remove(at).0, -weight));
                } else {
                    let key = Some(random.random_range(0..25)).filter(|key| *key > 0);
                    let change = (Row { key, ..random_row(&mut random) }, random.random_range(1..3));
                    contents.push(change.clone());
                    changes.push(change);
                }
            }
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            apply(&mut shown, life.operator.step(vec![vec![delta(&changes)?]], &mut context)?)?;
            let mut expected = expected(&contents);
            for key in [3, 90].into_iter().filter(|_| always) {
                if !contents.iter().any(|(row, _)| row.key == Some(key)) {
                    expected.insert(naive(Some(key), &[]).replace("[]", "NULL"), 1);
                }
            }
            assert_eq!(shown, expected, "seed {seed} step {step}");
            life.disturb(&mut random)?;
            if random.random_bool(0.05) {
                life.restart(build()?, random.random_bool(0.7))?;
            }
        }
        evicted_count += life.evicted_count;
        if seed % 2 == 0 {
            (0..3).try_for_each(|_| life.go_on())?;
            assert!(memory.used_bytes(Holder::Keys) < 64 << 10, "{} bytes", memory.used_bytes(Holder::Keys));
        }
        // Nothing is left of groups that are gone, in memory and on disk.
        let rest: Vec<(Row, i64)> = contents.iter().map(|(row, weight)| (row.clone(), -weight)).collect();
        let mut context = EpochContext::new(Epoch(99), false, 0);
        apply(&mut shown, life.operator.step(vec![vec![delta(&rest)?]], &mut context)?)?;
        assert_eq!(shown.len(), if always { 2 } else { 0 });
        (0..6).try_for_each(|_| life.go_on())?;
        assert_eq!(life.operator.index.len(), life.operator.pinned.len());
        let left = life.disk.read()?.iter().flatten().map(Delta::row_count).sum::<usize>();
        assert_eq!(left, if always { 2 } else { 0 }, "seed {seed}");
    }
    assert!(evicted_count > 300, "{evicted_count} groups went");
    Ok(())
}

/// Groups by a time that comes to an end: those on disk go without being looked at.
#[test]
fn groups_on_disk_end_with_their_time() -> Result<()> {
    const RELATION: RelationId = RelationId(7);
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let schema = Arc::new(Schema::new(vec![Field::new("time", time.clone(), true)]));
    let output = Arc::new(Schema::new(vec![Field::new("time", time, true), Field::new("n", DataType::Int64, true)]));
    let calls = vec![call(AggregateKind::Count, vec![], DataType::Int64)];
    let watermark = Watermark::Relation(RELATION);
    let closing = TimeColumn { column: 0, watermark, lateness_us: 0, is_kept: false };
    let build = || {
        let operator = AggregateOperator::new(&schema, vec![0], calls.clone(), output.clone(), false)?;
        Ok::<_, crate::error::Error>(operator.with_closing(Some(closing.clone())))
    };
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut life = Life::begin(build()?, Arc::new(Memory::new(None)))?;
        let (mut shown, mut expected) = (BTreeMap::new(), BTreeMap::new());
        let mut watermarks = BTreeMap::from([(RELATION, 0)]);
        for step in 0..100 {
            let now = step * 10;
            let times: Vec<i64> = (0..random.random_range(1..9)).map(|_| now + random.random_range(0..200)).collect();
            times.iter().for_each(|time| *expected.entry(*time).or_insert(0) += 1);
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(TimestampMicrosecondArray::from(times))])?;
            let mut context = EpochContext::new(Epoch(step as u64), step == 0, 0);
            context.watermarks_before = Arc::new(watermarks.clone().into_iter().collect());
            watermarks.insert(RELATION, now);
            context.watermarks = Arc::new(watermarks.clone().into_iter().collect());
            for delta in life.operator.step(vec![vec![Delta::insert(batch)]], &mut context)? {
                let column = |at: usize| delta.column(at).to_data();
                let times = TimestampMicrosecondArray::from(column(0));
                let counts = Int64Array::from(column(1));
                for row in 0..delta.row_count() {
                    *shown.entry((times.value(row), counts.value(row))).or_insert(0) += delta.weight(row);
                }
            }
            shown.retain(|_, weight| *weight != 0);
            let counts: BTreeMap<(i64, i64), i64> = expected.iter().map(|(time, n)| ((*time, *n), 1)).collect();
            assert_eq!(shown, counts, "seed {seed} step {step}");
            life.disturb(&mut random)?;
            if random.random_bool(0.05) {
                life.restart(build()?, random.random_bool(0.5))?;
            }
        }
        (0..6).try_for_each(|_| life.go_on())?;
        let over = |count: usize| count <= expected.range(980..).count();
        assert!(over(life.operator.index.len()), "{} groups in memory", life.operator.index.len());
        assert!(over(life.disk.read()?.iter().flatten().map(Delta::row_count).sum()));
        assert!(life.operator.closing.as_ref().is_none_or(|closing| closing.memory_bytes() < 40_000));
        assert!(life.evicted_count > 50, "{} groups went", life.evicted_count);
    }
    Ok(())
}

#[test]
#[ignore = "a measurement: run it alone, with --nocapture"]
fn residency_costs_little() -> Result<()> {
    const STEP_COUNT: u64 = 300;
    let calls = vec![
        call(AggregateKind::Count, vec![], DataType::Int64),
        call(AggregateKind::Sum, vec![2], DataType::Decimal128(38, 0)),
    ];
    for (what, group_count) in [("groups that are there", 1000), ("groups that are new", i32::MAX)] {
        let mut best = [std::time::Duration::MAX; 3];
        // By turns, and the best of each, so that none has the quieter machine.
        for turn in 0..15 {
            let mut random = StdRng::seed_from_u64(turn as u64 / 3);
            let mut operator = AggregateOperator::new(&input(), vec![0], calls.clone(), output(&calls), false)?;
            let disk = Disk::new(&operator);
            // Where no group can ever go; where some could; where memory is counted for it.
            if turn % 3 > 0 {
                attach(&mut operator, &disk, &Arc::new(Memory::new((turn % 3 == 2).then_some(1 << 40))));
            }
            operator.record();
            let rows = |random: &mut StdRng| {
                let row = Row { key: None, x: None, n: Some(7), text: None, flag: None };
                let rows: Vec<(Row, i64)> = (0..1000)
                    .map(|_| (Row { key: Some(random.random_range(0..group_count)), ..row.clone() }, 1))
                    .collect();
                delta(&rows)
            };
            let deltas = (0..STEP_COUNT).map(|_| rows(&mut random)).collect::<Result<Vec<_>>>()?;
            let start = std::time::Instant::now();
            for (step, delta) in deltas.into_iter().enumerate() {
                let mut context = EpochContext::new(Epoch(step as u64), step == 0, 0);
                operator.step(vec![vec![delta]], &mut context)?;
            }
            best[turn % 3] = best[turn % 3].min(start.elapsed());
        }
        let ns = best.map(|time| time.as_nanos() / u128::from(STEP_COUNT * 1000));
        println!("{what}: {} ns a row, {} ns where groups could go, {} ns with a limit", ns[0], ns[1], ns[2]);
    }
    Ok(())
}
