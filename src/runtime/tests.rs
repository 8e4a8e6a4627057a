//! The engine against a naive model: random writes to two tables, views over them recomputed by hand at every epoch,
//! with one worker and with two, with views made before the rows and among them.

mod breaking;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::plan::{AggregateCall, AggregateKind, JoinKeys, JoinType, Properties, StreamNode};
use crate::state::store::MemoryStore;

const T: RelationId = RelationId(1);
const U: RelationId = RelationId(2);
const BY_KEY: RelationId = RelationId(3);
const JOINED: RelationId = RelationId(4);
const COUNTS: RelationId = RelationId(5);

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn scan(relation: RelationId, names: &[&str]) -> StreamPlan {
    let columns = (0..names.len()).collect();
    let node = StreamNode::Scan { relation, name: format!("r{}", relation.0), columns };
    StreamPlan { node, schema: schema(names), properties: Properties::default() }
}

fn call(kind: AggregateKind, argument: Option<usize>, distinct: bool) -> AggregateCall {
    let name = format!("{kind:?}");
    let arguments = argument.into_iter().collect();
    AggregateCall { kind, arguments, order: vec![], filter: None, distinct, data_type: DataType::Int64, name }
}

fn aggregate(input: StreamPlan, keys: Vec<usize>, calls: Vec<AggregateCall>, names: &[&str]) -> StreamPlan {
    let key = Some((0..keys.len()).collect());
    StreamPlan {
        node: StreamNode::Aggregate { input: Box::new(input), keys, calls, always: None, closing: None },
        schema: schema(names),
        properties: Properties { key, ..Properties::default() },
    }
}

fn by_key() -> StreamPlan {
    let calls = vec![
        call(AggregateKind::Count, None, false),
        call(AggregateKind::Sum, Some(1), false),
        call(AggregateKind::Min, Some(1), false),
        call(AggregateKind::Max, Some(1), false),
        call(AggregateKind::Count, Some(1), true),
    ];
    aggregate(scan(T, &["k", "v"]), vec![0], calls, &["k", "n", "s", "lo", "hi", "d"])
}

fn joined() -> StreamPlan {
    let node = StreamNode::Join {
        left: Box::new(scan(T, &["k", "v"])),
        right: Box::new(scan(U, &["k", "w"])),
        join_type: JoinType::Inner,
        keys: JoinKeys { left: vec![0], right: vec![0], null_equals_null: vec![false] },
        residual: None,
        closing: None,
        arranged: None,
    };
    StreamPlan { node, schema: schema(&["k", "v", "k2", "w"]), properties: Properties::default() }
}

/// How many keys have how many rows: a view over a view.
fn counts() -> StreamPlan {
    let input = scan(BY_KEY, &["k", "n", "s", "lo", "hi", "d"]);
    aggregate(input, vec![1], vec![call(AggregateKind::Count, None, false)], &["n", "keys"])
}

type Row = Vec<i64>;

fn delta(rows: &[(i64, Row)]) -> Delta {
    let column = |index: usize| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1[index]))) as _;
    let batch = RecordBatch::try_new(schema(&["k", "v"]), vec![column(0), column(1)]).expect("two columns");
    Delta::new(batch, rows.iter().map(|row| row.0).collect::<Vec<_>>())
}

fn rows(world: &World, relation: RelationId) -> Result<Vec<Row>> {
    let mut rows = vec![];
    for batch in world.snapshots[&relation].rows()?.iter() {
        let columns: Vec<&Int64Array> = batch.columns().iter().map(|c| c.as_primitive::<Int64Type>()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row)).collect::<Row>()));
    }
    rows.sort();
    Ok(rows)
}

#[derive(Clone, Default)]
struct Model {
    t: Vec<Row>,
    u: Vec<Row>,
}

impl Model {
    fn by_key(&self) -> Vec<Row> {
        let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        self.t.iter().for_each(|row| groups.entry(row[0]).or_default().push(row[1]));
        let row = |(k, mut values): (i64, Vec<i64>)| {
            values.sort_unstable();
            let mut distinct = values.clone();
            distinct.dedup();
            let (n, sum) = (values.len() as i64, values.iter().sum());
            vec![k, n, sum, values[0], values[values.len() - 1], distinct.len() as i64]
        };
        groups.into_iter().map(row).collect()
    }

    fn joined(&self) -> Vec<Row> {
        let pairs = self.t.iter().flat_map(|t| self.u.iter().filter(|u| u[0] == t[0]).map(move |u| (t, u)));
        let mut rows: Vec<Row> = pairs.map(|(t, u)| vec![t[0], t[1], u[0], u[1]]).collect();
        rows.sort();
        rows
    }

