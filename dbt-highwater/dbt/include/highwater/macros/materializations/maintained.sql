{#
  Views and materialized views: nothing if the definition is what it was; OR REPLACE if those who read it can go on with it;
  else the old one steps aside (aside.sql). The name is there all the time.
#}

{% materialization view, adapter='highwater' %}
  {{ return(highwater__build_view('view')) }}
{% endmaterialization %}


{% materialization materialized_view, adapter='highwater' %}
  {{ return(highwater__build_view('materialized_view')) }}
{% endmaterialization %}


{% macro highwater__build_view(type) %}
  {% set existing = load_cached_relation(this) %}
  {% set target = this.incorporate(type=type) %}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% do adapter.begin_transaction() %}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {% if config.get('contract').enforced %}
    {{ get_assert_columns_equivalent(sql) }}
  {% endif %}

  {% if existing is none %}
    {% call statement('main') %}{{ highwater__create_view_sql(target, sql, false) }}{% endcall %}
    {% do create_indexes(target) if type == 'materialized_view' %}
  {% elif existing.type != type or should_full_refresh() %}
    {% do highwater__replace_view(existing, target) %}
  {% else %}
    {% set changes = highwater__changes(existing) %}
    {% if changes.what == [] %}
      {% do highwater__nothing('unchanged') %}
    {% elif highwater__may_change(target, changes.what) %}
      {% if changes.definition %}
        {% do highwater__replace_view(existing, target) %}
      {% endif %}
      {% do highwater__change_indexes(target) if type == 'materialized_view' %}
      {% do highwater__nothing('changed ' ~ (changes.what | join(', '))) if not changes.definition %}
    {% else %}
      {% do highwater__nothing('changes are left out') %}
    {% endif %}
  {% endif %}

  {{ return(highwater__finish(target)) }}
{% endmacro %}


{# What comes after each model's own statements; returns what a materialization does. #}
{% macro highwater__finish(target) %}
  {% do apply_grants(target, config.get('grants'), should_revoke=True) %}
  {% do persist_docs(target, model) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target]}) }}
{% endmacro %}


{% macro highwater__create_view_sql(relation, sql, or_replace) %}
  {{ config.get('sql_header', '') }}
  create {{ 'or replace' if or_replace }} {{ highwater__kind(relation) }} {{ relation }} {{ highwater__with_clause() if relation.is_materialized_view }} as {{ sql }}
{% endmacro %}


{% macro highwater__with_clause() %}
  {%- set options = config.get('with_options') or {} -%}
  {%- if options -%}
    with (
    {%- for name, value in options.items() -%}
      {{ name }} = '{{ value | string | replace("'", "''") }}'{{ ', ' if not loop.last }}
    {%- endfor -%}
    )
  {%- endif -%}
{% endmacro %}


{% macro highwater__replace_view(existing, target) %}
  {% if existing.type == target.type and adapter.run_unless_read(highwater__create_view_sql(target, sql, true)) %}
    {% do highwater__nothing('replaced') %}
    {% do highwater__sweep(target) %}
  {% else %}
    {% set new_relation = highwater__new_relation(target) %}
    {% do highwater__clear_new(new_relation) %}
    {% call statement('main') %}{{ highwater__create_view_sql(new_relation, sql, false) }}{% endcall %}
    {% do create_indexes(new_relation) if target.is_materialized_view %}
    {% do highwater__change_places(existing, new_relation, target) %}
  {% endif %}
{% endmacro %}


{# A result for dbt where no statement of it is the main one. #}
{% macro highwater__nothing(message) %}
  {% do store_raw_result(name='main', message=message, code=message, rows_affected='-1') %}
{% endmacro %}


{# `definition`: it must be replaced; `what`: words for all that differs. #}
{% macro highwater__changes(existing) %}
  {% set found = run_query(highwater__describe_sql(existing)).rows[0] %}
  {% set what = [] %}
  {% do what.append('definition') if not adapter.same_definition(found[0], sql) %}
  {% do what.append('options') if existing.is_materialized_view and not adapter.same_options(found[1], config.get('with_options')) %}
  {% set definition = what != [] %}
  {% do what.append('indexes') if existing.is_materialized_view and highwater__index_changes(existing) is not none %}
  {{ return({'definition': definition, 'what': what}) }}
{% endmacro %}


{% macro highwater__describe_sql(relation) %}
  select pg_get_viewdef(c.oid), array_to_string(c.reloptions, chr(10))
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = '{{ relation.schema }}' and c.relname = '{{ relation.identifier }}'
{% endmacro %}


{% macro highwater__index_changes(existing) %}
  {{ return(postgres__get_materialized_view_configuration_changes(existing, config)) }}
{% endmacro %}


{# After a replacement too: it keeps the indexes that were there. #}
{% macro highwater__change_indexes(target) %}
  {% set changes = highwater__index_changes(target) %}
  {% if changes is not none %}
    {% call statement('indexes') %}
      {{ postgres__update_indexes_on_materialized_view(target, changes.indexes) }}
    {% endcall %}
  {% endif %}
{% endmacro %}


{# on_configuration_change: apply, continue or fail. #}
{% macro highwater__may_change(target, what) %}
  {% set policy = config.get('on_configuration_change') | string %}
  {% set message = target ~ ' differs from its model (' ~ (what | join(', ')) ~ ') and on_configuration_change is ' ~ policy %}
  {% if policy == 'fail' %}
    {% do exceptions.raise_fail_fast_error(message) %}
  {% elif policy == 'continue' %}
    {% do exceptions.warn(message) %}
    {{ return(false) }}
  {% endif %}
  {{ return(true) }}
{% endmacro %}
