-- Each flight is in one hour of one airport.
select counted, had
from (select sum(scheduled) as counted from {{ ref('departures_by_hour') }}) c,
     (select count(*) as had from {{ source('raw', 'flights') }}) h
where counted <> had
