select
    origin,
    time_hour,
    wind_speed,
    visib as visibility,
    case when visib < 2 then 'fog' when visib < 8 then 'haze' else 'clear' end as sight
from {{ source('raw', 'weather') }}
