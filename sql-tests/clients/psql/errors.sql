-- Where an error is, and what it is: the caret, SQLSTATE, DETAIL, HINT. PostgreSQL says the same.
\set VERBOSITY default
CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL);
SELECT nothing FROM t;
SELECT a
FROM t
WHERE nothing = 1;
SELECT * FROM nowhere;
SELEC 1;
SELECT 1 +;
SELECT a FROM t GROUP BY b;
INSERT INTO t VALUES (1, NULL);
INSERT INTO t VALUES (1, 'one'), (1, 'two');
INSERT INTO t (a, nothing) VALUES (1, 2);
SELECT 1 / 0;
SELECT 'x'::int;
SELECT 99999999999::int;
SELECT '2024-02-30'::date;
DROP TABLE nowhere;
DROP TABLE IF EXISTS nowhere;
CREATE TABLE t (a int);
CREATE VIEW v AS SELECT a FROM t;
DROP TABLE t;
SELECT 'unfinished;
';
SELECT * FROM t t1 JOIN t t2 ON a = 1;
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
SELECT nothing FROM t;
SELECT * FROM nowhere;
\set VERBOSITY terse
SELECT nothing FROM t;
\echo :SQLSTATE :LAST_ERROR_SQLSTATE
