"""What ``/openapi.json`` says of the JSON side is so, whatever is sent: tried by schemathesis."""

from pathlib import Path

import pytest
import schemathesis
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from mammoscope.review import Accounts, DatasetStudies, ReadingRoom, Role, make_app

pytestmark = pytest.mark.slow

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection,
]  # fmt: skip
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def app(small_dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory):
    room = ReadingRoom(DatasetStudies(*small_dataset), tmp_path_factory.mktemp("room"))
    room.accounts = Accounts(room.store.database, PasswordHasher(1, 8, 1))
    room.accounts.add("Anna", PASSWORD, Role.READER)
    room.sync()
    yield make_app(room)
    room.stop()


@pytest.fixture(scope="module")
def described(app):
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module")
def sent(app) -> dict[str, str]:
    """What a browser that is logged in sends along."""
    client = TestClient(app)
    client.post("/login", data={"name": "Anna", "password": PASSWORD, "to": "/worklist"})
    page = client.get("/worklist").text
    return {
        "Cookie": f"mammoscope_session={client.cookies['mammoscope_session']}",
        "X-Form-Token": page.partition('name="form-token" content="')[2].partition('"')[0],
    }


def test_every_answer_is_one_that_the_description_names(described, sent: dict[str, str]):
    tried = {}
    for found in described.exclude(path="/api/events").get_all_operations():  # a stream without an end
        operation = found.ok()
        statuses = tried.setdefault(operation.label, set())
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                _try(strategy, sent, statuses)
            except Unsatisfiable:  # nothing wrong can be sent to it
                assert mode is GenerationMode.NEGATIVE
    assert len(tried) >= 10
    assert {200, 404, 422} <= set().union(*tried.values())


def _try(strategy, sent: dict[str, str], statuses: set[int]) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def run(case: schemathesis.Case) -> None:
        answer = case.call(headers=sent)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    run()
