{{ config(materialized='view') }}
select origin, dest, destination, flights, mean_delay_min
from {{ ref('routes') }}
where flights >= {{ var('least_flights', 20) }}
order by mean_delay_min desc, dest
limit 10
