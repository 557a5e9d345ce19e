"""Two nodes' processes of one Ray cluster on this machine; some tests kill one."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mammoscope.cluster import ClusterError, RayCluster

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'mammoscope[ray]')")


def _wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_what_a_dead_node_was_doing_is_done_again_and_counted_once(ray_cluster, tmp_path: Path):
    go = tmp_path / "go"

    def work(number: int) -> tuple[int, bytes]:
        node = ray.get_runtime_context().get_node_id()
        (tmp_path / f"{number} {node}").touch()
        while not go.exists():
            time.sleep(0.05)
        return number * number, b"x" * 200_000  # more than Ray sends along with its answer

    def begun() -> list[tuple[str, str]]:
        return [tuple(path.name.split()) for path in tmp_path.iterdir() if path != go]

    with RayCluster(ray_cluster.address) as spread:
        results = spread.map(work, range(10))
        taken: list[int] = []
        thread = threading.Thread(target=lambda: taken.extend(value for value, _ in results))
        thread.start()
        _wait(lambda: len({node for _, node in begun()}) == 2)
        ray_cluster.kill_second()
        go.touch()
        thread.join(240)
    assert taken == [number * number for number in range(10)]
    numbers = [number for number, _ in begun()]
    assert len(numbers) > len(set(numbers))  # one was begun on both nodes


def test_an_error_of_the_work_is_the_callers_and_the_cluster_goes_on(ray_cluster):
    def refuses(number: int) -> int:
        from mammoscope.errors import MammoscopeError

        if number == 2:
            raise MammoscopeError("number 2 is not read")
        return number

    def stumbles(_: int) -> int:
        raise ZeroDivisionError

    with RayCluster(ray_cluster.address) as spread:
        results = spread.map(refuses, range(5))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(Exception, match=r"^number 2 is not read$"):
            next(results)
        with pytest.raises(ClusterError, match=r"failed \(ZeroDivisionError\)"):
            list(spread.map(stumbles, [1]))
        assert list(spread.map(abs, [-1, -2])) == [1, 2]


def test_no_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install 'mammoscope\[ray\]'"):
        RayCluster("auto")
