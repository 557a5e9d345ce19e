"""Opening the node's database: SQLite in the storage folder, or PostgreSQL shared by several workers.

A database that an earlier version made is brought up to date first, whole or not at all.

What every part of the records has: the database, once to read and once to write.
"""

import sqlite3
from contextlib import closing
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from mammoscope.errors import MammoscopeError
from mammoscope.lifecycle import Closing
from mammoscope.logging import where_raised
from mammoscope.untrusted_text import without_secrets

SQLITE_FILE = "node.sqlite"
BUSY_SECONDS = 60.0
CONNECT_SECONDS = 10
FIRST_REVISION = "0001"
"""The tables of Mammoscope 0.1.0, which did not name its revision."""

log = structlog.get_logger(__name__)


class DatabaseError(MammoscopeError):
    """The node's database cannot be used."""


def open_database(storage: Path, url: str | None = None) -> sa.Engine:
    """Connect to the node's database; make its tables, or bring those of an earlier version up to date.

    Before a SQLite file changes, a copy is kept beside it, named by the revision it has: the way back to the version
    that made it. A migration that fails changes nothing.

    Parameters
    ----------
    storage
        The node's storage folder, which holds the SQLite file.
    url
        ``postgresql://user:password@host/name``; ``None`` for SQLite.

    Raises
    ------
    DatabaseError
        If it cannot be reached or written, was made by a newer version, or cannot be brought up to date.
    """
    engine = _postgresql(url) if url else _sqlite(storage / SQLITE_FILE)
    try:
        _bring_up_to_date(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise DatabaseError(f"the database {name_of(engine)} cannot be used ({in_words(error)})") from None
    except DatabaseError:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(engine: sa.Engine) -> None:
    with as_file(files("mammoscope.node.db") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        script = ScriptDirectory.from_config(config)
        with engine.begin() as connection:
            _lock_against_others(connection)
            revision = _revision(connection)
            if revision == script.get_current_head():
                return
            if revision is not None and revision not in {step.revision for step in script.walk_revisions()}:
                raise DatabaseError(
                    f"the database {name_of(engine)} was made by a newer Mammoscope (revision {revision}); install "
                    "that version again, or give this one a database of its own"
                )
            if revision is not None:
                _keep_copy(engine, revision)
            config.attributes["connection"] = connection
            try:
                if not MigrationContext.configure(connection).get_current_heads() and revision is not None:
                    command.stamp(config, revision)
                command.upgrade(config, "head")
            except (OSError, MemoryError):
                raise
            except Exception as error:  # whatever a migration meets in what a node has kept for years
                raise DatabaseError(
                    f"the database {name_of(engine)} could not be brought from revision {revision} to "
                    f"{script.get_current_head()} ({_why(error)}): it is as it was, and the version of "
                    "Mammoscope that made it still runs on it; report this"
                ) from error
            if revision is not None:
                log.info("database migrated", before=revision, now=script.get_current_head())


def _why(error: Exception) -> str:
    return in_words(error) if isinstance(error, SQLAlchemyError) else where_raised(error)


def _revision(connection: sa.Connection) -> str | None:
    """What made the tables that are there; ``None`` for an empty database."""
    heads = MigrationContext.configure(connection).get_current_heads()
    if heads:
        return ", ".join(heads)
    return FIRST_REVISION if sa.inspect(connection).has_table("versions") else None


def _keep_copy(engine: sa.Engine, revision: str) -> None:
    """Copy a SQLite file as it is before a migration; PostgreSQL has backups of its own."""
    if not _is_sqlite(engine) or engine.url.database is None:
        return
    file = Path(engine.url.database)
    copy = file.with_name(f"{file.stem}-{revision}{file.suffix}")
    partial = copy.with_name(f".{copy.name}.part")
    try:
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(partial)) as target:
            source.backup(target)
        partial.replace(copy)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(
            f"the database {file} cannot be copied to {copy.name} before its migration ({error}): free some disk space "
            "and start again"
        ) from None


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

    replace_broken_connections(engine)
    return engine


_BROKEN = ("readonly database", "disk I/O error")
"""What SQLite says on a connection that may stay as it is for ever: one that could be opened for reading only, say."""


def replace_broken_connections(engine: sa.Engine) -> None:
    """Have a SQLite connection that an error has made useless replaced by a new one, instead of used again.

    Where a database file cannot be opened to be written, for a moment (no descriptor left, an input/output error),
    SQLite opens it to be read, and all that is written by that connection fails from then on.
    """

    @sa.event.listens_for(engine, "handle_error")
    def judge(context: sa.engine.ExceptionContext) -> None:
        said = str(context.original_exception)
        if any(words in said for words in _BROKEN):
            context.is_disconnect = True


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


_REMEDIES = {
    "database or disk is full": "make room on its disk",
    "disk I/O error": "its disk is full or broken: make room on it, and look at the system's log",
    "database is locked": "another program holds it: end that one, or try again",
    "readonly database": "give this account the right to write there, or use the account of the node",
    "unable to open database file": "give this account the right to write there, and make room on its disk",
}
"""By what SQLite says."""


def in_words(error: SQLAlchemyError) -> str:
    """What the database itself said, its first line, and what to do about it; no values of any statement."""
    words = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()
    said = without_secrets(words[0]) if words else type(error).__name__
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in said), None)
    return said if remedy is None else f"{said}; {remedy}"


def where_and_why(error: BaseException) -> str:
    """Where an error was raised, for a log, and of a database its own words, which quote no values."""
    where = where_raised(error)
    return f"{where}: {in_words(error)}" if isinstance(error, SQLAlchemyError) else where


class RecordStore(Closing):
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
