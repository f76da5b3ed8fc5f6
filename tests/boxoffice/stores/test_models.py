"""The tables as `models/` describes them are the tables that the migrations make: a migration is compared with the models
when it is written, and whoever reads the models believes them."""

from __future__ import annotations

import re

import asyncpg
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from boxoffice.settings import Settings
from boxoffice.stores.models import Base

TABLES = {table.name: table for table in Base.metadata.sorted_tables}

_COLUMNS = """
SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname
"""
_CONSTRAINTS = """
SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::regclass AND contype <> 'n'
ORDER BY 1
"""
_INDEXES = """
SELECT indexrelid::regclass || ' ' || pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::regclass ORDER BY 1
"""


async def described(connection: asyncpg.Connection, schema: str, table: str) -> dict[str, list[str]]:
    """Everything that PostgreSQL knows of a table, without the name of its schema."""
    found = {}
    for what, query in (("columns", _COLUMNS), ("constraints", _CONSTRAINTS), ("indexes", _INDEXES)):
        rows = await connection.fetch(query, f"{schema}.{table}")
        found[what] = [re.sub(rf"\b(public|{schema})\.", "", row[0]) for row in rows]
    return found


async def test_the_models_are_what_the_migrations_make(settings: Settings, servers: object) -> None:
    """Columns, types, NULL, defaults, keys, checks and indexes."""
    dialect = postgresql.dialect()
    connection = await asyncpg.connect(settings.database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        made = {table: await described(connection, "public", table) for table in TABLES}
        await connection.execute("CREATE SCHEMA described")
        await connection.execute("SET LOCAL search_path = described, public")
        for table in TABLES.values():
            await connection.execute(str(CreateTable(table).compile(dialect=dialect)))
            for index in table.indexes:
                await connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
        assert {table: await described(connection, "described", table) for table in TABLES} == made
    finally:
        await transaction.rollback()
        await connection.close()
