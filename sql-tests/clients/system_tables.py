"""Makes src/catalog/system/pg_proc.txt, pg_operator.txt and pg_cast.txt: Postgres' functions, operators and casts that a
running Highwater takes. Each is called with NULLs; what is refused by name or type is left out.

    python3 system_tables.py "host=127.0.0.1 port=5432 …" "host=127.0.0.1 port=4566 user=root dbname=dev" DIRECTORY

The first address is that of a PostgreSQL 15. psycopg 3 is needed.
"""

import pathlib
import sys

from psycopg import pq

# What stands for a pseudo-type in a call.
STAND_INS = {"2276": "int", "2277": "int[]", "2283": "int", "2776": "int", "5077": "int", "5078": "int[]", "5079": "int"}
VOID, RECORD = "2278", "2249"
# There, and better not called: they wait, or end something.
NOT_CALLED = {"pg_terminate_backend", "pg_reload_conf", "pg_sleep", "pg_sleep_for", "pg_sleep_until", "pg_advisory_lock"}
# Undefined function, unsupported, syntax, undefined object, undefined table, type mismatch.
MISSING = {"42883", "0A000", "42601", "42704", "42P01", "42804", "XX000"}
OVER_AN_ORDER = {
    "percentile_cont": "percentile_cont(0.5) WITHIN GROUP (ORDER BY {})",
    "percentile_disc": "percentile_disc(0.5) WITHIN GROUP (ORDER BY {})",
    "mode": "mode() WITHIN GROUP (ORDER BY NULL::int)",
}
NOT_PROBED = {"rank", "dense_rank", "percent_rank", "cume_dist"}


class Server:
    def __init__(self, address):
        self.connection = pq.PGconn.connect(address.encode())
        if self.connection.status != pq.ConnStatus.OK:
            sys.exit(self.connection.error_message.decode())

    def rows(self, sql):
        """Rows of texts; the SQLSTATE in their place if it fails."""
        result = self.connection.exec_(sql.encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            return None, (result.error_field(pq.DiagnosticField.SQLSTATE) or b"XX000").decode()
        value = lambda row, column: (result.get_value(row, column) or b"").decode()
        return [[value(r, c) for c in range(result.nfields)] for r in range(result.ntuples)], None


def main(postgres, highwater, directory):
    postgres, highwater, directory = Server(postgres), Server(highwater), pathlib.Path(directory)
    known = {oid for (oid,) in highwater.rows("SELECT oid FROM pg_type")[0]}
    names = dict(postgres.rows("SELECT oid, format_type(oid, NULL) FROM pg_type")[0])

    def null(oid):
        if oid in STAND_INS:
            return f"NULL::{STAND_INS[oid]}"
        return f"NULL::{names[oid]}" if oid in known else None

    def write(name, comment, lines):
        text = "".join(f"# {line}\n" for line in comment) + "\n" + "".join(f"{line}\n" for line in lines)
        (directory / name).write_text(text)

    def described(words, description):
        return " ".join(words) + (f" -- {' '.join(description.split())}" if description else "")

    io, _ = postgres.rows(
        "SELECT typinput::oid, typoutput::oid, typreceive::oid, typsend::oid FROM pg_type WHERE oid IN (%s)" % ",".join(known)
    )
    io = {oid for row in io for oid in row}
    functions, lines = set(), []
    rows, _ = postgres.rows(
        """SELECT oid, proname, prokind, proargtypes::text, prorettype, proisstrict, provolatile, proretset,
                  provariadic <> 0, coalesce(obj_description(oid, 'pg_proc'), '')
           FROM pg_proc WHERE pronamespace = 11 ORDER BY proname, oid"""
    )
    for oid, name, kind, arguments, returns, strict, volatility, is_set, is_variadic, description in rows:
        arguments = arguments.split()
        if oid not in io:
            nulls = [null(argument) for argument in arguments]
            if None in nulls or returns not in known | set(STAND_INS) | {VOID, RECORD} or (kind == "a" and name in NOT_PROBED):
                continue
            if is_variadic == "t" and nulls:
                nulls[-1] = nulls[-1].replace("[]", "")
            call = f'"{name}"({", ".join(nulls)})'
            if kind == "a" and name in OVER_AN_ORDER:
                call = OVER_AN_ORDER[name].format(nulls[-1] if nulls else "")
            elif kind == "a" and not nulls:
                call = f"{name}(*)"
            elif kind == "w":
                call = f"{call} OVER ()"
            sql = f"SELECT * FROM pg_catalog.{call}" if is_set == "t" else f"SELECT {call}"
            if name not in NOT_CALLED and highwater.rows(sql)[1] in MISSING:
                continue
        functions.add(oid)
        flags = ("s" if strict == "t" else "") + ("r" if is_set == "t" else "") + ("v" if is_variadic == "t" else "")
        lines.append(described([oid, name, kind + volatility + flags, returns, *arguments], description))
    write(
        "pg_proc.txt",
        [
            "Postgres 15's functions that can be called here: OID, name, what it is, type of the result, types of the arguments; behind",
            "` -- ` what Postgres says of it. What it is: kind (f function, a aggregate, w window), volatility (i, s, v), then s if it is",
            "strict, r if it returns rows, v if its last argument may be repeated. Made by sql-tests/clients/system_tables.py.",
        ],
        lines,
    )

    rows, _ = postgres.rows(
        """SELECT oid, oprname, oprleft, oprright, oprresult, oprcom, oprnegate, coalesce(obj_description(oid, 'pg_operator'), '')
           FROM pg_operator ORDER BY oprname, oid"""
    )
    taken = []
    for row in rows:
        _, name, left, right, result, *_ = row
        left_null = "" if left == "0" else null(left)
        if left_null is None or null(right) is None or result not in known | set(STAND_INS):
            continue
        if highwater.rows(f"SELECT {left_null} {name} {null(right)}")[1] is None:
            taken.append(row)
    operators = {row[0] for row in taken}
    lines = []
    for oid, name, left, right, result, commutator, negator, description in taken:
        partners = [partner if partner in operators else "0" for partner in (commutator, negator)]
        lines.append(described([oid, name, left, right, result, *partners], description))
    write(
        "pg_operator.txt",
        [
            "Postgres 15's operators that can be used here: OID, name, types of the left side (0: it is a prefix), the right side and",
            "the result, OIDs of the commutator and the negator; behind ` -- ` what Postgres says of it. Made as pg_proc.txt is.",
        ],
        lines,
    )

    rows, _ = postgres.rows(
        """SELECT oid, castsource, casttarget, castcontext, castmethod, castfunc FROM pg_cast
           ORDER BY castsource, casttarget"""
    )
    lines = []
    for oid, source, target, context, method, function in rows:
        if {source, target} <= known and highwater.rows(f"SELECT NULL::{names[source]}::{names[target]}")[1] is None:
            lines.append(" ".join([oid, source, target, context + method, function if function in functions else "0"]))
    write(
        "pg_cast.txt",
        [
            "Postgres 15's casts that can be made here: OID, source and target type, context (i implicit, a in an assignment, e explicit)",
            "and method (f by a function, b none needed, i by the text), the function if it can be called. Made as pg_proc.txt is.",
        ],
        lines,
    )


main(*sys.argv[1:])
