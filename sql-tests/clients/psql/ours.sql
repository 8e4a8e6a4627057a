-- What Postgres does not have: sources, sinks, maintained views and their late rows, and hw_catalog.
CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '1000');
CREATE TABLE click (at timestamptz, page text, WATERMARK FOR at AS at - INTERVAL '5 seconds') APPEND ONLY;
CREATE TABLE t (a int PRIMARY KEY, b text) WITH (retention = '1 hour');
CREATE MATERIALIZED VIEW counted AS SELECT b, count(*) AS n FROM t GROUP BY b;
CREATE INDEX counted_n ON counted (n);
CREATE MATERIALIZED VIEW pages WITH (allowed_lateness = '1 minute', late_rows = 'keep') AS
  SELECT window_start, page, count(*) AS n FROM TUMBLE(click, at, INTERVAL '1 minute') GROUP BY window_start, window_end, page
  EMIT ON WINDOW CLOSE;
CREATE SINK gone FROM counted WITH (connector = 'blackhole');
COMMENT ON SOURCE bid IS 'from outside';
COMMENT ON COLUMN bid.price IS 'in dollars';
COMMENT ON MATERIALIZED VIEW counted IS 'by name';
COMMENT ON SINK gone IS 'to nowhere';
\d
\dm
\dE
\d bid
\d+ bid
\d click
\d t
\d counted
\d+ counted
\d+ pages
\d pages_late
\d gone
\sv counted
\dv hw_catalog.*
\d hw_catalog.source_errors
\d+ hw_catalog.late_rows
\dn
\dn+ hw_catalog
\des+
\det+
\l
\dx
COMMENT ON EXTENSION nothing IS 'nothing';
