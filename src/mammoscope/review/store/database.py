"""Opening the reading room's database: one SQLite file, brought up to date, safe for many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from mammoscope.review.errors import ReviewError

FILE = "review.sqlite"
BUSY_SECONDS = 30.0


class Database:
    """The database in a folder, which is made if it is not there.

    Raises
    ------
    ReviewError
        If it cannot be used, or was made by a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._engine = _engine(self.path)
            _bring_up_to_date(self._engine, self.path)
            self.path.chmod(0o600)
        except OSError as error:
            raise ReviewError(f"the folder {folder} cannot be written: {error.strerror}.") from None
        except SQLAlchemyError as error:
            words = str(getattr(error, "orig", None) or error).splitlines()
            raise ReviewError(f"the database {self.path} cannot be used ({words[0]}).") from None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Begin a transaction that only reads: it waits for nobody."""
        with self._engine.execution_options(reads_only=True).connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begin a transaction that may write; it is on the disk when the block ends without an error."""
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


def _engine(file: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": BUSY_SECONDS}, pool_size=20)

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, see below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a reader's action is on the disk when the page is told so
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _bring_up_to_date(engine: sa.Engine, path: Path) -> None:
    with as_file(files("mammoscope.review.store") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        script = ScriptDirectory.from_config(config)
        with engine.begin() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
            if heads == (script.get_current_head(),):
                return
            if not set(heads) <= {step.revision for step in script.walk_revisions()}:
                raise ReviewError(f"the database {path} was made by a newer Mammoscope: install that version again.")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
