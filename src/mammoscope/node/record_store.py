"""What every part of the records has: the database, once to read and once to write."""

from pathlib import Path
from typing import Self

import sqlalchemy as sa

from mammoscope.node.database import name_of, open_database, reading_only


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
