"""Databases of earlier versions, and of later ones."""

import importlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from mammoscope.node.db import engine as engine_module
from mammoscope.node.db import schema
from mammoscope.node.db.engine import DatabaseError, dialect_url, open_database
from mammoscope.node.db.repository import DeliveryStatus, Records, StudyState

OLD = Path(__file__).with_name("data") / "0.1.0.sql"
HEAD = "0004"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder whose database Mammoscope 0.1.0 made, with a study in each state."""
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        database.executescript(OLD.read_text())
    return tmp_path


def rows(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but Alembic's own."""
    with closing(sqlite3.connect(file)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: database.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in sorted(names)
                if name not in ("alembic_version", "versions")}  # fmt: skip


def dump(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


def test_nothing_of_an_old_database_is_lost(storage: Path) -> None:
    before = rows(storage / "node.sqlite")
    assert len(before["studies"]) == 6
    with Records.open(storage) as records:
        found = {record.study_instance_uid: record for record in records.studies()}
        to_read = {order.study for order in records.studies_to_read()}
    assert {record.state for record in found.values()} == set(StudyState)
    after = rows(storage / "node.sqlite")
    assert {
        table: [row[: len(before[table][0]) if before[table] else None] for row in now]
        for table, now in after.items()
        if table in before
    } == before

    states = {record.state: record for record in found.values()}
    assert states[StudyState.READING].objects[0].tries == 1
    assert states[StudyState.SENDING].reports[0].pending
    assert states[StudyState.PARKED].reports[0].deliveries[0].status is DeliveryStatus.PARKED
    assert states[StudyState.DONE].reports[0].problems == ("an image is odd",)
    assert states[StudyState.DONE].reports[0].absent_views == ()
    assert states[StudyState.FAILED].failures[0].reason == "no object could be made"
    assert to_read == {"1.2.1", "1.2.2"}


def test_the_database_before_is_kept_and_opened_again_by_nothing_newer(storage: Path) -> None:
    before = dump(storage / "node.sqlite")
    Records.open(storage).close()
    assert dump(storage / "node-0001.sqlite") == before
    Records.open(storage).close()  # up to date now: no second copy, no second migration
    assert sorted(file.name for file in storage.glob("node*.sqlite")) == ["node-0001.sqlite", "node.sqlite"]


def test_version_0_1_0_refuses_what_it_cannot_read(storage: Path) -> None:
    """It compares the number in this table with 1."""
    Records.open(storage).close()
    with closing(sqlite3.connect(storage / "node.sqlite")) as database:
        assert database.execute("SELECT version FROM versions").fetchall() == [(2,)]


def test_a_newer_database_is_refused_in_a_sentence(tmp_path: Path) -> None:
    Records.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "node.sqlite")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    before = dump(tmp_path / "node.sqlite")
    with pytest.raises(DatabaseError, match=r"newer Mammoscope \(revision 9999\); install that version again"):
        Records.open(tmp_path)
    assert dump(tmp_path / "node.sqlite") == before


def test_a_failed_migration_changes_nothing(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dump(storage / "node.sqlite")
    upgrade = engine_module.command.upgrade

    def fails_at_the_end(config: object, revision: str) -> None:
        upgrade(config, revision)
        raise RuntimeError

    monkeypatch.setattr(engine_module.command, "upgrade", fails_at_the_end)
    with pytest.raises(DatabaseError, match=r"could not be brought from revision 0001 .*: it is as it was"):
        Records.open(storage)
    assert dump(storage / "node.sqlite") == before
    monkeypatch.undo()
    Records.open(storage).close()


def test_no_copy_no_migration(storage: Path) -> None:
    before = dump(storage / "node.sqlite")
    (storage / ".node-0001.sqlite.part").mkdir()  # in the way of the copy
    with pytest.raises(DatabaseError, match=r"cannot be copied to node-0001\.sqlite before its migration"):
        Records.open(storage)
    assert dump(storage / "node.sqlite") == before


@pytest.fixture(params=["new", "old"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "old":
        request.getfixturevalue("storage")
    engine = open_database(tmp_path)
    yield engine
    engine.dispose()


def test_migrations_make_the_tables_that_the_code_knows(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_heads() == (HEAD,)
        assert compare_metadata(context, schema.metadata) == []


def test_postgresql_too(tmp_path: Path, storage: Path, postgresql: str) -> None:
    """The rows of the old SQLite file in tables of that version, which named no revision."""
    engine = sa.create_engine(dialect_url(postgresql))
    first = importlib.import_module("mammoscope.node.db.migrations.versions.0001_tables_of_0_1_0")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        first.upgrade()
    old = sa.MetaData()
    with sa.create_engine(f"sqlite:///{storage / 'node.sqlite'}").connect() as source, engine.begin() as target:
        old.reflect(target)
        target.execute(sa.delete(old.tables["versions"]))
        for table in old.sorted_tables:
            if rows := [dict(row) for row in source.execute(sa.select(table)).mappings()]:
                target.execute(sa.insert(table), rows)
    with Records.open(tmp_path, postgresql) as records:
        assert {record.state for record in records.studies()} == set(StudyState)
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer Mammoscope"):
        Records.open(tmp_path, postgresql)
    engine.dispose()
