"""A dbt project of ten models on a month of flights, built with dbt-postgres and with dbt-highwater.

    python flights_dbt.py postgres|highwater port project data scratch

Prints ok at the end. `project` is copied to `scratch`, where models are changed. (dbt imports every module
whose name begins with dbt_, so this one has another.)
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psycopg2
from dbt.cli.main import dbtRunner

TARGET, PORT, PROJECT, DATA, SCRATCH = sys.argv[1:6]
SCHEMA = {"postgres": "flights_pg", "highwater": "flights"}[TARGET]
MAINTAINED = ["departures_by_hour", "carrier_delays", "routes", "delays_by_sight"]
VIEWS = ["stg_flights", "stg_weather", "stg_planes", "stg_airports", "worst_routes"]
FLIGHTS = 27004

project = Path(SCRATCH) / TARGET


def connect():
    connection = psycopg2.connect(host="127.0.0.1", port=PORT, user="root", dbname="dev")
    connection.autocommit = True
    return connection


def ask(sql, connection=None):
    connection = connection or SESSION
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


def dbt(*arguments, succeeds=True):
    """What dbt says of each node, by name."""
    flags = ["--project-dir", str(project), "--profiles-dir", str(project), "--target", TARGET]
    flags += ["--vars", json.dumps({"data_dir": DATA}), "--quiet", "--no-use-colors", "--no-send-anonymous-usage-stats"]
    outcome = dbtRunner().invoke([*arguments, *flags])
    results = getattr(outcome.result, "results", None) or []
    said = {result.node.name: f"{result.status}: {result.message}" for result in results if hasattr(result, "node")}
    if outcome.success != succeeds:
        raise AssertionError(f"dbt {arguments}: success is {outcome.success}\n{said}\n{outcome.exception}")
    return said


def change(path, old, new):
    file = project / path
    text = file.read_text()
    assert old in text, f"{old!r} is not in {path}"
    file.write_text(text.replace(old, new))


def relations():
    """Name and kind of all in the project's schema."""
    return dict(ask(f"""SELECT c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = '{SCHEMA}' AND c.relkind IN ('r', 'v', 'm', 'f')"""))


def check_relations():
    expected = {"airlines": "r", "builds": "r", "fleet": "r"}
    expected |= {name: "m" for name in MAINTAINED} | {name: "v" for name in VIEWS}
    if TARGET == "highwater":
        expected["airports"] = "f"
    assert relations() == expected, relations()


def check_rows():
    """Every model against a query over what it reads."""
    flights, late, schema = "raw.flights", "CASE WHEN arr_delay >= 15 THEN 1 ELSE 0 END", SCHEMA
    for mine, theirs in [
        (f"SELECT sum(scheduled), sum(cancelled) FROM {schema}.departures_by_hour",
         f"SELECT count(*), count(*) FILTER (WHERE dep_time IS NULL) FROM {flights}"),
        (f"SELECT carrier, airline, flights, late FROM {schema}.carrier_delays ORDER BY 1",
         f"SELECT f.carrier, a.name, count(*), sum({late}) FROM {flights} f JOIN {schema}.airlines a ON a.carrier = f.carrier "
         "WHERE arr_delay IS NOT NULL GROUP BY 1, 2 ORDER BY 1"),
        (f"SELECT origin, dest, flights FROM {schema}.routes ORDER BY 1, 2",
         f"SELECT origin, dest, count(*) FROM {flights} GROUP BY 1, 2 ORDER BY 1, 2"),
        (f"SELECT sum(flights) FROM {schema}.delays_by_sight",
         f"SELECT count(*) FROM {flights} f JOIN raw.weather w ON w.origin = f.origin AND w.time_hour = f.time_hour"),
        (f"SELECT manufacturer, planes, seats FROM {schema}.fleet ORDER BY 1",
         "SELECT manufacturer, count(*), sum(seats) FROM raw.planes WHERE manufacturer IS NOT NULL GROUP BY 1 ORDER BY 1"),
        (f"SELECT count(*) FROM {schema}.worst_routes", "SELECT 10"),
    ]:
        found, expected = ask(mine), ask(theirs)
        assert found == expected and found[0][0] is not None, f"{mine}\n{found[:5]}\n{expected[:5]}"


