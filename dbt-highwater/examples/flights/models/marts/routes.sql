select
    f.origin,
    f.dest,
    p.name as destination,
    count(*) as flights,
    avg(f.arr_delay) as mean_delay_min
from {{ ref('stg_flights') }} f
left join {{ ref('stg_airports') }} p on p.airport = f.dest
group by f.origin, f.dest, p.name
