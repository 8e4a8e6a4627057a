-- psql's own commands: \copy, \gdesc, \gset, \gexec, \watch, \timing, \crosstabview, \if, variables, formats.
CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(6,2));
\copy t FROM STDIN CSV
1,one,1.5
2,"two, or so",
3,three,-3.25
\.
SELECT * FROM t ORDER BY a;
\copy (SELECT a, b FROM t ORDER BY a) TO STDOUT CSV HEADER
COPY t FROM stdin;
4	four	\N
\.
COPY (SELECT * FROM t ORDER BY a) TO STDOUT;
SELECT a, b, c, now() AS at, ARRAY[a] AS list, count(*) OVER () FROM t \gdesc
INSERT INTO t VALUES (1, 'again') ON CONFLICT DO NOTHING \gdesc
SELECT count(*) AS n, max(b) AS last FROM t \gset
\echo :n :'last' :"last"
SELECT :n + 1 AS next;
SELECT format('SELECT %s AS %I', a, b) FROM t ORDER BY a LIMIT 2 \gexec
CREATE TABLE ticks (n bigint);
INSERT INTO ticks SELECT count(*) FROM ticks RETURNING 12 / (2 - n) AS left
\watch 0.01
\timing on
SELECT 1 AS one;
\timing off
SELECT a, b, c FROM t ORDER BY a LIMIT 1 \gx
\pset format unaligned
SELECT a, b FROM t ORDER BY a \g
\pset format csv
SELECT a, c FROM t ORDER BY a;
\pset format aligned
\pset null '(null)'
SELECT a, c FROM t WHERE c IS NULL ORDER BY a;
SELECT a, b, c FROM t WHERE a < 3 ORDER BY a \crosstabview
SELECT :n > 3 AS many \gset
\if :many
  \echo there are rows
\else
  \echo there are none
\endif
\set AUTOCOMMIT off
INSERT INTO t VALUES (9, 'nine');
ROLLBACK;
\set AUTOCOMMIT on
SELECT count(*) FROM t;
\set FETCH_COUNT 2
SELECT a FROM t ORDER BY a;
\unset FETCH_COUNT
SELECT 1 AS a \; SELECT 2 AS b;
\encoding
\echo :ROW_COUNT :SQLSTATE