    fn counts(&self) -> Vec<Row> {
        let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
        self.by_key().iter().for_each(|row| *counts.entry(row[1]).or_default() += 1);
        counts.into_iter().map(|(n, keys)| vec![n, keys]).collect()
    }

    fn change(&mut self, random: &mut StdRng) -> Vec<TableWrite> {
        let mut writes = vec![];
        for (table, rows) in [(T, &mut self.t), (U, &mut self.u)] {
            let mut changes = vec![];
            for _ in 0..random.random_range(0..30) {
                if rows.is_empty() || random.random_bool(0.6) {
                    let row = vec![random.random_range(0..12), random.random_range(0..6)];
                    rows.push(row.clone());
                    changes.push((1, row));
                } else {
                    changes.push((-1, rows.swap_remove(random.random_range(0..rows.len()))));
                }
            }
            writes.push(TableWrite { table, delta: delta(&changes) });
        }
        self.t.sort();
        self.u.sort();
        writes
    }
}

fn tables() -> Vec<TableSpec> {
    let table = |id, name: &str| TableSpec {
        id,
        name: name.into(),
        schema: schema(&["k", "v"]),
        primary_key: vec![],
        watermark: None,
        indexes: vec![],
    };
    vec![table(T, "t"), table(U, "u")]
}

async fn make_views(runtime: &Runtime) -> Result<()> {
    for (id, plan) in [(BY_KEY, by_key()), (JOINED, joined()), (COUNTS, counts())] {
        runtime.create_view(ViewSpec { id, name: format!("v{}", id.0), plan, discard: false, indexes: vec![] }).await?;
    }
    Ok(())
}

fn check(runtime: &Runtime, model: &Model, seed: u64) -> Result<()> {
    let world = runtime.world();
    assert_eq!(rows(&world, T)?, model.t, "table, seed {seed}");
    assert_eq!(rows(&world, BY_KEY)?, model.by_key(), "aggregate, seed {seed}");
    assert_eq!(rows(&world, JOINED)?, model.joined(), "join, seed {seed}");
    assert_eq!(rows(&world, COUNTS)?, model.counts(), "view over view, seed {seed}");
    Ok(())
}

#[tokio::test]
async fn views_equal_the_model_at_every_epoch() -> Result<()> {
    for (worker_count, views_at) in [(1, 0), (1, 20), (2, 0), (2, 20)] {
        let seed = 41 + worker_count as u64 * 7 + views_at;
        let mut random = StdRng::seed_from_u64(seed);
        let store = Arc::new(MemoryStore::default());
        // With hardly any memory whatever is saved goes.
        let memory = Arc::new(Memory::new((views_at > 0).then_some(1 << 10)));
        let interval = Some(Duration::ZERO);
        let runtime = Runtime::start(worker_count, store.clone(), tables(), &[], interval, 1 << 20, memory)?;
        let mut model = Model::default();
        for round in 0..60 {
            if round == views_at {
                make_views(&runtime).await?;
            }
            runtime.write(model.change(&mut random)).await?;
            if round >= views_at {
                check(&runtime, &model, seed)?;
            }
        }
        runtime.shutdown().await;

        // The same tables again, from what was kept.
        let again = Runtime::start(worker_count, store, tables(), &[], Some(Duration::ZERO), 1 << 20, Arc::default())?;
        make_views(&again).await?;
        check(&again, &model, seed)?;
        again.drop_relations(vec![COUNTS, JOINED, BY_KEY]).await?;
        assert!(!again.world().snapshots.contains_key(&JOINED));
        again.write(model.change(&mut random)).await?;
        again.shutdown().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_write_is_all_or_nothing() -> Result<()> {
    let keyed = TableSpec { primary_key: vec![0], ..tables().remove(0) };
    let runtime = Runtime::start(1, Arc::new(MemoryStore::default()), vec![keyed], &[], None, 1 << 20, Arc::default())?;
    let write = |rows: Vec<(i64, Row)>| runtime.write(vec![TableWrite { table: T, delta: delta(&rows) }]);
    write(vec![(1, vec![1, 10]), (1, vec![2, 20])]).await?;
    let duplicate = write(vec![(1, vec![3, 30]), (1, vec![1, 11])]).await.expect_err("1 is taken");
    assert_eq!(duplicate.code, SqlState::UNIQUE_VIOLATION);
    assert_eq!(duplicate.detail.as_deref(), Some("Key (k)=(1) already exists."));
    let stale = write(vec![(-1, vec![1, 99]), (1, vec![1, 12])]).await.expect_err("that row is not there");
    assert_eq!(stale.code, SqlState::SERIALIZATION_FAILURE);
    write(vec![(-1, vec![1, 10]), (1, vec![1, 12])]).await?;
    assert_eq!(rows(&runtime.world(), T)?, vec![vec![1, 12], vec![2, 20]]);
    runtime.shutdown().await;
    Ok(())
}
