"""What every room's tests share: where the real data lies, and the rule that CI skips nothing."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real mammograms, beside the repository or where MAMMOSCOPE_SHARED says."""
    folder = Path(os.environ.get("MAMMOSCOPE_SHARED") or ROOT.parent / "shared") / "data"
    if not folder.is_dir():
        pytest.skip("the real mammograms (../shared/data) are not on this machine")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # noqa: ARG001
    report = yield
    return _failed_if_skipped_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):  # noqa: ARG001
    report = yield
    return _failed_if_skipped_in_ci(report)


def _failed_if_skipped_in_ci(report):
    """A skip says "not on this machine". CI has everything, so there it means that something was not tested."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and CI=true allows no skips: {reason}"
    return report
