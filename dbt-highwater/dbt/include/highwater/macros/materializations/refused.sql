{# What has no sense here says why, and what to write instead. #}

{% materialization incremental, adapter='highwater' %}
  {% do exceptions.raise_compiler_error(
    "materialized='incremental' is refused: a Highwater materialized view is incremental already. It is maintained row by row as its inputs change, with updates and deletes. Write materialized='materialized_view' and leave out is_incremental().") %}
{% endmaterialization %}


{% materialization snapshot, adapter='highwater' %}
  {% do exceptions.raise_compiler_error(
    "Snapshots are refused: dbt would compare a relation with what it was at the last run and miss what came between. A relation knows its own past: set with_options={'retention': '30 days'} on its materialized view and read it with FOR SYSTEM_TIME AS OF, or follow every change with SUBSCRIBE.") %}
{% endmaterialization %}


{% materialization sink, adapter='highwater' %}
  {% do exceptions.raise_compiler_error(
    "materialized='sink' is refused: the server has no sinks yet but the one that discards rows. Read the changes of a materialized view with SUBSCRIBE.") %}
{% endmaterialization %}
