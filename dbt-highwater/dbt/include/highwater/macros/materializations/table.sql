{#
  A table that is as it was (columns, types, NOT NULL, keys, defaults) gets its new rows in one transaction: one epoch, and
  the views over it follow. Otherwise a new table takes its place, and what reads the old one steps aside with it (aside.sql).
#}
{% materialization table, adapter='highwater' %}
  {% set existing = load_cached_relation(this) %}
  {% set target = this.incorporate(type='table') %}
  {% set new_relation = highwater__new_relation(target) %}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% do adapter.begin_transaction() %}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {% if existing is none %}
    {% call statement('main') %}{{ get_create_table_as_sql(False, target, sql) }}{% endcall %}
    {% do create_indexes(target) %}
  {% else %}
    {% do highwater__clear_new(new_relation) %}
    {% call statement('shape') %}{{ get_create_table_as_sql(False, new_relation, get_empty_subquery_sql(sql)) }}{% endcall %}
    {% if existing.is_table and not should_full_refresh() and highwater__same_table(existing, new_relation) %}
      {% do adapter.drop_relation(new_relation) %}
      {% call statement('main') %}
        truncate {{ target }};
        {{ highwater__insert_sql(target, sql) }}
      {% endcall %}
      {% do highwater__change_indexes(target) %}
    {% else %}
      {% call statement('main') %}{{ highwater__insert_sql(new_relation, sql) }}{% endcall %}
      {% do create_indexes(new_relation) %}
      {# Names change at once, rows with COMMIT: they must be there before. #}
      {% do adapter.commit() %}
      {% do adapter.begin_transaction() %}
      {% do highwater__change_places(existing, new_relation, target) %}
    {% endif %}
  {% endif %}

  {{ return(highwater__finish(target)) }}
{% endmaterialization %}


{# Under a contract the model's columns may come in another order than the table's. #}
{% macro highwater__insert_sql(relation, sql) %}
  {% if config.get('contract').enforced %}
    insert into {{ relation }} ({{ adapter.dispatch('get_column_names', 'dbt')() }}) {{ get_select_subquery(sql) }}
  {% else %}
    insert into {{ relation }} {{ sql }}
  {% endif %}
{% endmacro %}


{% macro highwater__same_table(one, other) %}
  {% set shapes = [] %}
  {% for relation in [one, other] %}
    {% do shapes.append(run_query(highwater__shape_sql(relation)).rows | map('join', ' ') | list) %}
  {% endfor %}
  {{ return(shapes[0] == shapes[1]) }}
{% endmacro %}


{% macro highwater__shape_sql(relation) %}
  select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
    coalesce((select i.indkey::text from pg_index i where i.indrelid = c.oid and i.indisprimary), '')
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where n.nspname = '{{ relation.schema }}' and c.relname = '{{ relation.identifier }}'
  order by a.attnum
{% endmacro %}