class Reader:
    """Asks all relations again and again; none may ever be away or empty.

    But the plain view over a source: a source keeps no rows, and is read as far as its views have read it.
    """

    def __init__(self):
        self.names = [*MAINTAINED, *VIEWS, "fleet", "airlines"]
        self.polls, self.complaints, self.stop = 0, [], False
        self.thread = threading.Thread(target=self.poll)

    def poll(self):
        connection = connect()
        while not self.stop:
            for name in self.names:
                try:
                    if ask(f"SELECT count(*) FROM {SCHEMA}.{name}", connection)[0][0] == 0 and name != "stg_airports":
                        self.complaints.append(f"{name} is empty")
                except psycopg2.Error as error:
                    self.complaints.append(f"{name}: {error}")
            self.polls += 1
        connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop = True
        self.thread.join()
        if error[0] is None:
            assert not self.complaints, self.complaints[:5]
            assert self.polls >= 2, f"the reader came {self.polls} times only"


def arrivals():
    """Rows come, change and go; the views show it at once."""
    ask("INSERT INTO raw.flights (carrier, origin, dest, dep_delay, arr_delay, dep_time, sched_dep, time_hour) "
        "VALUES ('AA', 'JFK', 'LAX', 20, 15, 900, '2013-02-01 14:00:00Z', '2013-02-01 14:00:00Z')")
    check_rows()
    assert ask(f"SELECT scheduled FROM {SCHEMA}.departures_by_hour WHERE window_start = '2013-02-01 14:00:00Z'") == [(1,)]
    ask("UPDATE raw.flights SET arr_delay = 14 WHERE time_hour = '2013-02-01 14:00:00Z'")
    check_rows()
    ask("DELETE FROM raw.flights WHERE time_hour = '2013-02-01 14:00:00Z'")
    check_rows()


def docs():
    dbt("docs", "generate")
    catalog = json.loads((project / "target/catalog.json").read_text())
    nodes = {node["metadata"]["name"]: node for node in (catalog["nodes"] | catalog["sources"]).values()}
    for name in [*MAINTAINED, *VIEWS, "fleet", "airlines", "flights"]:
        assert name in nodes, (name, sorted(nodes))
    assert nodes["routes"]["metadata"]["type"] == "MATERIALIZED VIEW"
    assert nodes["worst_routes"]["metadata"]["type"] == "VIEW"
    columns = {column["name"]: column["type"] for column in nodes["carrier_delays"]["columns"].values()}
    assert columns == {"carrier": "text", "airline": "text", "flights": "bigint", "late": "bigint", "mean_delay_min": "numeric"}, columns


def with_postgres():
    # Unit tests of dbt-postgres need temporary tables.
    build = ["build", "--exclude-resource-type", "unit_test"]
    dbt(*build)
    check_relations()
    check_rows()
    arrivals()
    # dbt-postgres makes everything anew, and drops what hung on the old.
    for again in [build, [*build, "--full-refresh"]]:
        dbt(*again)
        check_relations()
        check_rows()
    assert ask(f"SELECT model, count(*) FROM {SCHEMA}.builds GROUP BY model") == [("fleet", 3)]
    assert len(ask(f"SELECT 1 FROM pg_indexes WHERE schemaname = '{SCHEMA}'")) == 3
    # A test that fails says so.
    ask("INSERT INTO raw.flights (flight) VALUES (0)")
    said = dbt("test", "--exclude-resource-type", "unit_test", succeeds=False)
    # A flight without a time is in no window either.
    failed = {name for name, what in said.items() if what.startswith("fail: Got 1 result")}
    assert failed == {"source_not_null_raw_flights_origin", "no_flight_is_lost"}, said
    ask("DELETE FROM raw.flights WHERE flight = 0")
    docs()


SESSION = connect()


def main():
    shutil.copytree(PROJECT, project)
    sys.path.insert(0, str(project))
    os.environ["HIGHWATER_PORT"] = PORT
    started = time.monotonic()
    if not ask("SELECT 1 FROM pg_namespace WHERE nspname = 'raw'"):
        from load import load

        load(connect(), DATA)
    assert ask("SELECT count(*) FROM raw.flights") == [(FLIGHTS,)]
    {"postgres": with_postgres, "highwater": with_highwater}[TARGET]()
    print(f"ok, {time.monotonic() - started:.0f} s")


