//! The tables that change and the views that are held against their own SQL: the scope of what is maintained.
//!
//! Sums, means and statistics of floats are exact, so that the order of adding up cannot make two right answers differ.

pub const TABLES: &str = "
    CREATE TABLE items (id int PRIMARY KEY, grp int, amount int, price numeric(10,2), name text, ts timestamp, flag bool, weight float8);
    CREATE TABLE links (a int, b int, note text);
    CREATE TABLE labels (grp int PRIMARY KEY, label text NOT NULL);
";

pub struct View {
    pub name: &'static str,
    pub sql: &'static str,
}

const fn view(name: &'static str, sql: &'static str) -> View {
    View { name, sql }
}

pub const VIEWS: &[View] = &[
    view("v_all", "SELECT * FROM items"),
    view("v_bag", "SELECT a, note FROM links"),
    view("v_project", "SELECT grp, amount * 2 AS twice, upper(name) AS shout, coalesce(price, 0) AS price FROM items"),
    view("v_filter", "SELECT id, amount FROM items WHERE amount > 10 AND (flag OR name LIKE 'b%')"),
    view(
        "v_case",
        "SELECT id, CASE WHEN flag THEN amount WHEN flag IS NULL THEN -1 ELSE 0 END AS c FROM items WHERE grp IN (1, 2, 3)",
    ),
    view(
        "v_group",
        "SELECT grp, count(*) AS n, count(amount) AS known, sum(amount) AS total, avg(amount) AS mean, min(amount) AS low, max(amount) AS high FROM items GROUP BY grp",
    ),
    view(
        "v_types",
        "SELECT grp, sum(amount::bigint) AS wide, avg(amount) AS mean, avg(price) AS price, stddev(amount) AS spread, var_pop(price) AS v, sum(weight::real) AS r, avg(ts - TIMESTAMP '2024-01-01') AS took, avg(DISTINCT amount::bigint) FILTER (WHERE flag) AS once FROM items GROUP BY grp",
    ),
    view(
        "v_types_over",
        "SELECT id, avg(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS m, sum(amount::bigint) OVER (PARTITION BY grp ORDER BY id) AS s, stddev_pop(price) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS d, sum(DISTINCT amount::bigint) OVER (ORDER BY id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS once FROM items",
    ),
    view(
        "v_types_above",
        "SELECT count(*) AS n, sum(wide) AS wide, avg(mean) AS mean, sum(price) / count(*) AS price FROM v_types",
    ),
    view("v_money", "SELECT grp, sum(price) AS total, min(price) AS low, max(price) AS high FROM items GROUP BY grp"),
    view(
        "v_weight",
        "SELECT flag, sum(weight) AS total, min(weight) AS low, max(weight) AS high FROM items GROUP BY flag",
    ),
    view(
        "v_text",
        "SELECT flag, min(name) AS first_name, max(name) AS last_name, min(ts) AS since, max(ts) AS upto FROM items GROUP BY flag",
    ),
    view("v_two_keys", "SELECT grp, name, count(*) AS n, sum(amount) AS total FROM items GROUP BY grp, name"),
    view("v_global", "SELECT count(*) AS n, sum(amount) AS total, min(name) AS low, max(ts) AS high FROM items"),
    view("v_global_filter", "SELECT count(*) AS n, max(amount) AS high FROM items WHERE amount > 90"),
    view("v_having", "SELECT grp, count(*) AS n FROM items GROUP BY grp HAVING count(*) > 3"),
    view(
        "v_distinct_agg",
        "SELECT grp, count(DISTINCT name) AS names, sum(DISTINCT amount) AS s FROM items GROUP BY grp",
    ),
    view(
        "v_filter_agg",
        "SELECT grp, count(*) FILTER (WHERE flag) AS yes, sum(amount) FILTER (WHERE amount < 50) AS small FROM items GROUP BY grp",
    ),
    view(
        "v_text_agg",
        "SELECT grp, string_agg(name, ',' ORDER BY id) AS names, array_agg(amount ORDER BY id DESC) FILTER (WHERE flag) AS amounts, string_agg(DISTINCT name, '-') AS once FROM items GROUP BY grp",
    ),
    view(
        "v_percentiles",
        "SELECT flag, percentile_disc(0.3) WITHIN GROUP (ORDER BY ts DESC) AS d, percentile_cont(0.75) WITHIN GROUP (ORDER BY amount) AS c, mode() WITHIN GROUP (ORDER BY name) AS m, first_value(name ORDER BY amount, id) AS f FROM items GROUP BY flag",
    ),
    view(
        "v_json_agg",
        "SELECT grp, jsonb_agg(price ORDER BY id) AS prices, json_object_agg(id, name ORDER BY id) AS names FROM items GROUP BY grp",
    ),
    view(
        "v_bits",
        "SELECT grp, bool_and(flag) AS a, every(amount > 5) AS e, bit_or(amount) AS o, bit_xor(id) AS x FROM items GROUP BY grp",
    ),
    view(
        "v_statistics",
        "SELECT grp, var_pop(weight) AS v, stddev(amount) AS s, corr(weight, amount) AS c, regr_slope(amount, weight) AS r, regr_count(amount, weight) AS n FROM items GROUP BY grp",
    ),
    view("v_tenths", "SELECT flag, sum(weight / 3) AS s, avg(weight * 0.1::float8) AS m FROM items GROUP BY flag"),
    view(
        "v_rollup",
        "SELECT grp, name, grouping(grp, name) AS g, count(*) AS n, sum(amount) AS s FROM items GROUP BY ROLLUP (grp, name)",
    ),
    view(
        "v_cube",
        "SELECT flag, amount % 3 AS r, count(DISTINCT name) AS names FROM items WHERE grp < 5 GROUP BY CUBE (flag, amount % 3)",
    ),
    view("v_distinct", "SELECT DISTINCT a, note FROM links"),
    view("v_join", "SELECT i.id, i.amount, l.b, l.note FROM items i JOIN links l ON i.id = l.a"),
    view("v_join_group", "SELECT i.id, b.label, i.name FROM items i JOIN labels b ON i.grp = b.grp"),
    view("v_join_residual", "SELECT i.id, l.b FROM items i JOIN links l ON i.grp = l.a AND i.amount > l.b"),
    view(
        "v_three",
        "SELECT i.name, l.note, b.label FROM items i JOIN links l ON i.id = l.a JOIN labels b ON i.grp = b.grp",
    ),
    view("v_left", "SELECT i.id, i.amount, l.b, l.note FROM items i LEFT JOIN links l ON i.id = l.a"),
    view("v_right", "SELECT i.id, l.a, l.b FROM items i RIGHT JOIN links l ON i.id = l.a AND i.amount > l.b"),
    view("v_full", "SELECT i.id, b.grp, b.label FROM items i FULL JOIN labels b ON i.grp = b.grp"),
    view("v_full_residual", "SELECT i.id, l.a, l.b FROM items i FULL JOIN links l ON i.grp = l.a AND i.amount > l.b"),
    view("v_cross", "SELECT b.label, l.a FROM labels b CROSS JOIN links l"),
    view("v_band", "SELECT i.id, l.a FROM items i JOIN links l ON i.amount BETWEEN l.a AND l.b"),
    view("v_left_band", "SELECT i.id, b.label FROM items i LEFT JOIN labels b ON i.amount < b.grp * 10"),
    view("v_near", "SELECT i.id, l.a, l.b FROM items i JOIN links l ON l.b BETWEEN i.amount - 5 AND i.amount + 3"),
    view(
        "v_near_left",
        "SELECT i.id, l.a, l.b FROM items i LEFT JOIN links l ON i.amount >= l.b - 4 AND i.amount < l.b",
    ),
    view(
        "v_near_right",
        "SELECT i.id, l.a, l.b FROM items i RIGHT JOIN links l ON i.amount - l.b < 3 AND i.amount > l.b + 1 AND l.b > i.amount - 3",
    ),
    view(
        "v_near_semi",
        "SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.b BETWEEN i.amount - 1 AND i.amount + 1)",
    ),
    view(
        "v_near_time",
        "SELECT x.id, y.id AS other FROM items x JOIN items y ON x.ts > y.ts - INTERVAL '3 minutes' AND x.ts <= y.ts AND x.flag",
    ),
    view("v_not_distinct", "SELECT x.a, y.b FROM links x JOIN links y ON x.b IS NOT DISTINCT FROM y.a AND x.a = y.b"),
    view("v_in", "SELECT id, grp FROM items WHERE grp IN (SELECT a FROM links WHERE note IS NOT NULL)"),
    view("v_not_in", "SELECT id, grp FROM items WHERE grp NOT IN (SELECT a FROM links WHERE b > 3)"),
    view(
        "v_exists",
        "SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM links l WHERE l.a = i.grp AND l.b < i.amount)",
    ),
    view("v_not_exists", "SELECT id FROM items i WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.a = i.id)"),
    view(
        "v_marks",
        "SELECT id, grp IN (SELECT a FROM links) AS linked, amount > 50 OR EXISTS (SELECT 1 FROM labels b WHERE b.grp = i.grp) AS known FROM items i",
    ),
    view("v_above_mean", "SELECT id, amount FROM items WHERE amount > (SELECT avg(amount) FROM items)"),
    view(
        "v_above_group",
        "SELECT id, amount FROM items i WHERE amount >= (SELECT max(x.amount) FROM items x WHERE x.grp = i.grp)",
    ),
    view(
        "v_scalar",
        "SELECT g.grp, label, (SELECT count(*) FROM items i WHERE i.grp = g.grp) AS n, (SELECT sum(l.b) FROM links l WHERE l.a < g.grp) AS s FROM labels g",
    ),
    view(
        "v_lateral",
        "SELECT b.grp, s.n, s.high FROM labels b, LATERAL (SELECT count(*) AS n, max(i.amount) AS high FROM items i WHERE i.grp = b.grp OR i.id = b.grp) s",
    ),
    view("v_self", "SELECT x.a, y.b FROM links x JOIN links y ON x.b = y.a"),
    view(
        "v_join_sum",
        "SELECT b.label, count(*) AS n, sum(i.amount) AS total FROM items i JOIN labels b ON i.grp = b.grp GROUP BY b.label",
    ),
    view(
        "v_union",
        "SELECT id AS x, name AS s FROM items UNION ALL SELECT a, note FROM links UNION ALL SELECT grp, label FROM labels",
    ),
    view("v_union_set", "SELECT grp FROM items UNION SELECT a FROM links"),
    view(
        "v_union_sum",
        "SELECT x, count(*) AS n FROM (SELECT a AS x FROM links UNION ALL SELECT b FROM links) AS u GROUP BY x",
    ),
    view(
        "v_cte",
        "WITH g AS (SELECT grp, sum(amount) AS s FROM items GROUP BY grp) SELECT g.grp, g.s, b.label FROM g JOIN labels b ON g.grp = b.grp WHERE g.s > 0",
    ),
    view(
        "v_above",
        "SELECT i.id FROM items i JOIN (SELECT grp, max(amount) AS high FROM items GROUP BY grp) AS m ON i.grp = m.grp AND i.amount = m.high",
    ),
    view(
        "v_counts",
        "SELECT n, count(*) AS groups FROM (SELECT a, count(*) AS n FROM links GROUP BY a) AS c GROUP BY n",
    ),
    view(
        "v_tumble",
        "SELECT window_start, window_end, count(*) AS n, sum(amount) AS total FROM TUMBLE(items, ts, INTERVAL '10 minutes') GROUP BY window_start, window_end",
    ),
    view(
        "v_hop",
        "SELECT window_start, grp, count(*) AS n, max(amount) AS high FROM HOP(items, ts, INTERVAL '5 minutes', INTERVAL '15 minutes') GROUP BY window_start, grp",
    ),
    view(
        "v_cumulate",
        "SELECT window_start, window_end, count(*) AS n, sum(amount) AS total FROM CUMULATE(items, ts, INTERVAL '5 minutes', INTERVAL '20 minutes', INTERVAL '2 minutes') GROUP BY window_start, window_end",
    ),
    view(
        "v_session",
        "SELECT id, name, window_start, window_end FROM SESSION(items PARTITION BY name, ts, INTERVAL '12 minutes') WHERE name <> 'apple' AND amount > 10",
    ),
    view(
        "v_session_of_all",
        "SELECT window_start, window_end, count(*) AS n, sum(amount) AS total, max(name) AS last FROM SESSION(items, ts, INTERVAL '3 minutes') GROUP BY window_start, window_end",
    ),
    view(
        "v_session_group",
        "SELECT grp, flag, window_end - window_start AS span, count(*) AS n, count(DISTINCT name) AS names FROM SESSION((SELECT * FROM items WHERE amount > 5) PARTITION BY grp, flag, ts, INTERVAL '15 minutes') GROUP BY grp, flag, window_start, window_end HAVING count(*) > 1",
    ),
    view(
        "v_session_join",
        "SELECT s.grp, s.n, t.window_start, t.total FROM (SELECT grp, window_start, count(*) AS n FROM SESSION(items PARTITION BY grp, ts, INTERVAL '10 minutes') GROUP BY grp, window_start) AS s JOIN v_tumble t ON s.window_start >= t.window_start AND s.window_start < t.window_end",
    ),
    view(
        "v_session_left",
        "SELECT b.label, w.id, w.window_start FROM labels b LEFT JOIN SESSION(items PARTITION BY grp, ts, INTERVAL '20 minutes') w ON b.grp = w.grp",
    ),
    view(
        "v_session_in_window",
        "SELECT h.window_start, h.window_end, count(*) AS sessions FROM TUMBLE((SELECT DISTINCT grp, window_end AS until FROM SESSION(items PARTITION BY grp, ts, INTERVAL '10 minutes')), until, INTERVAL '1 hour') AS h GROUP BY h.window_start, h.window_end",
    ),
    view(
        "v_session_correlated",
        "SELECT b.grp, (SELECT count(DISTINCT w.window_start) FROM SESSION((SELECT * FROM items i WHERE i.amount > b.grp * 10), ts, INTERVAL '5 minutes') AS w) AS sessions FROM labels b",
    ),
    view("v_on_group", "SELECT count(*) AS groups, sum(total) AS total, max(high) AS high FROM v_group"),
    view("v_on_join", "SELECT label, count(*) AS n, count(DISTINCT name) AS names FROM v_join_group GROUP BY label"),
    view(
        "v_on_views",
        "SELECT g.grp, g.total, m.total AS money FROM v_group g JOIN v_money m ON g.grp = m.grp WHERE g.n > 1",
    ),
    view(
        "v_on_on",
        "SELECT n, sum(total) AS total FROM (SELECT g.n, j.total FROM v_group g JOIN v_on_views j ON g.grp = j.grp) AS x GROUP BY n",
    ),
    view("v_diamond", "SELECT 'f' AS side, id FROM v_filter UNION ALL SELECT 'a', id FROM v_above"),
    view("v_top", "SELECT id, amount FROM items ORDER BY amount DESC NULLS LAST, id LIMIT 7 OFFSET 2"),
    view(
        "v_top_sum",
        "SELECT count(*) AS n, sum(amount) AS total FROM (SELECT amount FROM items ORDER BY amount, id LIMIT 10) AS x",
    ),
    view(
        "v_best",
        "SELECT grp, id FROM (SELECT grp, id, row_number() OVER (PARTITION BY grp ORDER BY amount DESC, id) AS n FROM items) AS x WHERE n <= 2",
    ),
    view(
        "v_rank_top",
        "SELECT grp, id, r FROM (SELECT grp, id, rank() OVER (PARTITION BY flag ORDER BY grp) AS r FROM items) AS x WHERE r < 4",
    ),
    view(
        "v_dense_top",
        "SELECT a, b, r FROM (SELECT a, b, dense_rank() OVER (ORDER BY a DESC) AS r FROM links) AS x WHERE r BETWEEN 2 AND 3",
    ),
    view("v_distinct_on", "SELECT DISTINCT ON (grp) grp, id, name FROM items ORDER BY grp, amount DESC NULLS LAST, id"),
    view("v_ties", "SELECT id, grp FROM items ORDER BY grp FETCH FIRST 5 ROWS WITH TIES"),
    view(
        "v_numbers",
        "SELECT id, row_number() OVER (PARTITION BY grp ORDER BY id) AS n, rank() OVER (ORDER BY grp) AS r, dense_rank() OVER (ORDER BY grp) AS d FROM items",
    ),
    view(
        "v_around",
        "SELECT id, lag(amount) OVER (PARTITION BY grp ORDER BY id) AS p, lead(id, 2, -1) OVER (PARTITION BY grp ORDER BY id) AS q, first_value(amount) OVER (PARTITION BY grp ORDER BY id) AS f FROM items",
    ),
    view(
        "v_running",
        "SELECT id, sum(amount) OVER (ORDER BY id) AS s, max(amount) OVER (PARTITION BY flag ORDER BY id) AS m, count(amount) OVER (ORDER BY grp) AS c FROM items",
    ),
    view(
        "v_frames",
        "SELECT id, sum(amount) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) AS s, min(amount) OVER (PARTITION BY grp ORDER BY id ROWS 1 PRECEDING) AS m, count(*) OVER (ORDER BY amount RANGE BETWEEN 3 PRECEDING AND 3 FOLLOWING) AS n FROM items",
    ),
    view(
        "v_frame_time",
        "SELECT id, count(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '10 minutes' PRECEDING AND CURRENT ROW) AS n, sum(amount) OVER (ORDER BY grp GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) AS g FROM items",
    ),
    view(
        "v_whole",
        "SELECT id, count(*) OVER () AS n, sum(amount) OVER (PARTITION BY grp) AS s, ntile(3) OVER (ORDER BY id) AS t FROM items",
    ),
    view(
        "v_links_count",
        "SELECT a, b, note, count(*) OVER (PARTITION BY a) AS n, rank() OVER (PARTITION BY a ORDER BY b) AS r FROM links",
    ),
    view(
        "v_asof",
        "SELECT i.id, i.amount, l.b FROM items i ASOF JOIN links l MATCH_CONDITION (i.amount >= l.b) ON i.grp = l.a",
    ),
    view("v_asof_left", "SELECT i.id, l.b FROM items i ASOF LEFT JOIN links l MATCH_CONDITION (i.amount < l.b)"),
    view(
        "v_nearest",
        "SELECT i.id, n.a, n.note FROM items i LEFT JOIN LATERAL (SELECT * FROM links l WHERE l.a = i.grp AND l.b <= i.amount AND l.note <> 'x' ORDER BY l.b DESC, l.note LIMIT 1) n ON true",
    ),
    view(
        "v_zeros",
        "SELECT weight * 0 + 0 AS zero, count(*) AS n, count(DISTINCT flag) AS f FROM items GROUP BY weight * 0",
    ),
    view("v_intersect", "SELECT a FROM links INTERSECT SELECT grp FROM items"),
    view("v_except", "SELECT grp FROM items EXCEPT SELECT b FROM links"),
    view("v_intersect_all", "SELECT a, note FROM links INTERSECT ALL SELECT b, note FROM links"),
    view("v_except_all", "SELECT a FROM links EXCEPT ALL SELECT b FROM links"),
    view(
        "v_over_top",
        "SELECT grp, total, rank() OVER (ORDER BY total DESC) AS r FROM (SELECT grp, sum(amount) AS total FROM items GROUP BY grp ORDER BY sum(amount) DESC NULLS LAST, grp LIMIT 4) AS x",
    ),
    view("v_series", "SELECT id, g FROM items, generate_series(1, grp) AS g"),
    view(
        "v_letters",
        "SELECT letter, count(*) AS n FROM items, regexp_split_to_table(name, '') AS letter GROUP BY letter",
    ),
    view(
        "v_unnest",
        "SELECT id, x, n FROM items LEFT JOIN LATERAL unnest(string_to_array(name, 'a')) WITH ORDINALITY AS u(x, n) ON true",
    ),
    view("v_unnest_list", "SELECT grp, unnest(string_to_array(name, 'a')) AS part FROM items"),
    view(
        "v_json",
        "SELECT id, j ->> 'n' AS n, (j ->> 'g')::int + 1 AS g, j - 'n' AS rest FROM (SELECT id, jsonb_build_object('n', name, 'g', grp) AS j FROM items) AS x",
    ),
    view(
        "v_functions",
        "SELECT id, initcap(name) AS cap, lpad(name, 4, '*') AS pad, mod(amount, 7) AS m, extract(hour from ts) AS h, date_trunc('hour', ts) AS t, to_char(ts, 'YYYY-MM-DD HH24:MI') AS shown, round(price, 1) AS r FROM items",
    ),
];
