//! Names, types, windows, errors and data-modifying statements, over a few relations in memory.

use datafusion::common::ScalarValue;

use super::*;
use crate::sql::StatementKind;
use crate::sql::testing::{Relations, bind, rows, run, state, statement};

fn names(text: &str) -> Result<String> {
    let bound = bind(text)?;
    let fields = bound.plan.schema().fields().clone();
    Ok(fields.iter().map(|f| format!("{} {}", f.name(), PgType::of(f).name())).collect::<Vec<_>>().join(", "))
}

fn fails(text: &str) -> (String, String, Option<usize>) {
    let error = rows(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
    (error.code.0.to_string(), error.message, error.position)
}

#[test]
fn columns_are_named_and_typed_as_in_postgres() -> Result<()> {
    for (text, expected) in [
        ("SELECT 1", "?column? integer"),
        (
            "SELECT 3000000000, 1.5, 'x', NULL, true",
            "?column? bigint, ?column? numeric(2,1), ?column? text, ?column? text, bool boolean",
        ),
        (
            "SELECT count(*), sum(a), sum(c), a + 1 FROM t GROUP BY a",
            "count bigint, sum bigint, sum numeric(38,0), ?column? integer",
        ),
        (
            "SELECT a, a, T.A, x.* FROM t JOIN u AS x USING (a)",
            "a integer, a integer, a integer, a integer, d double precision, v character varying(3)",
        ),
        (
            "SELECT b::varchar(2), '1'::int, a::text, upper(b) FROM t",
            "b character varying(2), int4 integer, a text, upper text",
        ),
        ("SELECT row_number() OVER (ORDER BY a), CASE WHEN true THEN 1 END FROM t", "row_number bigint, case integer"),
        (
            "SELECT '00000000-0000-0000-0000-000000000000'::uuid, '{}'::jsonb, date '2020-01-01'",
            "uuid uuid, jsonb jsonb, date date",
        ),
        ("SELECT * FROM w2", "m bigint"),
        ("VALUES (1, 'a'), (3000000000, 'b')", "column1 bigint, column2 text"),
        ("SELECT (SELECT max(a) FROM t), ARRAY[1, 2]", "max integer, array integer[]"),
    ] {
        assert_eq!(names(text)?, expected, "{text}");
    }
    Ok(())
}

#[test]
fn errors_have_postgres_words_and_positions() {
    let is = |text: &str, code: &str, message: &str, position: Option<usize>| {
        assert_eq!(fails(text), (code.to_string(), message.to_string(), position), "{text}");
    };
    is("SELECT x FROM t", "42703", "column \"x\" does not exist", Some(8));
    is("SELECT t.x FROM t", "42703", "column t.x does not exist", Some(8));
    is("SELECT z.a FROM t", "42P01", "missing FROM-clause entry for table \"z\"", Some(8));
    is("SELECT 1\nFROM nosuch", "42P01", "relation \"nosuch\" does not exist", Some(15));
    is("SELECT a FROM t, u", "42702", "column reference \"a\" is ambiguous", Some(8));
    is("SELECT * FROM loop", "42P17", "infinite recursion detected in view \"loop\"", Some(15));
    assert_eq!(fails("SELECT nosuch(1)").0, "42883");
    assert_eq!(fails("SELECT nosuch(1)").1, "function nosuch does not exist");
    assert_eq!(fails("SELECT abs('x', 'y')").0, "42883");
    assert_eq!(fails("SELECT a, b FROM t GROUP BY a").0, "42803");
    assert_eq!(fails("SELECT * FROM other.public.t").0, "0A000");
}

#[test]
fn integers_do_not_wrap_around() {
    let is = |text: &str, message: &str| {
        let (code, said, _) = fails(text);
        assert_eq!((code.as_str(), said.as_str()), ("22003", message), "{text}");
    };
    is("SELECT 2147483647 + 1", "integer out of range");
    is("SELECT a + 1 FROM t", "integer out of range");
    is("SELECT -a - 2 FROM t", "integer out of range");
    is("SELECT a * a FROM t", "integer out of range");
    is("SELECT 9223372036854775807 + 1", "bigint out of range");
    is("SELECT sum(9223372036854775807)::bigint FROM t", "bigint out of range");
    is(
        "SELECT sum(x) FROM t, (VALUES (90000000000000000000000000000000000000)) v(x)",
        "value overflows numeric format",
    );
    is("SELECT avg(x) FROM (VALUES (90000000000000000000000000000000000000)) v(x)", "value overflows numeric format");
    is(
        "SELECT sum(x) OVER (ORDER BY a) FROM t, (VALUES (90000000000000000000000000000000000000)) v(x)",
        "value overflows numeric format",
    );
    let product = "SELECT x * x FROM (VALUES (99999999999999999999::numeric{})) v(x)";
    is(&product.replace("{}", ""), "value overflows numeric format");
    is(&product.replace("{}", "(38,0)"), "value overflows numeric format");
    is("SELECT 90000000000000000000000::numeric", "numeric field overflow");
    is("SELECT 32767::int2 + 1::int2", "smallint out of range");
    is("SELECT 3000000000::int", "integer out of range");
    assert_eq!(fails("SELECT 1 / 0").0, "22012");
    assert_eq!(fails("SELECT 1 / (a - 1) FROM t").0, "22012");
}

#[test]
fn casts_convert_as_postgres_does() -> Result<()> {
    for (text, expected) in [
        ("SELECT 1.5::int, 2.5::float8::int, (-1.5)::int", "2|2|-2"),
        ("SELECT 'abc'::varchar(2), 'a'::char(3) || '.', ' 7 '::int", "ab|a  .|7"),
        ("SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("SELECT '{\"bb\":1, \"a\":[1,2]}'::jsonb", "{\"a\": [1, 2], \"bb\": 1}"),
        ("SELECT '{1,NULL,3}'::int[], 'yes'::bool", "[1, , 3]|true"),
        ("SELECT a + c FROM t WHERE a = 1", "11"),
        ("SELECT ('{abc,de}'::varchar(2)[])[1], '1 day 02:03:04'::interval = INTERVAL '26:03:04'", "ab|true"),
        ("SELECT sum(v) FROM (VALUES (9223372036854775807), (1), (-2)) t(v)", "9223372036854775806"),
    ] {
        assert_eq!(rows(text)?, [expected], "{text}");
    }
    assert_eq!(fails("SELECT 'x'::int").1, "invalid input syntax for type integer: \"x\"");
    assert_eq!(fails("SELECT b::int FROM t").0, "22P02");
    assert_eq!(fails("SELECT 'x'::uuid").0, "22P02");
    assert_eq!(fails("SELECT '{'::json").0, "22P02");
    assert_eq!(fails("SELECT 'x'::timestamp").0, "22007");
    Ok(())
}

#[test]
fn windows_run_ad_hoc() -> Result<()> {
    let tumble = "SELECT window_start, window_end, price FROM TUMBLE(bid, ts, INTERVAL '1 minute') ORDER BY price";
    let expected = ["1969-12-31T23:59:00|1970-01-01T00:00:00|5", "2020-01-01T00:00:00|2020-01-01T00:01:00|7"];
    assert_eq!(rows(tumble)?, expected);
    let flink = "SELECT window_start, window_end, price FROM TABLE(TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), \
                 SIZE => INTERVAL '1' MINUTE)) AS x ORDER BY price";
    assert_eq!(rows(flink)?, expected);
    let hop = "WITH b AS (SELECT * FROM bid WHERE price = 7) \
               SELECT window_start, count(*), sum(price) FROM HOP(b, ts, INTERVAL '20 s', INTERVAL '1 min', INTERVAL '5 s') \
               GROUP BY window_start ORDER BY 1";
    assert_eq!(rows(hop)?, ["2019-12-31T23:59:45|1|7", "2020-01-01T00:00:05|1|7", "2020-01-01T00:00:25|1|7"]);
    let nested =
        "SELECT w.window_start FROM TUMBLE((SELECT ts AS t2 FROM bid), t2, INTERVAL '1 day') w WHERE t2 > '2000-01-01'";
    assert_eq!(rows(nested)?, ["2020-01-01T00:00:00"]);
    assert_eq!(fails("SELECT * FROM TUMBLE(bid, item, INTERVAL '1 s')").0, "42804");
    assert_eq!(fails("SELECT * FROM TUMBLE(bid, nosuch, INTERVAL '1 s')").0, "42703");
    assert_eq!(fails("SELECT * FROM TUMBLE(bid, ts, INTERVAL '1 month')").0, "0A000");
    assert_eq!(fails("SELECT * FROM TUMBLE(bid, ts, INTERVAL '0 s')").0, "22023");
    assert_eq!(fails("SELECT * FROM TUMBLE(bid, ts)").0, "42883");
    Ok(())
}

#[test]
fn windows_that_cumulate_run_ad_hoc() -> Result<()> {
    let late = "(SELECT ts + INTERVAL '5 s' AS ts, price FROM bid WHERE price = 7)";
    let expected = ["2020-01-01T00:00:00|2020-01-01T00:00:40|7", "2020-01-01T00:00:00|2020-01-01T00:01:00|7"];
    for call in [
        format!("CUMULATE({late}, ts, INTERVAL '20 s', INTERVAL '1 min')"),
        format!("CUMULATE({late}, ts, size => INTERVAL '1 min', step => INTERVAL '20 s')"),
        format!("TABLE(CUMULATE({late}, DESCRIPTOR(ts), INTERVAL '20' SECONDS, INTERVAL '1' MINUTE))"),
    ] {
        let sql = format!("SELECT window_start, window_end, price FROM {call} ORDER BY window_end");
        assert_eq!(rows(&sql)?, expected, "{call}");
    }
    let shifted = "SELECT window_start, window_end FROM CUMULATE(bid, ts, INTERVAL '30 s', INTERVAL '1 min', INTERVAL '10 s') \
                   WHERE price = 7 ORDER BY 2";
    assert_eq!(rows(shifted)?, ["2020-01-01T00:00:10|2020-01-01T00:00:40", "2020-01-01T00:00:10|2020-01-01T00:01:10"]);
    let call =
        |step: &str, size: &str| format!("SELECT * FROM CUMULATE(bid, ts, INTERVAL '{step}', INTERVAL '{size}')");
    assert_eq!(fails(&call("25 s", "1 min")).0, "22023");
    assert_eq!(fails(&call("2 min", "1 min")).0, "22023");
    assert_eq!(fails(&call("-1 s", "1 min")).0, "22023");
    assert_eq!(fails(&call("1 s", "1 day")).0, "54000");
    assert_eq!(fails("SELECT * FROM CUMULATE(bid, ts, INTERVAL '1 min')").0, "42883");
    Ok(())
}

#[test]
fn sessions_run_ad_hoc() -> Result<()> {
    let steps =
        "(SELECT item, ts + n * INTERVAL '4 s' AS ts, n FROM bid, (VALUES (0), (1), (3)) AS v(n) WHERE price = 7)";
    let sessions = |call: &str| rows(&format!("SELECT n, window_start, window_end FROM {call} ORDER BY n"));
    let expected = [
        "0|2020-01-01T00:00:30|2020-01-01T00:00:39",
        "1|2020-01-01T00:00:30|2020-01-01T00:00:39",
        "3|2020-01-01T00:00:42|2020-01-01T00:00:47",
    ];
    for call in [
        format!("SESSION({steps}, ts, INTERVAL '5 s')"),
        format!("SESSION({steps} PARTITION BY item, ts, INTERVAL '5 s')"),
        format!("SESSION({steps} PARTITION BY (item), ts, INTERVAL '5 s') AS w"),
        format!("SESSION({steps} PARTITION BY item, ts, gap => INTERVAL '5 s')"),
        format!("SESSION(data => {steps} partition by item, timecol => ts, gap => INTERVAL '5 s')"),
        format!("TABLE(SESSION({steps} PARTITION BY item, DESCRIPTOR(ts), INTERVAL '5' SECONDS))"),
    ] {
        assert_eq!(sessions(&call)?, expected, "{call}");
    }
    // The gap itself is apart; so is each value of the partition.
    let apart = ["0|2020-01-01T00:00:30|2020-01-01T00:00:34", "1|2020-01-01T00:00:34|2020-01-01T00:00:38"];
    assert_eq!(sessions(&format!("SESSION({steps}, ts, INTERVAL '4 s')"))?[..2], apart);
    let by_number = sessions(&format!("SESSION({steps} PARTITION BY item, n, ts, INTERVAL '1 min')"))?;
    assert_eq!(by_number, sessions(&format!("SESSION({steps} PARTITION BY (n, item), ts, INTERVAL '1 min')"))?);
    assert_eq!(by_number[1], "1|2020-01-01T00:00:34|2020-01-01T00:01:34");
    // In Flink's own words.
    let flink = "SELECT price, window_end FROM TABLE(SESSION(DATA => TABLE bid PARTITION BY item, \
                 TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '5' MINUTES)) ORDER BY price DESC LIMIT 1";
    assert_eq!(rows(flink)?, ["7|2020-01-01T00:05:30"]);
    // Sessions within windows, and in a subquery with a PARTITION BY of its own.
    let nested = "SELECT n FROM SESSION((SELECT *, row_number() OVER (PARTITION BY item ORDER BY ts) AS n FROM bid) \
                  PARTITION BY item, ts, INTERVAL '5 s') WHERE price = 7";
    assert_eq!(rows(nested)?, ["1"]);

    assert_eq!(fails("SELECT * FROM SESSION(bid PARTITION BY price + 1, ts, INTERVAL '1 s')").0, "0A000");
    assert_eq!(fails("SELECT * FROM SESSION(bid PARTITION BY nosuch, ts, INTERVAL '1 s')").0, "42703");
    assert_eq!(fails("SELECT * FROM SESSION(bid PARTITION BY item, ts)").0, "42601");
    assert_eq!(fails("SELECT * FROM SESSION(bid, ts PARTITION BY item, INTERVAL '1 s')").0, "42601");
    assert_eq!(fails("SELECT * FROM SESSION(bid PARTITION, ts, INTERVAL '1 s')").0, "42601");
    assert_eq!(fails("SELECT * FROM SESSION(bid, ts, INTERVAL '0 s')").0, "22023");
    assert_eq!(fails("SELECT * FROM SESSION(bid, item, INTERVAL '1 s')").0, "42804");
    assert_eq!(fails("SELECT * FROM SESSION(bid, ts, INTERVAL '1 s', INTERVAL '1 s')").0, "42883");
    assert_eq!(fails("SELECT * FROM TUMBLE(bid PARTITION BY item, ts, INTERVAL '1 s')").0, "42601");
    Ok(())
}

#[test]
fn dependencies_are_what_the_query_itself_reads() -> Result<()> {
    let bound = bind("WITH bid AS (SELECT 1 AS x) SELECT * FROM w2, u, bid")?;
    let mut direct: Vec<_> = bound.depends_on.iter().map(|name| name.name.clone()).collect();
    direct.sort();
    assert_eq!(direct, ["u", "w2"]);
    assert_eq!(bound.relations, [RelationId(1), RelationId(2)]);
    Ok(())
}

#[test]
fn parameters_are_inferred_hinted_or_text() -> Result<()> {
    let StatementKind::Query(query) = statement("SELECT $2, a + $1 FROM t WHERE b = $3 AND a = $4")? else {
        panic!("a query")
    };
    let bound = bind_query(&state(), &Relations, &query, &[None, None, Some(PgType::Varchar(None))])?;
    let types: Vec<String> = bound.parameters.iter().map(PgType::name).collect();
    assert_eq!(types, ["integer", "text", "character varying", "integer"]);
    let values = vec![
        ScalarValue::Int32(Some(5)),
        ScalarValue::from("p"),
        ScalarValue::from("one"),
        ScalarValue::Int32(Some(1)),
    ];
    assert_eq!(run(&with_parameters(bound.plan, values)?)?, ["p|6"]);
    Ok(())
}

fn target(name: &Name) -> Result<DmlTarget> {
    let Some(columns) = Relations::columns(&name.name) else {
        let message = format!("relation \"{}\" does not exist", name.name);
        return Err(Error::new(SqlState::UNDEFINED_TABLE, message));
    };
    let column = |(name, pg_type): (&str, PgType)| crate::catalog::Column {
        name: name.to_string(),
        default: (name == "d").then(|| "1 + 0.5".to_string()),
        pg_type,
        nullable: true,
    };
    Ok(DmlTarget {
        id: RelationId(9),
        columns: columns.into_iter().map(column).collect(),
        primary_key: vec![0],
        has_unique_index: false,
    })
}

fn dml(text: &str, hints: &[Option<PgType>]) -> Result<BoundDml> {
    match statement(text)? {
        StatementKind::Dml(dml) => bind_dml(&state(), &Relations, &dml, &target, hints),
        other => panic!("{other:?}"),
    }
}

#[test]
fn inserts_yield_full_rows() -> Result<()> {
    for (text, expected) in [
        ("INSERT INTO u VALUES (1, 2, 'abc')", "1|2.0|abc"),
        ("INSERT INTO u (v, a) VALUES ('x', '7')", "7|1.5|x"),
        ("INSERT INTO u VALUES (DEFAULT, DEFAULT, 5)", "|1.5|5"),
        ("INSERT INTO u DEFAULT VALUES", "|1.5|"),
        ("INSERT INTO u (a) SELECT c FROM t WHERE a = 1", "10|1.5|"),
        ("INSERT INTO u SELECT 1, 2, 'abc   '", "1|2.0|abc"),
    ] {
        assert_eq!(run(&dml(text, &[])?.bound.plan)?, [expected], "{text}");
    }
    let fails = |text: &str| match dml(text, &[]).and_then(|bound| run(&bound.bound.plan)) {
        Err(error) => error.code.0,
        Ok(rows) => panic!("{text}: {rows:?}"),
    };
    assert_eq!(fails("INSERT INTO u (v) VALUES ('long')"), "22001");
    assert_eq!(fails("INSERT INTO u (a) VALUES ('x')"), "22P02");
    assert_eq!(fails("INSERT INTO u (a) SELECT b FROM t"), "42804");
    assert_eq!(fails("INSERT INTO u (a) VALUES (true)"), "42804");
    assert_eq!(fails("INSERT INTO u (a) VALUES (3000000000)"), "22003");
    assert_eq!(fails("INSERT INTO u (nosuch) VALUES (1)"), "42703");
    assert_eq!(fails("INSERT INTO u (a, a) VALUES (1, 2)"), "42701");
    assert_eq!(fails("INSERT INTO u VALUES (1, 2, 3, 4)"), "42601");
    assert_eq!(fails("INSERT INTO u (a, d) VALUES (1)"), "42601");
    let bound = dml("INSERT INTO u VALUES ($1, $2, $3)", &[])?.bound;
    let types: Vec<String> = bound.parameters.iter().map(PgType::name).collect();
    assert_eq!(types, ["integer", "double precision", "character varying(3)"]);
    Ok(())
}

#[test]
fn updates_and_deletes_yield_old_rows() -> Result<()> {
    let update = dml("UPDATE t AS x SET c = c + 1, b = DEFAULT WHERE x.a = 1 RETURNING a, c AS now", &[])?;
    assert_eq!(run(&update.bound.plan)?, ["1|one|10|1||11"]);
    let returning = update.returning.expect("RETURNING");
    assert_eq!(returning.schema().field(1).name(), "now");
    let from = dml("UPDATE t SET b = upper(o.b) FROM t o WHERE o.a = t.a AND t.a = 1", &[])?;
    assert_eq!(run(&from.bound.plan)?, ["1|one|10|1|ONE|10"]);
    let delete = dml("DELETE FROM t WHERE a = $1", &[])?;
    assert_eq!(delete.bound.parameters, [PgType::Int4]);
    let plan = with_parameters(delete.bound.plan, vec![ScalarValue::Int32(Some(2))])?;
    assert_eq!(run(&plan)?, ["2||20"]);
    let update = dml("UPDATE t SET b = $1 WHERE a = $2", &[])?;
    assert_eq!(update.bound.parameters, [PgType::Text, PgType::Int4]);
    Ok(())
}

#[test]
fn conflicts_compute_the_new_row() -> Result<()> {
    use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
    let text = "INSERT INTO t VALUES (1, 'x', 5) ON CONFLICT (a) DO UPDATE SET c = t.c + excluded.c + $1, b = excluded.b \
                WHERE c < 100";
    let bound = dml(text, &[])?;
    assert_eq!(bound.bound.parameters.len(), 1);
    let DmlAction::Insert { on_conflict: OnConflict::DoUpdate { assignments } } = bound.action else {
        panic!("DO UPDATE")
    };
    let assignments = assignments.with_parameters(&state(), &[ScalarValue::Int64(Some(1000))])?;
    let batch = RecordBatch::try_new(
        assignments.input_schema.clone(),
        vec![
            Arc::new(Int32Array::from(vec![1])),
            Arc::new(StringArray::from(vec!["old"])),
            Arc::new(Int64Array::from(vec![7])),
            Arc::new(Int32Array::from(vec![1])),
            Arc::new(StringArray::from(vec!["new"])),
            Arc::new(Int64Array::from(vec![5])),
        ],
    )?;
    let value = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| -> Result<String> {
        Ok(ScalarValue::try_from_array(&expr.evaluate(&batch)?.into_array(1)?, 0)?.to_string())
    };
    let row = assignments.new_row.iter().map(value).collect::<Result<Vec<_>>>()?;
    assert_eq!(row, ["1", "new", "1012"]);
    assert_eq!(value(assignments.condition.as_ref().expect("a condition"))?, "true");
    assert_eq!(dml("INSERT INTO t VALUES (1) ON CONFLICT (b) DO NOTHING", &[]).err().map(|e| e.code.0), Some("42P10"));
    Ok(())
}

#[test]
fn returning_runs_over_the_changed_rows() -> Result<()> {
    use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
    let bound = dml("INSERT INTO t VALUES (1, 'x', 5) RETURNING *, c * 2", &[])?;
    let schema = Relations::schema("t").expect("t");
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int32Array::from(vec![4])),
            Arc::new(StringArray::from(vec!["four"])),
            Arc::new(Int64Array::from(vec![44])),
        ],
    )?;
    let plan = over_rows(&bound.returning.expect("RETURNING"), vec![batch])?;
    assert_eq!(run(&plan)?, ["4|four|44|88"]);
    Ok(())
}

