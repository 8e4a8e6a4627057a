select
    sched_dep as scheduled_at,
    time_hour,
    carrier,
    flight,
    tailnum,
    origin,
    dest,
    dep_delay,
    arr_delay,
    distance,
    dep_time is null as is_cancelled
from {{ source('raw', 'flights') }}
