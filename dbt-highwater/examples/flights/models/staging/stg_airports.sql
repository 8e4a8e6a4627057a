select faa as airport, name, lat, lon
from {% if target.type == 'highwater' %}{{ ref('airports') }}{% else %}{{ source('raw', 'airports') }}{% endif %}
