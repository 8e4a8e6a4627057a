"""Makes the schema `raw` of the flights project and fills it with a month of real flights.

    python load.py "host=127.0.0.1 port=4566 user=root dbname=dev" directory
"""

import gzip
import sys
from pathlib import Path

import psycopg2

TABLES = {
    "flights": """year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT,
        arr_delay INT, carrier TEXT, flight INT, tailnum TEXT, origin TEXT, dest TEXT, air_time INT, distance INT, hour INT, minute INT,
        time_hour TIMESTAMPTZ, sched_dep TIMESTAMPTZ""",
    "weather": """origin TEXT, year INT, month INT, day INT, hour INT, temp FLOAT8, dewp FLOAT8, humid FLOAT8, wind_dir FLOAT8,
        wind_speed FLOAT8, wind_gust FLOAT8, precip FLOAT8, pressure FLOAT8, visib FLOAT8, time_hour TIMESTAMPTZ""",
    "planes": """tailnum TEXT PRIMARY KEY, year INT, type TEXT, manufacturer TEXT, model TEXT, engines INT, seats INT, speed INT,
        engine TEXT""",
    "airports": "faa TEXT PRIMARY KEY, name TEXT, lat FLOAT8, lon FLOAT8, alt INT, tz INT, dst TEXT, tzone TEXT",
}


def load(connection, directory):
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for table, columns in TABLES.items():
            cursor.execute(f"CREATE TABLE raw.{table} ({columns})")
            (path,) = Path(directory).glob(f"{table}*.csv.gz")
            with gzip.open(path, "rt") as file:
                cursor.copy_expert(f"COPY raw.{table} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')", file)


if __name__ == "__main__":
    load(psycopg2.connect(sys.argv[1]), sys.argv[2])
