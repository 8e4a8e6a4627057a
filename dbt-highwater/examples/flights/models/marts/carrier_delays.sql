{{ config(indexes=[{'columns': ['carrier']}]) }}
select
    f.carrier,
    a.name as airline,
    count(*) as flights,
    sum({{ is_late('f.arr_delay') }}) as late,
    avg(f.arr_delay) as mean_delay_min
from {{ ref('stg_flights') }} f
join {{ ref('airlines') }} a on a.carrier = f.carrier
where f.arr_delay is not null
group by f.carrier, a.name
