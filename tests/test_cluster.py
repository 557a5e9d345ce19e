"""Two nodes' processes of one Ray cluster on this machine; some tests kill one, some the process that talks to Ray."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mammoscope.cluster import MOST_DEATHS, ClusterError, RayCluster
from mammoscope.errors import MammoscopeError

WORK = '''
import os, time
from pathlib import Path

def waits(number, folder):
    """Notes the node that begins it, and is done when there is a file "go"."""
    import ray

    Path(folder, f"{number} {ray.get_runtime_context().get_node_id()} {os.getpid()}").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.05)
    return number * number, b"x" * 200_000  # more than Ray sends along with its answer

def refuses(number, which):
    from mammoscope.errors import MammoscopeError

    if number == which:
        raise MammoscopeError(f"number {which} is not read")
    return number

def stumbles(_):
    raise ZeroDivisionError

def sleeps(seconds):
    time.sleep(seconds)
    return seconds
'''


def _work_of(cluster: SimpleNamespace) -> ModuleType:
    """Functions that the cluster's nodes can import."""
    (cluster.work_folder / "cluster_work.py").write_text(WORK)
    sys.modules.pop("cluster_work", None)
    return importlib.import_module("cluster_work")


@pytest.fixture
def work(lasting_ray_cluster: SimpleNamespace) -> ModuleType:
    return _work_of(lasting_ray_cluster)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Where work notes that it was begun."""
    folder = tmp_path / "begun"
    folder.mkdir()
    return folder


def _wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def _drivers() -> list[int]:
    """The processes of this one that talk to Ray."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"mammoscope.ray_driver" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Collected(threading.Thread):
    """What a map gives, collected beside the test."""

    def __init__(self, results) -> None:
        super().__init__(daemon=True)
        self.results, self.taken, self.error = results, [], None
        self.start()

    def run(self) -> None:
        try:
            for value, _ in self.results:
                self.taken.append(value)
        except MammoscopeError as error:
            self.error = error


def test_what_a_dead_node_was_doing_is_done_again_and_counted_once(ray_cluster, begun: Path):
    work = _work_of(ray_cluster)

    def noted() -> list[tuple[str, str]]:
        return [tuple(path.name.split()[:2]) for path in begun.iterdir() if path.name != "go"]

    with RayCluster(ray_cluster.address) as spread:
        collected = Collected(spread.map(partial(work.waits, folder=begun), range(10)))
        _wait(lambda: len({node for _, node in noted()}) == 2)
        ray_cluster.kill_second()
        (begun / "go").touch()
        collected.join(240)
    assert (collected.error, collected.taken) == (None, [number * number for number in range(10)])
    numbers = [number for number, _ in noted()]
    assert len(numbers) > len(set(numbers))  # one was begun on both nodes


def test_an_error_of_the_work_is_the_callers_and_the_cluster_goes_on(lasting_ray_cluster, work):
    """What is under way when it comes is not cancelled: Ray's core ended its process by chance when it was."""
    with RayCluster(lasting_ray_cluster.address) as spread:
        for which in (2, 0, 4):
            results = spread.map(partial(work.refuses, which=which), range(5))
            assert [next(results) for _ in range(which)] == list(range(which))
            with pytest.raises(MammoscopeError, match=rf"^number {which} is not read$"):
                next(results)
        with pytest.raises(ClusterError, match=r"failed \(ZeroDivisionError\)"):
            list(spread.map(work.stumbles, [1]))
        assert list(spread.map(abs, [-1, -2])) == [1, 2]


def test_what_nobody_waits_for_any_more_is_ended_on_the_cluster(lasting_ray_cluster, work, begun: Path):
    with RayCluster(lasting_ray_cluster.address) as spread:
        results = spread.map(partial(work.waits, folder=begun), range(4))
        collected = Collected(results)
        _wait(lambda: len(list(begun.iterdir())) == 2)
        workers = [int(path.name.split()[2]) for path in begun.iterdir()]
        (driver,) = _drivers()
        os.kill(driver, signal.SIGTERM)  # as when its caller is gone
        _wait(lambda: not any(map(_running, workers)))
        (begun / "go").touch()
        collected.join(240)
        assert (collected.error, collected.taken) == (None, [0, 1, 4, 9])

        left = spread.map(work.sleeps, [0, 600, 600])
        assert next(left) == 0
        left.close()
        assert list(spread.map(work.sleeps, [0, 0])) == [0, 0]
    assert not _drivers()


def test_ray_that_ends_its_process_costs_nothing_but_a_sentence(
    lasting_ray_cluster, work, begun: Path, caplog: pytest.LogCaptureFixture
):
    with RayCluster(lasting_ray_cluster.address) as spread:
        collected = Collected(spread.map(partial(work.waits, folder=begun), range(6)))
        _wait(lambda: len(list(begun.iterdir())) == 2)
        (driver,) = _drivers()
        os.kill(driver, signal.SIGABRT)
        (begun / "go").touch()
        collected.join(240)
    assert (collected.error, collected.taken) == (None, [number * number for number in range(6)])
    (sentence,) = [record.getMessage() for record in caplog.records if record.name == "mammoscope.cluster"]
    assert sentence == (
        f"the process that talks to the Ray cluster at {lasting_ray_cluster.address} died (SIGABRT); 0 of 6 parts of "
        "the work are done, and another continues"
    )


def test_ray_that_ends_its_process_each_time_is_given_up(lasting_ray_cluster, work, begun: Path):
    with RayCluster(lasting_ray_cluster.address) as spread:
        collected = Collected(spread.map(partial(work.waits, folder=begun), range(6)))
        killed = set()
        while collected.is_alive() and len(killed) < 2 * MOST_DEATHS:
            for driver in _drivers():
                if driver not in killed and list(begun.iterdir()):
                    os.kill(driver, signal.SIGKILL)
                    killed.add(driver)
            time.sleep(0.05)
        collected.join(60)
    assert str(collected.error).startswith(
        f"the process that talks to the Ray cluster at {lasting_ray_cluster.address} died (SIGKILL) {MOST_DEATHS} "
        "times in a row, with 0 of 6 parts of the work done"
    )


def test_ray_is_never_loaded_into_the_callers_process(lasting_ray_cluster):
    loaded = "ray" in sys.modules
    with RayCluster(lasting_ray_cluster.address) as spread:
        assert list(spread.map(abs, [-1])) == [1]
    assert ("ray" in sys.modules) == loaded


def test_no_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'mammoscope\[ray\]'"):
        RayCluster("auto")
