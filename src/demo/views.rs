//! The SQL of the demo: what a person would type into psql.

use std::path::Path;

use tokio_postgres::Client;

use super::watch::client_error;
use crate::error::Result;

/// Dependents first, so that a directory of an earlier run starts afresh.
const DROP: &str = "
DROP SOURCE IF EXISTS flights CASCADE;
DROP SOURCE IF EXISTS weather CASCADE;
DROP SOURCE IF EXISTS airlines CASCADE;
DROP SOURCE IF EXISTS airports CASCADE;
DROP SOURCE IF EXISTS planes CASCADE;
DROP SOURCE IF EXISTS planes_as_they_are CASCADE;
DROP TABLE IF EXISTS heartbeats CASCADE;
";

/// `NA` is a value that is not known: `null_string` makes it NULL. `planes_as_they_are` reads the same file without it, so
/// there a plane without a known speed is a bad record: counted, kept in hw_catalog.source_errors, passed over.
const SOURCES: &str = "
CREATE SOURCE flights (
    year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT,
    arr_delay INT, carrier VARCHAR, flight INT, tailnum VARCHAR, origin VARCHAR, dest VARCHAR, air_time INT, distance INT,
    hour INT, minute INT, time_hour TIMESTAMPTZ, sched_dep TIMESTAMPTZ,
    WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1 hour'
) WITH (connector = 'files', path = '{dir}/flights-2013-01.csv.gz'{replay})
FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA');

CREATE SOURCE weather (
    origin VARCHAR, year INT, month INT, day INT, hour INT, temp FLOAT8, dewp FLOAT8, humid FLOAT8, wind_dir FLOAT8,
    wind_speed FLOAT8, wind_gust FLOAT8, precip FLOAT8, pressure FLOAT8, visib FLOAT8, time_hour TIMESTAMPTZ
) WITH (connector = 'files', path = '{dir}/weather-2013-01.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA');

CREATE SOURCE airlines (carrier VARCHAR, name VARCHAR) WITH (connector = 'files', path = '{dir}/airlines.csv')
FORMAT PLAIN ENCODE CSV (header = true);

CREATE SOURCE airports (
    faa VARCHAR, name VARCHAR, lat FLOAT8, lon FLOAT8, alt INT, tz INT, dst VARCHAR, tzone VARCHAR
) WITH (connector = 'files', path = '{dir}/airports.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA');

CREATE SOURCE planes (
    tailnum VARCHAR, year INT, type VARCHAR, manufacturer VARCHAR, model VARCHAR, engines INT, seats INT, speed INT, engine VARCHAR
) WITH (connector = 'files', path = '{dir}/planes.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA');

CREATE SOURCE planes_as_they_are (
    tailnum VARCHAR, year INT, type VARCHAR, manufacturer VARCHAR, model VARCHAR, engines INT, seats INT, speed INT, engine VARCHAR
) WITH (connector = 'files', path = '{dir}/planes.csv.gz')
FORMAT PLAIN ENCODE CSV (header = true);
";

const VIEWS: &str = "
CREATE MATERIALIZED VIEW departures AS
SELECT window_start, origin, count(*) AS scheduled, count(dep_time) AS departed, avg(dep_delay) AS mean_delay_min,
    max(dep_delay) AS delay_min_max
FROM TUMBLE(flights, sched_dep, INTERVAL '1 hour')
GROUP BY window_start, origin;

CREATE MATERIALIZED VIEW routes AS
SELECT origin, dest, count(*) AS flights, avg(arr_delay) AS mean_delay_min
FROM flights WHERE arr_delay IS NOT NULL
GROUP BY origin, dest;

CREATE VIEW worst_routes AS
SELECT r.origin, r.dest, r.flights, r.mean_delay_min FROM routes r
WHERE r.flights >= 20 ORDER BY r.mean_delay_min DESC, r.dest LIMIT 10;

CREATE MATERIALIZED VIEW enriched AS
SELECT f.sched_dep, f.origin, f.dest, f.flight, f.dep_delay, a.name AS airline, p.manufacturer, p.model, p.seats
FROM flights f JOIN airlines a ON f.carrier = a.carrier JOIN planes p ON f.tailnum = p.tailnum;

CREATE MATERIALIZED VIEW by_airline AS
SELECT airline, count(*) AS flights, sum(seats) AS seats, avg(dep_delay) AS mean_delay_min
FROM enriched GROUP BY airline;

CREATE MATERIALIZED VIEW by_sight AS
SELECT origin, sight, count(*) AS flights, avg(dep_delay) AS mean_delay_min
FROM (
    SELECT f.origin, f.dep_delay, CASE WHEN w.visib < 2 THEN 'fog' WHEN w.visib < 8 THEN 'haze' ELSE 'clear' END AS sight
    FROM flights f JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour
) AS seen
GROUP BY origin, sight;

CREATE MATERIALIZED VIEW cancelled AS
SELECT origin, count(*) AS flights FROM flights WHERE dep_time IS NULL GROUP BY origin;

CREATE MATERIALIZED VIEW speeds AS
SELECT type, count(*) AS planes, max(speed) AS speed_mph_max FROM planes_as_they_are GROUP BY type;

CREATE TABLE heartbeats (id INT PRIMARY KEY, n BIGINT);
INSERT INTO heartbeats VALUES (1, 0);
CREATE MATERIALIZED VIEW last_heartbeat AS SELECT max(n) AS n FROM heartbeats;
";

/// Makes sources and views. `speed` 0: the flights come as fast as they are taken.
pub async fn create(client: &Client, directory: &Path, speed: f64) -> Result<()> {
    let replay = match speed {
        0.0 => String::new(),
        speed => format!(", replay.time_column = 'sched_dep', replay.speed = '{speed}'"),
    };
    let directory = directory.display().to_string().replace('\'', "''");
    let sources = SOURCES.replace("{dir}", &directory).replace("{replay}", &replay);
    for statements in [DROP, &sources, VIEWS] {
        for statement in statements.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
            client.batch_execute(statement).await.map_err(client_error)?;
        }
    }
    Ok(())
}
