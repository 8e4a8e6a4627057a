{# Sources are to dbt what it calls external. #}
{% macro highwater__list_relations_without_caching(schema_relation) %}
  {% call statement('list_relations_without_caching', fetch_result=True) -%}
    select
      '{{ schema_relation.database }}' as database,
      c.relname as name,
      n.nspname as schema,
      case c.relkind when 'r' then 'table' when 'v' then 'view' when 'm' then 'materialized_view' else 'external' end as type
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v', 'm', 'f') and n.nspname ilike '{{ schema_relation.schema }}'
  {% endcall %}
  {{ return(load_result('list_relations_without_caching').table) }}
{% endmacro %}


{# What ALTER and DROP call it. #}
{% macro highwater__kind(relation) -%}
  {%- if relation.type == 'materialized_view' -%} materialized view
  {%- elif relation.type == 'external' -%} source
  {%- else -%} {{ relation.type }}
  {%- endif -%}
{%- endmacro %}


{% macro highwater__get_drop_sql(relation) -%}
  drop {{ highwater__kind(relation) }} if exists {{ relation }} cascade
{%- endmacro %}


{% macro highwater__rename_relation(from_relation, to_relation) -%}
  {% call statement('rename_relation') -%}
    alter {{ highwater__kind(from_relation) }} {{ from_relation }} rename to {{ adapter.quote(to_relation.identifier) }}
  {%- endcall %}
{% endmacro %}


{# There are no temporary tables: a plain one beside the model, which the caller drops. #}
{% macro highwater__make_temp_relation(base_relation, suffix) %}
  {{ return(postgres__make_relation_with_suffix(base_relation, suffix, dstring=True)) }}
{% endmacro %}


{% macro highwater__create_table_as(temporary, relation, sql) -%}
  {{ return(postgres__create_table_as(False, relation, sql)) }}
{%- endmacro %}


{# Grants are compared as dbt-postgres does; a relation that changed places keeps those that its name should have. #}
{% macro highwater__copy_grants() %}
  {{ return(False) }}
{% endmacro %}
