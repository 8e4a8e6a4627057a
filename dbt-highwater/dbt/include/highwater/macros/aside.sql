{#
  A relation that others read, and whose new definition does not fit them, steps aside:

    1. the new one is built as name__dbt_new, while name is read
    2. SWAP WITH: one step of the catalog, no reader is without name
    3. the old one is name__dbt_old<time>; what read it reads it still

  The stored definitions of those readers name __dbt_old from now on. So each of them differs from its model, and is
  replaced when its turn comes, later in the same run. When nothing reads the old one it is dropped.
#}

{% macro highwater__new_relation(relation) %}
  {{ return(postgres__make_relation_with_suffix(relation, '__dbt_new', dstring=False)) }}
{% endmacro %}


{# What an earlier run left under the name of the new relation: it may be the old one already, with readers. #}
{% macro highwater__clear_new(new_relation) %}
  {% set left = adapter.get_relation(new_relation.database, new_relation.schema, new_relation.identifier) %}
  {% if left is not none %}
    {% do adapter.rename_relation(left, postgres__make_relation_with_suffix(left, '__dbt_old', dstring=True)) %}
  {% endif %}
{% endmacro %}


{# `new_relation` is built; it gets the name of `existing`. #}
{% macro highwater__change_places(existing, new_relation, target) %}
  {% set old = postgres__make_relation_with_suffix(existing, '__dbt_old', dstring=True) %}
  {% if existing.type == target.type %}
    {% call statement('swap') %}
      alter {{ highwater__kind(target) }} {{ target }} swap with {{ adapter.quote(new_relation.schema) }}.{{ adapter.quote(new_relation.identifier) }};
      alter {{ highwater__kind(target) }} {{ new_relation }} rename to {{ adapter.quote(old.identifier) }}
    {% endcall %}
  {% else %}
    {# Of two kinds: the name is free for a moment. #}
    {% call statement('swap') %}
      alter {{ highwater__kind(existing) }} {{ existing }} rename to {{ adapter.quote(old.identifier) }};
      alter {{ highwater__kind(target) }} {{ new_relation }} rename to {{ adapter.quote(target.identifier) }}
    {% endcall %}
  {% endif %}
  {% do highwater__sweep(target) %}
  {% set readers = run_query(highwater__readers_sql(old)) %}
  {% if readers.rows | length > 0 %}
    {% do log(target ~ ' has changed; until they are built too, these read what it was: ' ~ (readers.columns[0].values() | join(', ')), info=True) %}
  {% endif %}
{% endmacro %}


{% macro highwater__readers_sql(relation) %}
  select distinct n.nspname || '.' || c.relname as reader
  from pg_depend d
  join pg_rewrite r on r.oid = d.objid
  join pg_class c on c.oid = r.ev_class
  join pg_namespace n on n.oid = c.relnamespace
  join pg_class o on o.oid = d.refobjid
  join pg_namespace p on p.oid = o.relnamespace
  where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and c.oid <> o.oid
    and p.nspname = '{{ relation.schema }}' and o.relname = '{{ relation.identifier }}'
  order by 1
{% endmacro %}


{# Drops what stepped aside and is not read any more. One may be read by another, so it goes on while something goes. #}
{% macro highwater__sweep(relation) %}
  {% set progress = namespace(any=true) %}
  {% for round in range(20) if progress.any %}
    {% set progress.any = false %}
    {% set left = run_query(highwater__left_aside_sql(relation.schema)) %}
    {% for row in left.rows %}
      {% set aside = api.Relation.create(database=relation.database, schema=relation.schema, identifier=row[0], type=row[1]) %}
      {% if adapter.run_unless_read('drop ' ~ highwater__kind(aside) ~ ' if exists ' ~ aside ~ ' restrict') %}
        {% set progress.any = true %}
      {% endif %}
    {% endfor %}
  {% endfor %}
{% endmacro %}


{% macro highwater__left_aside_sql(schema) %}
  select c.relname, case c.relkind when 'r' then 'table' when 'v' then 'view' when 'm' then 'materialized_view' else 'external' end
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = '{{ schema }}' and c.relkind in ('r', 'v', 'm', 'f') and c.relname ~ '__dbt_old[0-9]{12}$'
  order by c.oid desc
{% endmacro %}
