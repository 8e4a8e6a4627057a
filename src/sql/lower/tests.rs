//! Stream plans as EXPLAIN prints them, and every refusal.

use crate::error::{Error, Result};
use crate::plan::explain;
use crate::sql::testing::{Relations, bind, state};

fn plan(text: &str) -> Result<String> {
    let plan = super::lower(&state(), &Relations, &bind(text)?)?;
    Ok(explain::lines(&plan).join("\n"))
}

fn refused(text: &str) -> Error {
    let Err(error) = plan(text) else { panic!("{text} was accepted") };
    error
}

/// Prints what was planned where it is not as expected: all cases in one go.
fn check(cases: &[(&str, &str)]) {
    let mut wrong = vec![];
    for (text, expected) in cases {
        let found = plan(text).unwrap_or_else(|e| format!("{} {e}", e.code.0));
        let expected: Vec<&str> = expected.trim().lines().map(str::trim_end).collect();
        let trimmed: Vec<&str> = found.lines().map(str::trim_end).collect();
        if expected != trimmed {
            wrong.push(format!("{text}\n{found}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn plans() {
    check(&[
        (
            "SELECT a, b FROM t WHERE c > 5",
            r#"stream_project [a, b] {key: (a)}
  → stream_filter [c@2 > 5] {key: (a)}
    → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT count(*) FROM t",
            r#"stream_project [count(*)@0 as count] {key: ()}
  → stream_hash_aggregate [by ] [count(*)] {key: ()}
    → stream_scan t [] {}"#,
        ),
        (
            "SELECT b, count(*) AS n, sum(c + 1), avg(a), min(c) FILTER (WHERE a > 1), count(DISTINCT a) FROM t GROUP BY b",
            r#"stream_project [b, count(*)@1 as n, sum(int_add(c, Int64(1)))@2 as sum, avg(a)@3 as avg, min(c) FILTER (WHERE a > 1)@4 as min, count(DISTINCT a)@5 as count] {key: (b)}
  → stream_hash_aggregate [by b] [count(*), sum(int_add(c, Int64(1))), avg(a), min(c) FILTER (WHERE a > 1), count(DISTINCT a)] {key: (b)}
    → stream_project [b, int_add(c@2, 1) as int_add(c, Int64(1)), a, c, a@0 > 1 as a > 1] {key: (a)}
      → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT string_agg(b, ',' ORDER BY a DESC), array_agg(DISTINCT c), bool_or(c > 1) FROM t",
            r#"stream_project [CAST(string_agg(b, , ORDER BY a DESC)@0 AS Utf8) as string_agg, array_agg(DISTINCT c ORDER BY c)@1 as array_agg, bool_or(c > 1)@2 as bool_or] {key: ()}
  → stream_hash_aggregate [by ] [string_agg(b, , ORDER BY a DESC), array_agg(DISTINCT c ORDER BY c), bool_or(c > 1)] {key: ()}
    → stream_project [b, a, c, c@2 > 1 as c > 1] {key: (a)}
      → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT b, a % 2 AS odd, grouping(b) AS g, sum(c) AS s FROM t GROUP BY ROLLUP (b, a % 2)",
            r#"stream_project [b, t.a % Int64(2)@1 as odd, CAST(__grouping_id@2 & 2 >> 1 AS Int32) as g, sum(c)@3 as s] {}
  → stream_hash_aggregate [by b, t.a % Int64(2), __grouping_id] [sum(c)] {key: (b, t.a % Int64(2), __grouping_id)}
    → stream_expand [(b, t.a % Int64(2)), (b), ()] {}
      → stream_project [b, c, a@0 % 2 as t.a % Int64(2)] {}
        → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT t.b, u.d FROM t JOIN u ON t.a = u.a AND t.c > u.d",
            r#"stream_project [b, d] {}
  → stream_hash_join [a = a; CAST(c@2 AS Float64) > d@4; left as it is arranged] {}
    → stream_scan t [a, b, c] {key: (a)}
    → stream_scan u [a, d] {}"#,
        ),
        (
            "SELECT t.b FROM t, u WHERE t.a + 1 = u.a",
            r#"stream_project [b] {}
  → stream_hash_join [left_key_0 = a] {}
    → stream_project [a, b, int_add(a@0, 1) as left_key_0] {key: (a)}
      → stream_scan t [a, b] {key: (a)}
    → stream_scan u [a] {}"#,
        ),
        (
            "SELECT t.b, u.d FROM t LEFT JOIN u ON t.a = u.a AND t.c > u.d",
            r#"stream_project [b, d] {}
  → stream_hash_left_join [a = a; CAST(c@2 AS Float64) > d@4] {}
    → stream_scan t [a, b, c] {key: (a)}
    → stream_scan u [a, d] {}"#,
        ),
        (
            "SELECT t.b FROM t JOIN u ON t.a < u.a",
            r#"stream_project [b] {}
  → stream_nested_loop_join [a@0 < a@2] {}
    → stream_scan t [a, b] {key: (a)}
    → stream_scan u [a] {}"#,
        ),
        (
            "SELECT t.b FROM t LEFT JOIN u ON u.a BETWEEN t.a - 5 AND t.a + 2",
            r#"stream_project [b] {}
  → stream_hash_left_join [bucket = bucket; a@3 >= int_subtract(a@0, 5) AND a@3 <= int_add(a@0, 2)] {}
    → stream_project [a, b, bucket] {key: (a)}
      → stream_buckets [a, width 8] {key: (a)}
        → stream_scan t [a, b] {key: (a)}
    → stream_project [a, bucket@1 + 5 as bucket] {}
      → stream_buckets [a, width 8, of a band] {}
        → stream_scan u [a] {}"#,
        ),
        (
            "SELECT b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
            r#"stream_project [b] {}
  → stream_hash_semi_join [a = __s3_d0] {key: (a)}
    → stream_scan t [a, b] {key: (a)}
    → stream_filter [a@0 IS NOT NULL] {}
      → stream_scan u [a] {}"#,
        ),
        (
            "SELECT b, (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t",
            r#"stream_project [b, CASE WHEN present@4 IS NULL THEN 0 ELSE c0@2 END as n] {}
  → stream_hash_left_join [a = __s2_d0] {key: (a)}
    → stream_scan t [a, b] {key: (a)}
    → stream_project [count(*)@1 as c0, __s2_d0, true as present] {key: (__s2_d0)}
      → stream_hash_aggregate [by __s2_d0] [count(*)] {key: (__s2_d0)}
        → stream_filter [a@0 IS NOT NULL] {}
          → stream_scan u [a] {}"#,
        ),
        (
            "SELECT b FROM t WHERE c > (SELECT sum(d) FROM u WHERE u.a < t.a)",
            r#"stream_project [b] {}
  → stream_hash_join [a IS NOT DISTINCT FROM __s2_d0; CAST(c@2 AS Float64) > c0@3; left as it is arranged] {key: (a)}
    → stream_scan t [a, b, c] {key: (a)}
    → stream_project [sum(d)@1 as c0, __s2_d0] {key: (__s2_d0)}
      → stream_hash_aggregate [by __s2_d0] [sum(d)] {key: (__s2_d0)}
        → stream_project [__s2_d0, d] {}
          → stream_nested_loop_join [a@1 < __s2_d0@0] {}
            → stream_distinct [__s2_d0] {key: (__s2_d0)}
              → stream_scan t [__s2_d0] {key: (__s2_d0)}
            → stream_scan u [a, d] {}"#,
        ),
        (
            "SELECT DISTINCT item FROM bid",
            r#"stream_distinct [item] {append-only; key: (item)}
  → stream_scan bid [item] {append-only}"#,
        ),
        (
            "SELECT a FROM t UNION ALL SELECT price FROM bid",
            r#"stream_union {}
  → stream_project [CAST(a@0 AS Int64) as a] {}
    → stream_scan t [a] {key: (a)}
  → stream_scan bid [a] {append-only}"#,
        ),
        (
            "SELECT window_start, item, count(*) AS n FROM TUMBLE(bid, ts, INTERVAL '1 minute') GROUP BY window_start, item",
            r#"stream_project [window_start, item, count(*)@2 as n] {key: (window_start, item); time: window_start}
  → stream_hash_aggregate [by window_start, item; until window_start is over] [count(*)] {key: (window_start, item); time: window_start}
    → stream_late [window_start] {append-only; time: window_start}
      → stream_project [item, window_start, watermark_at_arrival, arrived_at] {append-only; time: window_start}
        → stream_project [ts, item, window_start, window_end, watermark_at_arrival, arrived_at] {append-only; time: ts, window_start, window_end}
          → stream_tumble [ts, size 1 min] {append-only; time: ts, window_start, window_end}
            → stream_scan bid [ts, item, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT * FROM HOP(bid, ts, INTERVAL '1 minute', INTERVAL '5 minutes') WHERE price > 3",
            r#"stream_hop [ts, slide 1 min, size 5 min] {append-only; time: ts, window_start, window_end}
  → stream_filter [price@1 > 3] {append-only; time: ts}
    → stream_scan bid [ts, price, item] {append-only; time: ts}"#,
        ),
        (
            "SELECT window_end, item, count(*) AS n FROM CUMULATE(bid, ts, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY window_end, item",
            r#"stream_project [window_end, item, count(*)@2 as n] {key: (window_end, item); time: window_end}
  → stream_hash_aggregate [by window_end, item; until window_end is over] [count(*)] {key: (window_end, item); time: window_end}
    → stream_late [window_end] {append-only; time: window_end}
      → stream_project [item, window_end, watermark_at_arrival, arrived_at] {append-only; time: window_end}
        → stream_project [ts, item, window_start, window_end, watermark_at_arrival, arrived_at] {append-only; time: ts, window_start, window_end}
          → stream_cumulate [ts, step 1 min, size 1 h] {append-only; time: ts, window_start, window_end}
            → stream_scan bid [ts, item, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT item, window_start, window_end, count(*) AS n FROM SESSION(bid PARTITION BY item, ts, INTERVAL '5 minutes') GROUP BY item, window_start, window_end",
            r#"stream_project [item, window_start, window_end, count(*)@3 as n] {key: (item, window_start, window_end); time: window_end}
  → stream_hash_aggregate [by item, window_start, window_end; until window_end is over] [count(*)] {key: (item, window_start, window_end); time: window_end}
    → stream_project [item, window_start, window_end] {time: window_end}
      → stream_session [by item; ts, gap 5 min; until window_end is over] {time: window_end}
        → stream_late [ts] {append-only; time: ts}
          → stream_scan bid [ts, item, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT window_start, count(*) AS n FROM SESSION(bid PARTITION BY item, ts, INTERVAL '5 minutes') WHERE item > 'b' AND price > 3 AND window_start > '2020-01-01' GROUP BY window_start",
            r#"stream_project [window_start, count(*)@1 as n] {key: (window_start)}
  → stream_hash_aggregate [by window_start] [count(*)] {key: (window_start)}
    → stream_project [window_start] {}
      → stream_filter [price@0 > 3 AND window_start@1 > 1577836800000000] {}
        → stream_project [price, window_start] {}
          → stream_session [by item; ts, gap 5 min; until window_end is over] {time: window_end}
            → stream_late [ts] {append-only; time: ts}
              → stream_filter [item@2 > b] {append-only; time: ts}
                → stream_scan bid [ts, price, item, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT price FROM SESSION(bid, ts, INTERVAL '5 minutes') WHERE item = 'b'",
            r#"stream_project [price] {}
  → stream_filter [item@1 = b] {}
    → stream_project [price, item] {}
      → stream_session [ts, gap 5 min; until window_end is over] {time: window_end}
        → stream_late [ts] {append-only; time: ts}
          → stream_scan bid [ts, price, item, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT w.price FROM SESSION((SELECT a.ts, a.price, a.item, b.item AS other FROM bid a JOIN bid b ON a.price = b.price) PARTITION BY item, ts, INTERVAL '5 minutes') w JOIN t ON w.item = t.b WHERE other = 'x' AND w.item = 'y'",
            r#"stream_project [price] {}
  → stream_hash_join [item = b] {}
    → stream_project [price, item] {}
      → stream_filter [other@2 = x] {}
        → stream_project [price, item, other] {}
          → stream_session [by item; ts, gap 5 min; until window_end is over] {time: window_end}
            → stream_late [ts] {append-only; time: ts}
              → stream_project [ts, price, item, item@4 as other, watermark_at_arrival, arrived_at] {append-only; time: ts}
                → stream_project [ts, price, item, price, item, watermark_at_arrival, arrived_at] {append-only; time: ts}
                  → stream_hash_join [price = price] {append-only; time: ts}
                    → stream_filter [item@2 = y] {append-only; time: ts}
                      → stream_scan bid [ts, price, item, watermark_at_arrival, arrived_at] {append-only; time: ts}
                    → stream_scan bid [price, item] {append-only}
    → stream_scan t [b] {}"#,
        ),
        (
            "SELECT a, (SELECT count(DISTINCT window_start) FROM SESSION((SELECT * FROM bid WHERE price < t.a), ts, INTERVAL '5 minutes')) AS n FROM t",
            r#"stream_project [a, CASE WHEN present@3 IS NULL THEN 0 ELSE c0@1 END as n] {key: (a)}
  → stream_hash_left_join [a IS NOT DISTINCT FROM __s2_d0] {key: (a)}
    → stream_scan t [a] {key: (a)}
    → stream_project [count(DISTINCT window_start)@1 as c0, __s2_d0, true as present] {key: (__s2_d0)}
      → stream_hash_aggregate [by __s2_d0] [count(DISTINCT window_start)] {key: (__s2_d0)}
        → stream_project [__s2_d0, window_start] {}
          → stream_session [by __s2_d0; ts, gap 5 min; until window_end is over] {time: window_end}
            → stream_late [ts] {time: ts}
              → stream_project [ts, __s2_d0, watermark_at_arrival, arrived_at] {time: ts}
                → stream_nested_loop_join [price@2 < CAST(__s2_d0@0 AS Int64)] {time: ts}
                  → stream_distinct [__s2_d0] {key: (__s2_d0)}
                    → stream_scan t [__s2_d0] {key: (__s2_d0)}
                  → stream_scan bid [ts, price, watermark_at_arrival, arrived_at] {append-only; time: ts}"#,
        ),
        (
            "SELECT m FROM w2 ORDER BY m",
            r#"stream_project [int_add(n@0, 1) as m] {}
  → stream_project [count(*)@1 as n] {}
    → stream_hash_aggregate [by a] [count(*)] {key: (a)}
      → stream_scan t [a] {key: (a)}"#,
        ),
        (
            "SELECT 1 AS one",
            r#"stream_project [1 as one] {append-only; key: ()}
  → stream_values [1 rows] {append-only; key: ()}"#,
        ),
        ("VALUES (1, 'a'), (2, NULL)", r#"stream_values [2 rows] {append-only}"#),
        (
            "SELECT a, part FROM t, string_to_table(b, ',') AS part",
            r#"stream_project [a′@0 as a, get_field(__unnest_placeholder(hw_string_split(outer_ref(t.b),Utf8(",")),depth=1)@1, value) as part] {}
  → stream_unnest [__unnest_placeholder(hw_string_split(outer_ref(t.b),Utf8(",")),depth=1)] {}
    → stream_project [a@0 as a′, hw_string_split(b@1, ,) as __unnest_placeholder(hw_string_split(outer_ref(t.b),Utf8(",")))] {key: (a′)}
      → stream_scan t [a, b] {key: (a)}"#,
        ),
        (
            "SELECT a, g FROM t LEFT JOIN generate_series(1, a) AS g ON true",
            r#"stream_project [a′@0 as a, get_field(__unnest_placeholder(hw_series(Int64(1),outer_ref(t.a)),depth=1)@1, value) as g] {}
  → stream_unnest [__unnest_placeholder(hw_series(Int64(1),outer_ref(t.a)),depth=1); empty ones too] {}
    → stream_project [a@0 as a′, hw_series(1, a@0) as __unnest_placeholder(hw_series(Int64(1),outer_ref(t.a)))] {key: (a′)}
      → stream_scan t [a] {key: (a)}"#,
        ),
        (
            "SELECT b, b || '!' AS loud FROM (SELECT b FROM t WHERE a = 1) x",
            r#"stream_project [b, b@0 || ! as loud] {}
  → stream_project [b] {}
    → stream_filter [a@0 = 1] {key: (a)}
      → stream_scan t [a, b] {key: (a)}"#,
        ),
    ]);
}

#[test]
fn what_cannot_be_maintained_is_named() {
    for (text, message) in [
        ("SELECT random() AS r FROM t", "function random() in a maintained view is not supported"),
        (
            "SELECT a, now() AS n FROM t",
            "function now() in a maintained view other than in a comparison in WHERE is not supported",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
            "WITH RECURSIVE in a maintained view is not supported",
        ),
        ("SELECT * FROM pg_x", "a maintained view over the system relation \"pg_x\" is not supported"),
    ] {
        let error = refused(text);
        assert_eq!((error.code.0, error.message.as_str()), ("0A000", message), "{text}");
        assert!(error.hint.is_some(), "{text} has no hint");
    }
    assert_eq!(refused("SELECT a, a FROM t").code.0, "42701");
    assert_eq!(refused("SELECT a FROM t WHERE a = $1").code.0, "42P02");
}

#[test]
fn first_rows_and_windows() {
    check(&[
        (
            "SELECT a, b FROM t ORDER BY c DESC, a LIMIT 3 OFFSET 1",
            r#"stream_project [a, b] {key: (a)}
  → stream_top_n [order c desc, a; first 3 after 1] {key: (a)}
    → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT a FROM t LIMIT 2",
            r#"stream_top_n [order by the row; first 2] {key: (a)}
  → stream_scan t [a] {key: (a)}"#,
        ),
        (
            "SELECT item FROM bid ORDER BY price NULLS FIRST LIMIT 5",
            r#"stream_project [item] {}
  → stream_top_n [order price nulls first; first 5] {}
    → stream_project [item, price] {append-only}
      → stream_scan bid [price, item] {append-only}"#,
        ),
        (
            "SELECT a, b FROM (SELECT *, row_number() OVER (PARTITION BY b ORDER BY c DESC) AS n FROM t) x WHERE n <= 3",
            r#"stream_project [a, b] {key: (a)}
  → stream_top_n [by b; order c desc; first 3] {key: (a)}
    → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT a, r FROM (SELECT *, rank() OVER (PARTITION BY b ORDER BY c DESC) AS r FROM t) x WHERE r < 3",
            r#"stream_project [a, CAST(r@1 AS Int64) as r] {key: (a)}
  → stream_project [a, rank()@3 as r] {key: (a)}
    → stream_over_window [by b; order c desc] [rank()] {key: (a)}
      → stream_top_n [by b; order c desc; first 2 with ties] {key: (a)}
        → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT a, b FROM t QUALIFY dense_rank() OVER (ORDER BY b) = 1",
            r#"stream_top_n [order b; first 1 groups of peers] {key: (a)}
  → stream_scan t [a, b] {key: (a)}"#,
        ),
        (
            "SELECT DISTINCT ON (b) b, a FROM t ORDER BY b, c DESC",
            r#"stream_project [b, a] {key: (b)}
  → stream_top_n [by b; order b, c desc; first 1] {key: (b)}
    → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT a FROM t ORDER BY b FETCH FIRST 2 ROWS WITH TIES",
            r#"stream_project [a] {key: (a)}
  → stream_top_n [order b; first 2 with ties] {key: (a)}
    → stream_scan t [a, b] {key: (a)}"#,
        ),
        (
            "SELECT a, lag(c) OVER (PARTITION BY b ORDER BY a) AS l, count(*) OVER (PARTITION BY b ORDER BY a) AS n FROM t",
            r#"stream_project [a, lag(c)@3 as l, count(*)@4 as n] {key: (a)}
  → stream_over_window [by b; order a] [lag(c), count(*)] {key: (a)}
    → stream_scan t [a, b, c] {key: (a)}"#,
        ),
        (
            "SELECT a FROM t EXCEPT ALL SELECT a FROM u",
            r#"stream_project [a] {key: (a)}
  → stream_hash_anti_join [a IS NOT DISTINCT FROM a, row_number() IS NOT DISTINCT FROM row_number()] {key: (a)}
    → stream_over_window [by a; order by the row] [row_number()] {key: (a)}
      → stream_scan t [a] {key: (a)}
    → stream_over_window [by a; order by the row] [row_number()] {}
      → stream_scan u [a] {}"#,
        ),
        (
            "SELECT a, max(c) OVER (ORDER BY a ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS m, ntile(2) OVER (ORDER BY a) AS t FROM t",
            r#"stream_project [a, max(c) ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING@2 as m, CAST(ntile(2)@3 AS Int64) as t] {key: (a)}
  → stream_over_window [order a] [max(c) ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING, ntile(2) by whole partition] {key: (a)}
    → stream_scan t [a, c] {key: (a)}"#,
        ),
    ]);
}
