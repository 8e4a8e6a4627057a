{# A flight is late from a quarter of an hour on, as the Bureau of Transportation Statistics counts. #}
{% macro is_late(delay) %}case when {{ delay }} >= 15 then 1 else 0 end{% endmacro %}