def with_highwater():
    dbt("build")
    check_relations()
    check_rows()
    arrivals()
    docs()
    definitions()
    unchanged()
    same_columns()
    other_columns()
    policies()
    kinds()
    refusals()
    dbt("test")


def definitions():
    """What is one definition to the adapter, and what is another."""
    from dbt.adapters.highwater.definition import canonical, same_option, source_body

    for one, other, same in [
        ("select a\n  from t -- why", " select a from t;", True),
        ("select /* a; b */ a from t", "select a from t", True),
        ("select '--  x' from t", "select '-- x' from t", False),
        ("select 'it''s  /* */'", "select 'it''s /* */'", False),
        ('select "a  b" from t', 'select "a b" from t', False),
        ("select $$ a  $$", "select $$ a $$", False),
        ("select A from t", "select a from t", False),
        ("select n from v emit on window close", "select n from v EMIT ON WINDOW CLOSE;", True),
    ]:
        assert (canonical(one) == canonical(other)) == same, (one, other)
    assert source_body('create source "dev"."s"."a  b" (x int)\nwith (a = \'b\')') == "(x int) with (a = 'b')"
    assert same_option("3600 seconds", "1 hour") and not same_option("3600 seconds", "61 minutes")
    assert same_option("keep", "keep") and not same_option("keep", "drop")


def unchanged():
    said = dbt("build")
    for name in [*MAINTAINED, *VIEWS, "airports"]:
        assert said[name] == "success: unchanged", (name, said[name])
    # A comment is no change.
    change("models/marts/routes.sql", "from", "-- how often, how late\nfrom")
    assert dbt("run", "--select", "routes")["routes"] == "success: unchanged"


def same_columns():
    """OR REPLACE: readers and those above go on."""
    before = ask(f"SELECT sum(late) FROM {SCHEMA}.carrier_delays")[0][0]
    indexes = ask(f"SELECT indexname FROM pg_indexes WHERE tablename = 'carrier_delays' AND schemaname = '{SCHEMA}'")
    change("macros/is_late.sql", ">= 15", ">= 30")
    with Reader():
        said = dbt("run")
    assert said["carrier_delays"] == "success: replaced", said
    assert said["routes"] == "success: unchanged", said
    after = ask(f"SELECT sum(late) FROM {SCHEMA}.carrier_delays")[0][0]
    assert 0 < after < before, (before, after)
    assert after == ask("SELECT count(*) FROM raw.flights WHERE arr_delay >= 30")[0][0]
    assert indexes == ask(f"SELECT indexname FROM pg_indexes WHERE tablename = 'carrier_delays' AND schemaname = '{SCHEMA}'")
    change("macros/is_late.sql", ">= 30", ">= 15")
    dbt("run", "--select", "carrier_delays")
    check_rows()


def other_columns():
    """Columns change under readers: the old ones step aside, and go when nothing reads them."""
    # A view under all materialized views, a materialized view under a view, a table, a source.
    change("models/staging/stg_flights.sql", "distance,", "distance, distance * 1.609344 as distance_km,")
    change("models/marts/routes.sql", "count(*) as flights,", "count(*) as flights, min(f.distance_km) as distance_km,")
    change("models/marts/fleet.sql", "count(*)::int as planes,", "count(*)::int as planes, min(built) as oldest,")
    change("models/marts/marts.yml", "{name: planes, data_type: int}", "{name: planes, data_type: int}\n      - {name: oldest, data_type: int}")
    change("models/sources/airports.sql", "null_string = 'NA'", "null_string = 'NA', delimiter = ','")
    with Reader():
        # One of them alone first: what reads it reads what it was, and is not away.
        dbt("run", "--select", "stg_flights")
        assert any("__dbt_old" in name for name in relations()), relations()
        check_rows()
        said = dbt("build")
    check_relations()
    check_rows()
    assert "unchanged" not in said["routes"], said
    assert ask(f"SELECT distance_km::text FROM {SCHEMA}.routes WHERE origin = 'EWR' AND dest = 'IAH'") == [("2253.081600",)]
    assert ask(f"SELECT count(*) FROM {SCHEMA}.fleet WHERE oldest IS NOT NULL")[0][0] > 10
    arrivals()
    assert len(ask(f"SELECT 1 FROM pg_indexes WHERE schemaname = '{SCHEMA}'")) == 3


