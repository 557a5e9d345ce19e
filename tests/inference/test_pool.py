import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydicom import Dataset

from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Box, ReadingStatus
from mammoscope.imaging import Laterality, Mammogram, View
from mammoscope.inference import METADATA_KEY, BundleError, BundleMetadata, Detector, shipped_bundle
from mammoscope.inference.pool import ModelError, ModelLostError, ModelPool, shares

METADATA = {
    "name": "small",
    "version": "1.2",
    "input": {"rows": 64, "columns": 32, "crop": "none"},
    "classes": ["Mass"],
    "operating_points": [{"name": "default", "threshold": 0.4, "rule": "highest F1", "chosen_on": "val"}],
    "training_data": [],
    "made_with": "the tests",
}


def write_bundle(path: Path, *, score: float = 0.5, label: int = 0, left: float = 4, **metadata: object) -> Path:
    """A bundle whose network proposes one box, whatever it sees."""
    helper, tensor = onnx.helper, onnx.TensorProto
    constants = {
        "boxes": helper.make_tensor("b", tensor.FLOAT, (1, 4), [left, 8, 12, 24]),
        "scores": helper.make_tensor("s", tensor.FLOAT, (1,), [score]),
        "labels": helper.make_tensor("l", tensor.INT64, (1,), [label]),
    }
    graph = helper.make_graph(
        [helper.make_node("Constant", [], [name], value=value) for name, value in constants.items()],
        "one box",
        [helper.make_tensor_value_info("image", tensor.FLOAT, (1, 1, 64, 32))],
        [helper.make_tensor_value_info(n, v.data_type, list(v.dims)) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    written = BundleMetadata.model_validate({**METADATA, **metadata}).model_dump_json()
    helper.set_model_props(model, {METADATA_KEY: written})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(tmp_path / "small.onnx")


@pytest.fixture
def pool(bundle):
    with ModelPool(bundle, processes=1, threads=1) as pool:
        yield pool


def mammogram(name: str = "1.2.3", rows: int = 128, columns: int = 96) -> Mammogram:
    pixels = np.zeros((rows, columns), np.uint16)
    pixels[:, : columns // 2] = np.arange(rows, dtype=np.uint16)[:, None] * 100 + 100
    header = Dataset()
    header.PatientName = "DOE^JANE"
    return Mammogram(pixels, name, Laterality.LEFT, View.CC, header=header)


def test_it_reads_as_the_detector_does(bundle, pool):
    reading = pool.read(mammogram())
    assert reading.status is ReadingStatus.FOUND
    # 64 x 32 of the network are 128 x 96 of the image: y doubles, x triples
    assert reading.findings[0].box == Box(12, 16, 36, 48)
    assert reading == Detector(bundle, threads=1).read(mammogram())
    assert pool.algorithm == reading.algorithm == Algorithm("small", "1.2")
    assert pool.metadata.classes == ("Mass",)


@pytest.mark.slow
def test_threshold(bundle, pool):
    assert pool.threshold == pool.read(mammogram()).threshold == 0.4
    assert pool.read(mammogram(), 0.7).status is ReadingStatus.NOTHING_FOUND
    with ModelPool(bundle, processes=1, threads=1, threshold=0.6) as stricter:
        assert stricter.threshold == stricter.read(mammogram()).threshold == 0.6
        assert stricter.read(mammogram()).status is ReadingStatus.NOTHING_FOUND
        assert stricter.read(mammogram(), 0.5).status is ReadingStatus.FOUND


def wait_until_taken(pool: ModelPool) -> None:
    """Until the pool's only process has a mammogram to read."""
    until = time.monotonic() + 60
    while pool._pool._idle.qsize():
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.3)  # from taking the process to sending to it


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_ends_one_try_only(pool, number):
    [crashed] = pool.process_ids
    os.kill(crashed, signal.SIGSTOP)  # so that it is at work when it dies
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(pool.read, mammogram("1.2.9"))
        wait_until_taken(pool)
        os.kill(crashed, number)
        with contextlib.suppress(ProcessLookupError):  # ended and cleared away already
            os.kill(crashed, signal.SIGCONT)
        with pytest.raises(ModelLostError, match=rf"ended while it read 1\.2\.9 \({number.name}\)") as told:
            answer.result()
    assert "DOE" not in str(told.value)
    assert pool.read(mammogram()).status is ReadingStatus.FOUND
    [replaced] = pool.process_ids
    assert replaced != crashed


def wait_until_gone(pool: ModelPool) -> None:
    until = time.monotonic() + 60
    while pool.process_ids:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_one_that_died_idle_is_replaced_unnoticed(pool):
    [pid] = pool.process_ids
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pool)
    assert pool.read(mammogram()).status is ReadingStatus.FOUND


@pytest.mark.slow
def test_a_hang_is_ended_and_the_others_go_on(bundle):
    with ModelPool(bundle, processes=2, threads=1, timeout=10) as pool, ThreadPoolExecutor(4) as threads:
        [stopped] = pool.process_ids
        os.kill(stopped, signal.SIGSTOP)
        tries = [threads.submit(pool.read, mammogram(f"1.2.{n}")) for n in range(4)]
        errors = [error for error in (one.exception() for one in tries) if error]
        assert [type(error) for error in errors] == [ModelLostError]
        assert "within 10 s" in str(errors[0])
        assert stopped not in pool.process_ids
        assert pool.read(mammogram()).status is ReadingStatus.FOUND


@pytest.mark.slow
def test_as_many_processes_as_threads_ask_but_no_more_than_set(bundle):
    with ModelPool(bundle, processes=2, threads=1) as pool, ThreadPoolExecutor(4) as threads:
        assert len(pool.process_ids) == 1
        barrier = threading.Barrier(4)

        def read(number: int) -> str:
            barrier.wait(60)
            return pool.read(mammogram(f"1.{number}", 2000, 1500)).name

        for _ in range(30):  # on a busy machine the first may be done before the next thread asks
            assert sorted(threads.map(read, range(4))) == ["1.0", "1.1", "1.2", "1.3"]
            if len(pool.process_ids) > 1:
                break
        assert len(pool.process_ids) == 2
    assert pool.process_ids == ()


def test_what_fails_in_the_model_costs_no_process(tmp_path):
    bundle = write_bundle(tmp_path / "wrong.onnx", label=7)  # a class that the bundle does not name
    with ModelPool(bundle, processes=1, threads=1) as pool:
        before = pool.process_ids
        with pytest.raises(
            ModelError, match=r"the model gave a label that none of its classes has for 1\.2\.3: "
        ) as told:
            pool.read(mammogram())
        assert not isinstance(told.value, ModelLostError)
        assert pool.process_ids == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"left": float("nan")}, "a box or a score that is not a finite number"),
        ({"left": float("-inf")}, "a box or a score that is not a finite number"),
        ({"score": float("nan")}, "a box or a score that is not a finite number"),
        ({"score": float("inf")}, "a box or a score that is not a finite number"),
        ({"score": 7.0}, "a score that is not between 0 and 1"),
        ({"score": -0.5}, "a score that is not between 0 and 1"),
    ],
)
@pytest.mark.parametrize("calibrated", [False, True])
def test_numbers_that_are_none_are_never_nothing_found(tmp_path, wrong, sentence, calibrated):
    calibration = {"slope": 1.5, "intercept": 0.25, "rule": "any", "fitted_on": "any"} if calibrated else None
    bundle = write_bundle(tmp_path / "wrong.onnx", calibration=calibration, **{"score": 0.99, **wrong})
    with pytest.raises(ModelError, match=rf"the model gave {sentence} for 1\.2\.3"):
        Detector(bundle, threads=1).read(mammogram())
    if not calibrated:
        with (
            ModelPool(bundle, processes=1, threads=1) as pool,
            pytest.raises(ModelError, match=rf"the model gave {sentence} for 1\.2\.3"),
        ):
            pool.read(mammogram())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no model bundle"), (b"no model", "is not a model that can be run")],
)
def test_a_bundle_that_cannot_be_run_is_told_at_the_start(tmp_path, content, sentence):
    file = tmp_path / "broken.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError, match=sentence):
        ModelPool(file, processes=1, threads=1)