#[test]
fn queries_of_every_shape_run() {
    let mut wrong = vec![];
    for (text, expected) in [
        ("SELECT DISTINCT a + 1 FROM t WHERE a < 5 ORDER BY a + 1", "2,3"),
        ("SELECT count(*) FROM t GROUP BY b HAVING count(*) > 0 ORDER BY count(*) DESC, b LIMIT 2 OFFSET 0", "1,1"),
        ("SELECT lower(b) FROM t GROUP BY lower(b) ORDER BY lower(b)", "big,one,"),
        ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r", "1,2,3"),
        ("SELECT * FROM generate_series(1, 3)", "1,2,3"),
        ("SELECT (ARRAY[1, 2, 3])[2]", "2"),
        ("SELECT lag(a, 1) OVER (ORDER BY a), ntile(2) OVER (ORDER BY a) FROM t", "|1,1|1,2|2"),
        ("SELECT now() - interval '1 day' < now()", "true"),
        ("SELECT a FROM t WHERE a IN (SELECT a FROM t WHERE c = 10)", "1"),
        ("SELECT t.a, (SELECT count(*) FROM t t2 WHERE t2.a = t.a) FROM t WHERE t.a = 1", "1|1"),
        ("SELECT string_agg(b, ',' ORDER BY b) FROM t", "big,one"),
        ("SELECT extract(year FROM ts), date_trunc('hour', ts) FROM bid WHERE price = 7", "2020|2020-01-01T00:00:00"),
        ("SELECT substring(b FROM 1 FOR 2), position('n' IN b) FROM t WHERE a = 1", "on|2"),
        ("SELECT round(1.234, 2), 7 / 2, 7 % 2, -7", "1.23|3|1|-7"),
        ("SELECT a FROM t UNION SELECT 5 ORDER BY a LIMIT 2", "1,2"),
        ("SELECT *, a FROM t WHERE a = 1", "1|one|10|1"),
        ("SELECT count(*), count(*) FROM t", "3|3"),
        ("SELECT x.n FROM (SELECT count(*) AS n, count(*) FROM t) x", "3"),
        ("SELECT l.a FROM t l LEFT JOIN u ON l.a = u.a WHERE l.a = 1", "1"),
        ("SELECT CASE WHEN a = 1 THEN 1.5 ELSE 2 END FROM t WHERE a < 3 ORDER BY 1", "1.5,2.0"),
        ("SELECT price FROM bid WHERE ts > '2019-12-31' AND ts < TIMESTAMP '2020-01-02'", "7"),
        ("SELECT avg(a), sum(c), min(b), max(b) FROM t WHERE a < 3", "1.5000000000000000|30|one|one"),
        ("TABLE w2 FETCH FIRST ROW ONLY", "2"),
        ("SELECT unnest(ARRAY[1, 2]) AS x", "1,2"),
        ("SELECT a FROM t WHERE b LIKE 'o%' AND b ~ '^o' AND a BETWEEN 1 AND 2", "1"),
        (
            "SELECT DATE '2020-01-31' + INTERVAL '1 day', DATE '2020-01-31' + 1, DATE '2020-01-31' - DATE '2020-01-01'",
            "2020-02-01T00:00:00|2020-02-01|30",
        ),
    ] {
        match rows(text) {
            Ok(found) if found.join(",") == expected => {}
            Ok(found) => wrong.push(format!("{text}\n  {found:?}")),
            Err(error) => wrong.push(format!("{text}\n  {} {error}", error.code.0)),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
