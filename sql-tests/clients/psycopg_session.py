"""What a program with psycopg 3 does: types both ways, prepared statements, pipelines, server cursors, COPY, errors."""

import datetime
import decimal
import sys
import uuid

import psycopg
from psycopg import sql

url = sys.argv[1]
with psycopg.connect(url) as conn:
    assert conn.info.server_version >= 150000, conn.info.server_version
    cur = conn.cursor()
    cur.execute("CREATE TABLE p (id int PRIMARY KEY, b bool, n numeric(10,2), t text, raw bytea, d date, ts timestamp, tz timestamptz, u uuid, f float8, a int[])")
    conn.commit()
    row = (
        1, True, decimal.Decimal("12.50"), "naïve 'quoted' \\ text", b"\x00\xff\x10", datetime.date(2013, 1, 31),
        datetime.datetime(2013, 1, 31, 12, 34, 56, 789000), datetime.datetime(2013, 1, 31, 12, 0, tzinfo=datetime.timezone.utc),
        uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), -2.25, [1, None, 3],
    )
    insert = "INSERT INTO p VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
    cur.execute(insert, row)
    cur.execute(insert, (2,) + (None,) * 10)
    conn.commit()
    for binary in (False, True):
        got = conn.cursor(binary=binary).execute("SELECT * FROM p WHERE id = 1").fetchone()
        assert got == row, (binary, got)
        assert conn.cursor(binary=binary).execute("SELECT * FROM p WHERE id = %s", (2,)).fetchone() == (2,) + (None,) * 10
    # From the sixth run on the statement is a prepared one.
    for n in range(3, 20):
        cur.execute("INSERT INTO p (id, t) VALUES (%s, %s)", (n, str(n)), prepare=True)
    cur.executemany("INSERT INTO p (id, t) VALUES (%s, %s)", [(n, str(n)) for n in range(20, 30)])
    conn.commit()
    assert cur.execute("SELECT count(*) FROM p WHERE id = ANY(%s)", ([3, 4, 5, 999],)).fetchone() == (3,)
    # A failed statement fails the transaction; a savepoint saves it.
    with conn.transaction():
        cur.execute("INSERT INTO p (id) VALUES (100)")
        try:
            with conn.transaction():
                cur.execute("INSERT INTO p (id) VALUES (1)")
        except psycopg.errors.UniqueViolation:
            pass
        else:
            raise AssertionError("a duplicate key was taken")
    assert cur.execute("SELECT count(*) FROM p WHERE id = 100").fetchone() == (1,)
    conn.commit()
    try:
        cur.execute("SELECT * FROM nowhere")
    except psycopg.errors.UndefinedTable as error:
        assert error.diag.sqlstate == "42P01"
        conn.rollback()
    # Server cursor.
    with conn.cursor(name="srv") as server_cursor:
        server_cursor.itersize = 7
        server_cursor.execute("SELECT id FROM p ORDER BY id")
        assert [r[0] for r in server_cursor] == list(range(1, 30)) + [100]
    conn.commit()
    # Pipeline.
    with conn.pipeline():
        first = conn.execute("SELECT 1")
        second = conn.execute("SELECT %s::text", ("two",))
        assert first.fetchone() == (1,) and second.fetchone() == ("two",)
    conn.commit()
    # What goes up to one Sync is one transaction.
    conn.autocommit = True
    try:
        with conn.pipeline():
            conn.execute("INSERT INTO p (id) VALUES (200)")
            conn.execute("INSERT INTO p (id) VALUES (1)")
    except psycopg.errors.UniqueViolation:
        pass
    else:
        raise AssertionError("a duplicate key was taken")
    with conn.pipeline():
        conn.execute("INSERT INTO p (id) VALUES (201)")
        conn.execute("INSERT INTO p (id) VALUES (202)")
    assert cur.execute("SELECT id FROM p WHERE id >= 200 ORDER BY id").fetchall() == [(201,), (202,)]
    conn.autocommit = False
    # COPY in and out.
    cur.execute("CREATE TABLE c (a int, b text)")
    with cur.copy("COPY c FROM STDIN") as copy:
        for n in range(1000):
            copy.write_row((n, None if n % 10 == 0 else f"tab\there {n}"))
    conn.commit()
    assert cur.execute("SELECT count(*), count(b) FROM c").fetchone() == (1000, 900)
    with cur.copy("COPY (SELECT a, b FROM c ORDER BY a LIMIT 2) TO STDOUT") as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(0, None), (1, "tab\there 1")]
    cur.execute(sql.SQL("CREATE MATERIALIZED VIEW {} AS SELECT count(*) AS n FROM c").format(sql.Identifier("Of C")))
    conn.commit()
    assert cur.execute('SELECT n FROM "Of C"').fetchone() == (1000,)
print("ok")
