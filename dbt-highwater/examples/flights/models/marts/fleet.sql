{{ config(
    materialized='table',
    indexes=[{'columns': ['manufacturer'], 'unique': true}],
    pre_hook="select 'before ' || '{{ this.name }}'",
    post_hook="insert into {{ target.schema }}.builds (model) values ('{{ this.name }}')"
) }}
select manufacturer, count(*)::int as planes, sum(seats)::bigint as seats
from {{ ref('stg_planes') }}
where manufacturer is not null
group by manufacturer
