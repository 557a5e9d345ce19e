"""Opening the node's database: SQLite in the storage folder, or PostgreSQL shared by several workers.

What every part of the records has: the database, once to read and once to write.
"""

from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mammoscope.errors import MammoscopeError
from mammoscope.node.db import schema as tables
from mammoscope.untrusted_text import without_secrets

SQLITE_FILE = "node.sqlite"
BUSY_SECONDS = 60.0
CONNECT_SECONDS = 10


class DatabaseError(MammoscopeError):
    """The node's database cannot be used."""


def open_database(storage: Path, url: str | None = None) -> sa.Engine:
    """Connect to the node's database and make its tables where they are missing.

    Parameters
    ----------
    storage
        The node's storage folder, which holds the SQLite file.
    url
        ``postgresql://user:password@host/name``; ``None`` for SQLite.

    Raises
    ------
    DatabaseError
        If it cannot be reached or written, or is of another version.
    """
    engine = _postgresql(url) if url else _sqlite(storage / SQLITE_FILE)
    try:
        with engine.begin() as connection:
            _lock_against_others(connection)
            tables.metadata.create_all(connection)
            version = connection.scalar(sa.select(tables.versions.c.version))
            if version is None:
                connection.execute(sa.insert(tables.versions).values(version=tables.VERSION))
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(f"the database {name_of(engine)} cannot be used ({_cause(error)})") from None
    if version not in (None, tables.VERSION):
        engine.dispose()
        raise DatabaseError(
            f"the database {name_of(engine)} is of version {version}, which this Mammoscope cannot use; "
            "give it a database of its own or install the version that made it"
        )
    return engine


def name_of(engine: sa.Engine) -> str:
    """What messages call a database: without its password."""
    return (
        engine.url.database or ""
        if _is_sqlite(engine)
        else without_secrets(engine.url.render_as_string(hide_password=True))
    )


def reading_only(engine: sa.Engine) -> sa.Engine:
    """The same database for transactions that only read, which never wait for one that writes."""
    return engine.execution_options(reads_only=True)


def _is_sqlite(engine: sa.Engine) -> bool:
    return engine.dialect.name == "sqlite"


def _sqlite(file: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, see below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a commit is on the disk when it returns
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads and then writes must hold the lock from its beginning, or it fails half-way.
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def dialect_url(url: str) -> str:
    """A PostgreSQL address as SQLAlchemy takes it, with the driver that we use.

    Raises
    ------
    DatabaseError
        If it is none.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise DatabaseError("the database is to be given like postgresql://user:password@host/name") from None
    if parsed.get_backend_name() != "postgresql":
        raise DatabaseError(
            f"the database is to be given like postgresql://user:password@host/name, not {parsed.get_backend_name()}"
        )
    password = parsed.query.get("password")
    if isinstance(password, str):  # to the one place where every message hides it
        parsed = parsed.difference_update_query(["password"]).set(password=password)
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _postgresql(url: str) -> sa.Engine:
    return sa.create_engine(
        dialect_url(url),
        pool_pre_ping=True,  # a connection that the server closed overnight is replaced, not used
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )


def _lock_against_others(connection: sa.Connection) -> None:
    """Have only one worker at a time make the tables; a transaction of SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6D616D6D)))


def _cause(error: SQLAlchemyError) -> str:
    """The first line of what the database itself said."""
    words = str(getattr(error, "orig", None) or error).strip().splitlines()
    return without_secrets(words[0]) if words else type(error).__name__


class RecordStore:
    """An open database. Safe to use from several threads, and beside a running node."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._reads = reading_only(engine)

    @classmethod
    def open(cls, storage: Path, database: str | None = None) -> Self:
        """Open the database of the node with that storage folder.

        Parameters
        ----------
        database
            As in the settings; ``None`` for the SQLite file in the folder.

        Raises
        ------
        DatabaseError
            If it cannot be used.
        """
        return cls(open_database(storage, database))

    @property
    def database(self) -> str:
        """What messages call the database: without its password."""
        return name_of(self._engine)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