def test_a_python_that_cannot_import_the_package_is_told(bundle, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MammoscopeError, match="the model's process does not start"):
        ModelPool(bundle, processes=1, threads=1)


@pytest.mark.slow
def test_a_bundle_that_was_exchanged_is_not_read_under_the_old_name(bundle, pool, tmp_path):
    shutil.copy(write_bundle(tmp_path / "new.onnx", version="2.0"), bundle)
    assert pool.read(mammogram()).algorithm == Algorithm("small", "1.2")
    os.kill(pool.process_ids[0], signal.SIGKILL)
    wait_until_gone(pool)
    with pytest.raises(BundleError, match="not the one that was there at the start"):
        pool.read(mammogram())


def test_a_closed_pool_reads_nothing(bundle):
    pool = ModelPool(bundle, processes=1, threads=1)
    pool.close()
    assert pool.process_ids == ()
    with pytest.raises(ValueError, match="closed"):
        pool.read(mammogram())


@pytest.mark.parametrize("arguments", [{"processes": 0}, {"threads": 0}, {"timeout": 0}])
def test_arguments_that_cannot_be(bundle, arguments):
    with pytest.raises(ValueError, match="at least one process"):
        ModelPool(bundle, **arguments)


@pytest.mark.parametrize(
    ("processes", "threads", "expected"),
    [
        (None, None, (4, 2)),
        (2, None, (2, 4)),
        (3, None, (3, 2)),
        (16, None, (16, 1)),
        (None, 1, (4, 1)),
        (1, 3, (1, 3)),
    ],
)
def test_eight_cores_are_shared(processes, threads, expected):
    assert shares(8, processes, threads) == expected


def test_one_core_is_enough():
    assert shares(1, None, None) == (1, 1)


SMALL = """
import sys
from pathlib import Path
import numpy as np
from mammoscope.imaging import Mammogram
from mammoscope.node import Node
from mammoscope.inference.pool import ModelPool

with ModelPool(processes=1, threads=1) as pool:
    pixels = np.zeros((4096, 3328), np.uint16)
    pixels[500:3500, :1500] = np.arange(1500)[None] * 20 + 9000
    pool.read(Mammogram(pixels, "1.2.3"))
print("loaded:", *sorted({"onnxruntime", "torch"} & set(sys.modules)))
# Not getrusage: its peak begins with that of the process that forked this one.
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's peak memory is read from /proc")
def test_the_calling_process_stays_small():
    assert shipped_bundle().is_file()
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded, peak = done.stdout.splitlines()[-2:]
    assert loaded.strip() == "loaded:"
    assert int(peak) < 300
