"""Highwater for dbt: PostgreSQL's adapter, with materializations of its own.

`dbt` and `dbt.adapters` are namespace packages that many distributions share; hence no `__init__.py` above this one.
"""

from dbt.adapters.base import AdapterPlugin

from dbt.adapters.highwater.connections import HighwaterConnectionManager, HighwaterCredentials
from dbt.adapters.highwater.impl import HighwaterAdapter
from dbt.include import highwater

Plugin = AdapterPlugin(
    adapter=HighwaterAdapter,
    credentials=HighwaterCredentials,
    include_path=highwater.PACKAGE_PATH,
    dependencies=["postgres"],
)
