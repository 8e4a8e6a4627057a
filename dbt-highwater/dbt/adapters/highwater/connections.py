"""Connections are PostgreSQL's, under another name."""

from dataclasses import dataclass

from dbt.adapters.postgres.connections import PostgresConnectionManager, PostgresCredentials
from psycopg2.extensions import STATUS_BEGIN, TRANSACTION_STATUS_IDLE


@dataclass
class HighwaterCredentials(PostgresCredentials):
    @property
    def type(self):
        return "highwater"


class HighwaterConnectionManager(PostgresConnectionManager):
    TYPE = "highwater"

    def add_begin_query(self):
        """psycopg2 sends BEGIN by itself, but not after dbt's COMMIT, which it does not know of."""
        handle = self.get_thread_connection().handle
        if handle.status == STATUS_BEGIN and handle.info.transaction_status == TRANSACTION_STATUS_IDLE:
            return super(PostgresConnectionManager, self).add_begin_query()
        return None
