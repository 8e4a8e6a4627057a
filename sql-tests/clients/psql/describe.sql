-- What \d and its kin say of tables, views, indexes, functions and schemas. PostgreSQL says the same.
CREATE SCHEMA sales;
CREATE TABLE fruit (
  id int PRIMARY KEY,
  name varchar(20) NOT NULL DEFAULT 'x',
  price numeric(10,2),
  tags text[] DEFAULT '{}',
  sold boolean DEFAULT false,
  at timestamptz DEFAULT now()
);
CREATE TABLE sales.orders (fruit_id int, at timestamp, "Count" bigint, PRIMARY KEY (fruit_id, at));
CREATE INDEX fruit_price ON fruit (price, name);
CREATE UNIQUE INDEX orders_count ON sales.orders ("Count");
CREATE VIEW names AS SELECT fruit.id, fruit.name FROM fruit;
CREATE FUNCTION twice(i integer, times integer DEFAULT 2) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS $$SELECT i * times$$;
COMMENT ON TABLE fruit IS 'what is sold';
COMMENT ON COLUMN fruit.price IS 'each';
COMMENT ON VIEW names IS $tag$it's names$tag$;
COMMENT ON INDEX fruit_price IS 'by price';
COMMENT ON SCHEMA sales IS 'what was sold';
COMMENT ON FUNCTION twice(integer, integer) IS 'two of it';
COMMENT ON CONSTRAINT fruit_pkey ON fruit IS 'one each';
\d
\d fruit
\d+ fruit
\d sales.orders
\d names
\d orders_count
\d sales.*
\d fruit_price
\d+ fruit_price
\d nothing
\dt
\dt sales.*
\dt *.orders
\dv
\dv+
\di
\di sales.*
\dti
\ds
\dm
\dp
\z fruit
\df
\df+ twice
\df now
\dfS abs
\da count
\daS bool_and
\dfw rank
\doS ^
\dT numeric
\dT+ jsonb
\dC tid
\dd
\dD
\dn sales
\dn+ sales
\sf twice
\sf+ twice
\sf nothing
\sv nothing
\dy
\dRp
\dP
\dX
\des
\deu
\det
\ddp
\drds
\dconfig search_path
-- An index's OID and name are each other's.
SELECT 'fruit_price'::regclass, 'fruit_price'::regclass::oid = c.oid AS same FROM pg_class c WHERE relname = 'fruit_price';
SET search_path = sales;
\d
SELECT 'orders'::regclass, 'public.fruit'::regclass;
RESET search_path;
DROP TABLE fruit CASCADE;
\d
\dd
