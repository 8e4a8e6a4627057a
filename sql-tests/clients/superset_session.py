"""How Apache Superset comes to its tables and charts, with its own driver: SQLAlchemy's reflection over psycopg2.

    python superset_session.py url

The engine, the inspector's calls and the texts of the charts' queries are those of Superset's PostgreSQL engine. Prints ok.
"""

import sys

from sqlalchemy import BIGINT, DOUBLE_PRECISION, INTEGER, NUMERIC, TEXT, VARCHAR, MetaData, create_engine, inspect, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

engine = create_engine(sys.argv[1].replace("postgresql://", "postgresql+psycopg2://"))

with engine.connect() as connection:
    for statement in [
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.customers (id int PRIMARY KEY, name text NOT NULL, city varchar(20) DEFAULT 'Paris')",
        """CREATE TABLE shop.orders (id bigint, line int, customer int NOT NULL, price numeric(10,2), weight float8,
           placed timestamptz, noted timestamp, more jsonb, tags text[], PRIMARY KEY (id, line))""",
        "CREATE INDEX orders_placed ON shop.orders (placed, customer)",
        "CREATE UNIQUE INDEX one_name ON shop.customers (name)",
        "CREATE VIEW shop.large AS SELECT id, price FROM shop.orders WHERE price > 10",
        """CREATE MATERIALIZED VIEW shop.hourly AS SELECT window_start, customer, count(*) AS orders, sum(price) AS revenue
           FROM TUMBLE(shop.orders, placed, INTERVAL '1 hour') GROUP BY window_start, customer""",
        "CREATE INDEX hourly_start ON shop.hourly (window_start)",
        """CREATE SOURCE shop.bids WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '100')""",
        "INSERT INTO shop.customers (id, name) VALUES (1, 'Ann'), (2, 'Bob')",
        """INSERT INTO shop.orders (id, line, customer, price, placed) VALUES
           (1, 1, 1, 5.50, '2013-01-01 10:05:00Z'), (1, 2, 1, 20.00, '2013-01-01 10:55:00Z'),
           (2, 1, 2, 11.25, '2013-01-01 11:30:00Z'), (3, 1, 2, 1.00, '2013-01-02 00:00:00Z')""",
    ]:
        connection.execute(text(statement))
    connection.commit()

inspector = inspect(engine)


def same(found, expected):
    assert found == expected, f"\nfound    {found}\nexpected {expected}"


# What there is.
same(engine.dialect.server_version_info[0], 15)
same(inspector.default_schema_name, "public")
assert {"public", "shop", "information_schema"} <= set(inspector.get_schema_names())
same(sorted(inspector.get_table_names("shop")), ["customers", "orders"])
same(inspector.get_view_names("shop"), ["large"])
same(inspector.get_materialized_view_names("shop"), ["hourly"])
# Sources are foreign tables; Superset lists those with the tables.
same(inspector.get_foreign_table_names("shop"), ["bids"])
same(inspector.get_table_names("public"), [])
same(inspector.has_table("hourly", "shop"), True)
same(inspector.has_table("nothing", "shop"), False)
same(inspector.get_sequence_names("shop"), [])
same(inspector.get_enums("shop"), [])


