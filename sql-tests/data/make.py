#!/usr/bin/env python3
"""Makes the month of flights that the demo and the tests replay, from the full nycflights13 tables.

    python3 make.py DIRECTORY_WITH_THE_FULL_TABLES

The full tables are the CSV files (gzipped) of the R package nycflights13; see README.md for where they come from.
What is done to them, and nothing else:
- flights: January 2013 only; `sched_dep` is added (the scheduled departure as an instant: `time_hour` plus `minute`);
  rows stand in the order in which planes really left (`sched_dep` plus `dep_delay`), a cancelled flight at the instant
  it should have left. So event time (`sched_dep`) is out of order exactly as it was.
- weather: January 2013 only, in order of time.
- airlines, airports, planes: as they are.
gzip is given no name and no time, so that the same input makes the same bytes.
"""

import csv
import datetime
import gzip
import io
import pathlib
import sys

MONTH = "1"


def read(path):
    with gzip.open(path, "rt", newline="") as file:
        rows = csv.reader(file)
        return next(rows), list(rows)


def write(path, header, rows):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    data = text.getvalue().encode()
    if path.suffix == ".gz":
        with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
            file.write(data)
    else:
        path.write_bytes(data)
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size} bytes")


def flights(full, here):
    header, rows = read(full / "flights.csv.gz")
    at = {name: index for index, name in enumerate(header)}
    departures = []
    for number, row in enumerate(rows):
        if row[at["month"]] != MONTH:
            continue
        hour = datetime.datetime.fromisoformat(row[at["time_hour"]].replace("Z", "+00:00"))
        scheduled = hour + datetime.timedelta(minutes=int(row[at["minute"]]))
        delay = row[at["dep_delay"]]
        left = scheduled + datetime.timedelta(minutes=0 if delay == "NA" else int(delay))
        departures.append((left, number, row + [scheduled.strftime("%Y-%m-%dT%H:%M:%SZ")]))
    departures.sort(key=lambda departure: departure[:2])
    write(here / "flights-2013-01.csv.gz", header + ["sched_dep"], [row for _, _, row in departures])


def weather(full, here):
    header, rows = read(full / "weather.csv.gz")
    month, time = header.index("month"), header.index("time_hour")
    kept = sorted((row for row in rows if row[month] == MONTH), key=lambda row: (row[time], row[0]))
    write(here / "weather-2013-01.csv.gz", header, kept)


def main():
    full, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
    flights(full, here)
    weather(full, here)
    write(here / "airlines.csv", *read(full / "airlines.csv.gz"))
    write(here / "airports.csv.gz", *read(full / "airports.csv.gz"))
    write(here / "planes.csv.gz", *read(full / "planes.csv.gz"))


if __name__ == "__main__":
    main()
