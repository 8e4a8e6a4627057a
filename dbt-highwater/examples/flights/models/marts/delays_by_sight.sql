select w.origin, w.sight, count(*) as flights, avg(f.dep_delay) as mean_delay_min
from {{ ref('stg_flights') }} f
join {{ ref('stg_weather') }} w on w.origin = f.origin and w.time_hour = f.time_hour
group by w.origin, w.sight
