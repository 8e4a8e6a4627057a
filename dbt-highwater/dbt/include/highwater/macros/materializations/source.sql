{#
  CREATE SOURCE: the model's body is what stands after the name. Unchanged, nothing happens: what was read stays read.
  Changed, the old source steps aside (aside.sql), and what reads it reads it until it is built again.
#}
{% materialization source, adapter='highwater' %}
  {% set existing = load_cached_relation(this) %}
  {% set target = this.incorporate(type='external') %}
  {% set new_relation = highwater__new_relation(target) %}
  {% do highwater__check_source_config() %}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% do adapter.begin_transaction() %}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {% if existing is none %}
    {% call statement('main') %}create source {{ target }} {{ sql }}{% endcall %}
  {% elif existing.type == 'external' and not should_full_refresh() and adapter.same_source(highwater__source_statement(existing), sql) %}
    {% do highwater__nothing('unchanged') %}
  {% elif existing.type != 'external' or should_full_refresh() or highwater__may_change(target, ['definition']) %}
    {% do highwater__clear_new(new_relation) %}
    {% call statement('main') %}create source {{ new_relation }} {{ sql }}{% endcall %}
    {% do highwater__change_places(existing, new_relation, target) %}
  {% else %}
    {% do highwater__nothing('changes are left out') %}
  {% endif %}

  {% do apply_grants(target, config.get('grants'), should_revoke=True) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {{ adapter.commit() }}
  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target]}) }}
{% endmaterialization %}


{% macro highwater__source_statement(relation) %}
  {{ return(run_query('show create source ' ~ relation).rows[0][1]) }}
{% endmacro %}


{% macro highwater__check_source_config() %}
  {% if config.get('contract').enforced %}
    {% do exceptions.raise_compiler_error('A source model cannot have an enforced contract: its columns are declared in its body. Put the contract on the view over it.') %}
  {% endif %}
  {% if config.get('indexes') %}
    {% do exceptions.raise_compiler_error('A source has no rows of its own to index. Put the index on a materialized view over it.') %}
  {% endif %}
{% endmacro %}
