"""What dbt's macros cannot do themselves: try a statement and go on, and compare definitions."""

from dataclasses import dataclass
from typing import Any, Dict, Optional

import psycopg2
from dbt.adapters.base import ConstraintSupport, available
from dbt.adapters.events.logging import AdapterLogger
from dbt.adapters.postgres.impl import PostgresAdapter, PostgresConfig
from dbt_common.contracts.constraints import ConstraintType

from dbt.adapters.highwater import definition
from dbt.adapters.highwater.connections import HighwaterConnectionManager

logger = AdapterLogger("Highwater")


@dataclass
class HighwaterConfig(PostgresConfig):
    # WITH (…) of a materialized view: retention, allowed_lateness, late_rows, late_rows_retention.
    with_options: Optional[Dict[str, Any]] = None


class HighwaterAdapter(PostgresAdapter):
    ConnectionManager = HighwaterConnectionManager
    AdapterSpecificConfigs = HighwaterConfig

    CONSTRAINT_SUPPORT = {
        ConstraintType.not_null: ConstraintSupport.ENFORCED,
        ConstraintType.primary_key: ConstraintSupport.ENFORCED,
        ConstraintType.check: ConstraintSupport.NOT_SUPPORTED,
        ConstraintType.unique: ConstraintSupport.NOT_SUPPORTED,
        ConstraintType.foreign_key: ConstraintSupport.NOT_SUPPORTED,
    }

    def valid_incremental_strategies(self):
        return []

    @available
    def same_definition(self, existing: str, wanted: str) -> bool:
        return definition.canonical(existing) == definition.canonical(wanted)

    @available
    def same_source(self, existing_statement: str, wanted_body: str) -> bool:
        return definition.source_body(existing_statement) == definition.canonical(wanted_body)

    @available
    def same_options(self, existing: Optional[str], wanted: Optional[Dict[str, Any]]) -> bool:
        """`existing` as the catalog has it: one `name=value` a line."""
        had = dict(line.split("=", 1) for line in (existing or "").splitlines())
        wants = {str(name): str(value) for name, value in (wanted or {}).items()}
        return had.keys() == wants.keys() and all(definition.same_option(had[name], wants[name]) for name in had)

    @available
    def begin_transaction(self) -> None:
        """Before what reads first: dbt's own BEGIN waits for the first statement that is not a look at the catalog."""
        if not self.connections.get_thread_connection().transaction_open:
            self.connections.begin()

    @available
    def run_unless_read(self, sql: str) -> bool:
        """Runs a replacement or a DROP; False if the server refuses it for the sake of those who read the relation.

        Within the transaction, which goes on either way.
        """
        connection = self.connections.get_thread_connection()
        refusals = (
            # Others read it, and would have to change with it.
            psycopg2.errors.DependentObjectsStillExist,
            psycopg2.errors.InvalidTableDefinition,
            psycopg2.errors.FeatureNotSupported,
            # A view is being built on it.
            psycopg2.errors.ObjectInUse,
            psycopg2.errors.ObjectNotInPrerequisiteState,
        )
        with self.connections.exception_handler(sql), connection.handle.cursor() as cursor:
            logger.debug("On {}: {}", connection.name, sql)
            cursor.execute("SAVEPOINT dbt_attempt")
            try:
                cursor.execute(sql)
            except refusals as refusal:
                logger.debug("Refused: {}", str(refusal).strip())
                cursor.execute("ROLLBACK TO SAVEPOINT dbt_attempt")
                return False
            cursor.execute("RELEASE SAVEPOINT dbt_attempt")
            return True
