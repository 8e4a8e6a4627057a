"""Connections are PostgreSQL's, under another name."""

from dataclasses import dataclass

from dbt.adapters.postgres.connections import PostgresConnectionManager, PostgresCredentials


@dataclass
class HighwaterCredentials(PostgresCredentials):
    @property
    def type(self):
        return "highwater"


class HighwaterConnectionManager(PostgresConnectionManager):
    TYPE = "highwater"
