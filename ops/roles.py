"""The two roles of the private PostgreSQL: its superuser, and the application's, which is none.

In a data directory of an earlier version the application's role is the superuser that the cluster was made with. That one
cannot be made less (PostgreSQL 16 and newer), nor can it be what it owns by itself taken away; so it gets the superuser's
name and password, a new role gets the application's, and what was made for the application is given to that.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ADMIN", "NAME", "create", "passwords", "separate"]

NAME: Final = "boxoffice"
"""The application's role, and its database."""

ADMIN: Final = "postgres"
"""The superuser, for whoever makes standbys, crashes and databases. The application's own role is none: what it might be
tricked into, it may not do."""

_HELPER: Final = "boxoffice_roles"

_OWNED: Final = """
SELECT format('ALTER TABLE %s OWNER TO {name}', oid::regclass) FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
UNION ALL SELECT format('ALTER SEQUENCE %s OWNER TO {name}', sequence.oid::regclass) FROM pg_class AS sequence
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend WHERE
    classid = 'pg_class'::regclass AND objid = sequence.oid AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
UNION ALL SELECT format('ALTER TYPE %s OWNER TO {name}', kind.oid::regtype) FROM pg_type AS kind
  LEFT JOIN pg_class ON pg_class.oid = kind.typrelid
  WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r', 'c') AND (typrelid = 0 OR relkind = 'c')
UNION ALL SELECT format('ALTER ROUTINE %s OWNER TO {name}', oid::regprocedure) FROM pg_proc
  WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend WHERE
    classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
"""

_SEPARATE: Final = """
DO $do$ DECLARE change text; BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE oid = 10 AND rolname = '{name}') THEN
    CREATE ROLE {helper} SUPERUSER;
    SET LOCAL SESSION AUTHORIZATION {helper};
    ALTER ROLE {name} RENAME TO {admin};
    ALTER ROLE {admin} PASSWORD '{admin_password}';
    CREATE ROLE {name} LOGIN PASSWORD '{password}';
    ALTER DATABASE {name} OWNER TO {name};
    FOR change IN {owned} LOOP EXECUTE change; END LOOP;
    SET LOCAL SESSION AUTHORIZATION {admin};
    DROP ROLE {helper};
  END IF;
END $do$
"""


def create(password: str) -> str:
    """For a new cluster, made by `ADMIN`: input of `postgres --single`, which reads one statement a line. Passwords are hex
    digits of ours."""
    return f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'\nCREATE DATABASE {NAME} OWNER {NAME}\n"


def passwords(password: str, admin_password: str) -> str:
    """For a cluster that was copied from elsewhere: input of `postgres --single`."""
    return f"ALTER ROLE {NAME} PASSWORD '{password}'\nALTER ROLE {ADMIN} PASSWORD '{admin_password}'\n"


def separate(password: str, admin_password: str) -> str:
    """For a cluster of any age: all of it or nothing, and nothing where it was done. Input of `postgres --single`."""
    owned = _OWNED.format(name=NAME)
    values = {"name": NAME, "admin": ADMIN, "helper": _HELPER, "password": password, "admin_password": admin_password}
    return " ".join(_SEPARATE.format(owned=owned, **values).split()) + "\n"