def columns(table):
    return [(c["name"], type(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table, "shop")]


same(columns("customers"), [
    ("id", INTEGER, False, None), ("name", TEXT, False, None), ("city", VARCHAR, True, inspector.get_columns("customers", "shop")[2]["default"])])
assert inspector.get_columns("customers", "shop")[2]["default"].startswith("'Paris'")
same(inspector.get_columns("customers", "shop")[2]["type"].length, 20)
orders = {c["name"]: c["type"] for c in inspector.get_columns("orders", "shop")}
same([type(orders[name]) for name in ("id", "line", "customer", "price", "weight", "placed", "noted", "more")],
     [BIGINT, INTEGER, INTEGER, NUMERIC, DOUBLE_PRECISION, TIMESTAMP, TIMESTAMP, JSONB])
same((orders["price"].precision, orders["price"].scale), (10, 2))
same((orders["placed"].timezone, orders["noted"].timezone), (True, False))
same(type(orders["tags"].item_type), TEXT)
same(columns("large"), [("id", BIGINT, True, None), ("price", NUMERIC, True, None)])
same(columns("hourly"), [
    ("window_start", TIMESTAMP, True, None), ("customer", INTEGER, True, None), ("orders", BIGINT, True, None), ("revenue", NUMERIC, True, None)])
same([c["name"] for c in inspector.get_columns("bids", "shop")][:3], ["auction", "bidder", "price"])

# Keys, indexes, comments, definitions.
same(inspector.get_pk_constraint("customers", "shop")["constrained_columns"], ["id"])
same(inspector.get_pk_constraint("orders", "shop")["constrained_columns"], ["id", "line"])
same(inspector.get_pk_constraint("hourly", "shop")["constrained_columns"], [])
same(inspector.get_foreign_keys("orders", "shop"), [])
same(inspector.get_unique_constraints("orders", "shop"), [])
same(inspector.get_check_constraints("orders", "shop"), [])
same([(i["name"], i["column_names"], i["unique"]) for i in inspector.get_indexes("orders", "shop")],
     [("orders_placed", ["placed", "customer"], False)])
same([(i["name"], i["column_names"], i["unique"]) for i in inspector.get_indexes("customers", "shop")],
     [("one_name", ["name"], True)])
same([(i["name"], i["column_names"]) for i in inspector.get_indexes("hourly", "shop")], [("hourly_start", ["window_start"])])
same(inspector.get_table_comment("orders", "shop"), {"text": None})
assert "price > 10" in inspector.get_view_definition("large", "shop")
assert "TUMBLE" in inspector.get_view_definition("hourly", "shop")

# All at once, as the multi-table calls of SQLAlchemy 2 do it.
metadata = MetaData()
metadata.reflect(engine, schema="shop", views=True)
same(sorted(metadata.tables), ["shop.customers", "shop.hourly", "shop.large", "shop.orders"])
same([c.name for c in metadata.tables["shop.orders"].primary_key], ["id", "line"])

with engine.connect() as connection:

    def rows(sql):
        return [tuple(map(str, row)) for row in connection.execute(text(sql))]

    # The list of databases, the preview of a table, a time series by hour and by day, a table, a big number, a filter's values.
    assert ("dev",) in rows("SELECT datname FROM pg_database\nWHERE datistemplate = false")
    same(len(rows("SELECT *\nFROM shop.hourly\nLIMIT 100\nOFFSET 0")), 3)
    same(rows("""SELECT DATE_TRUNC('day', window_start) AS window_start, sum(orders) AS "SUM(orders)"
        FROM shop.hourly
        WHERE window_start >= TO_TIMESTAMP('2013-01-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
          AND window_start < TO_TIMESTAMP('2013-01-03 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')
        GROUP BY DATE_TRUNC('day', window_start) ORDER BY "SUM(orders)" DESC
        LIMIT 10000"""), [("2013-01-01 00:00:00+00:00", "3"), ("2013-01-02 00:00:00+00:00", "1")])
    same(rows("""SELECT DATE_TRUNC('hour', window_start) AS __timestamp, name AS name, sum(revenue) AS revenue
        FROM (SELECT h.*, c.name FROM shop.hourly h JOIN shop.customers c ON c.id = h.customer
        ) AS virtual_table JOIN (SELECT name AS name__, sum(revenue) AS mme_inner__
            FROM (SELECT h.*, c.name FROM shop.hourly h JOIN shop.customers c ON c.id = h.customer) AS virtual_table
            GROUP BY name ORDER BY mme_inner__ DESC LIMIT 1) AS series_limit ON name = name__
        GROUP BY DATE_TRUNC('hour', window_start), name ORDER BY revenue DESC LIMIT 10000"""),
         [("2013-01-01 10:00:00+00:00", "Ann", "25.50")])
    same(rows("SELECT COUNT(*) AS count, COUNT(DISTINCT customer) AS \"COUNT_DISTINCT(customer)\" FROM shop.orders LIMIT 50000"), [("4", "2")])
    same(rows("SELECT city AS city FROM shop.customers GROUP BY city ORDER BY city ASC LIMIT 1000"), [("Paris",)])
    same(rows("SELECT MAX(window_start) AS \"MAX(window_start)\", MIN(window_start) AS \"MIN(window_start)\" FROM shop.hourly"),
         [("2013-01-02 00:00:00+00:00", "2013-01-01 10:00:00+00:00")])
    assert rows("EXPLAIN SELECT * FROM shop.hourly")

print("ok")
