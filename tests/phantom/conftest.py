import pytest

from mammoscope.phantom import PhantomStudy, screening_study


@pytest.fixture(scope="session")
def small_study() -> PhantomStudy:
    return screening_study(5, masses=4, rows=512, columns=384)
