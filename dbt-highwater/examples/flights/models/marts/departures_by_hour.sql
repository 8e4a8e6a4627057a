{{ config(indexes=[{'columns': ['window_start']}]) }}
select
    window_start,
    origin,
    count(*) as scheduled,
    count(*) filter (where is_cancelled) as cancelled,
    avg(dep_delay) as mean_delay_min
from tumble({{ ref('stg_flights') }}, scheduled_at, interval '1 hour')
group by window_start, origin