def policies():
    """on_configuration_change, indexes, options."""
    head = "{{ config(with_options={'retention': '1 hour'}, indexes=[{'columns': ['dest']}], on_configuration_change='%s') }}\n"
    file = project / "models/marts/routes.sql"
    body = file.read_text()
    file.write_text(head % "fail" + body)
    said = dbt("run", "--select", "routes", succeeds=False)
    assert "differs from its model (options, indexes)" in said["routes"], said
    file.write_text(head % "continue" + body)
    assert dbt("run", "--select", "routes")["routes"] == "success: changes are left out"
    file.write_text(head % "apply" + body)
    assert dbt("run", "--select", "routes")["routes"] == "success: replaced"
    assert len(ask(f"SELECT 1 FROM pg_indexes WHERE tablename = 'routes' AND schemaname = '{SCHEMA}'")) == 1
    assert dbt("run", "--select", "routes")["routes"] == "success: unchanged"
    file.write_text(head.replace("['dest']", "['origin', 'dest']") % "apply" + body)
    assert dbt("run", "--select", "routes")["routes"] == "success: changed indexes"
    assert dbt("run", "--select", "routes", "--full-refresh")["routes"] == "success: replaced"
    check_rows()


def kinds():
    """A model becomes a relation of another kind, and what reads it is there all the time."""
    file = project / "models/marts/routes.sql"
    body = file.read_text()
    for kind, letter in [("table", "r"), ("view", "v"), ("materialized_view", "m")]:
        file.write_text("{{ config(materialized='%s') }}\n" % kind + body.split("\n", 1)[1])
        said = dbt("run", "--select", "routes+")
        assert said["worst_routes"] != "success: unchanged", said
        assert relations()["routes"] == letter
        check_relations() if kind == "materialized_view" else None
        check_rows()
    # A table with the same columns keeps its place: its readers follow.
    ask("INSERT INTO raw.planes (tailnum, manufacturer, seats) VALUES ('N0', 'ANOTHER', 5)")
    ask(f"CREATE MATERIALIZED VIEW {SCHEMA}.over_fleet AS SELECT sum(planes) AS planes FROM {SCHEMA}.fleet")
    before = ask(f"SELECT planes FROM {SCHEMA}.over_fleet")[0][0]
    with Reader():
        dbt("run", "--select", "fleet")
    assert ask(f"SELECT planes FROM {SCHEMA}.over_fleet")[0][0] == before + 1
    ask("DELETE FROM raw.planes WHERE tailnum = 'N0'")
    ask(f"DROP MATERIALIZED VIEW {SCHEMA}.over_fleet")
    dbt("run", "--select", "fleet")
    check_relations()
    check_rows()


def refusals():
    for materialized, reason in [("incremental", "is incremental already"), ("sink", "has no sinks yet")]:
        file = project / f"models/{materialized}_model.sql"
        file.write_text(f"{{{{ config(materialized='{materialized}') }}}}\nselect 1 as a")
        said = dbt("run", "--select", file.stem, succeeds=False)
        assert reason in said[file.stem], said
        file.unlink()
    file = project / "snapshots"
    file.mkdir()
    (file / "past.sql").write_text("{% snapshot past %}{{ config(unique_key='manufacturer', strategy='check', check_cols='all') }}"
                                   "select * from {{ ref('fleet') }}{% endsnapshot %}")
    assert "knows its own past" in dbt("snapshot", succeeds=False)["past"]
    shutil.rmtree(file)
    # A contract that the query does not keep; a view that cannot be maintained.
    (project / "models/broken.yml").write_text(
        "models: [{name: broken, config: {contract: {enforced: true}}, columns: [{name: a, data_type: text}]}]")
    (project / "models/broken.sql").write_text("{{ config(materialized='materialized_view') }}\nselect 1 as a")
    assert "contract" in dbt("run", "--select", "broken", succeeds=False)["broken"]
    (project / "models/broken.yml").unlink()
    (project / "models/broken.sql").write_text("{{ config(materialized='materialized_view') }}\nselect random() as a")
    assert "HINT" in dbt("run", "--select", "broken", succeeds=False)["broken"]
    (project / "models/broken.sql").unlink()
    assert "broken" not in relations()


if __name__ == "__main__":
    main()
