-- Errors that PostgreSQL words otherwise, or knows nothing of.
CREATE TABLE t (a int PRIMARY KEY, b text);
SELECT * FROM t WHERE a = 'x';
SELECT nothing(a) FROM t;
SELECT bb FROM t;
CREATE MATERIALIZED VIEW m AS SELECT random() AS r FROM t;
CLUSTER t;
CREATE SOURCE s (a int) WITH (connector = 'nothing');
VACUUM;
SELECT * FROM hw_catalog.nothing;
LISTEN news;
