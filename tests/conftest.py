"""What every room's tests share: where the real data lies, and the rule that CI skips nothing."""

import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes test on each core: threads of arithmetic would only wait for each other, and spin meanwhile.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest
import structlog

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


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    def find(count: int) -> list[int]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [s.getsockname()[1] for s in sockets]
        for s in sockets:
            s.close()
        return ports

    return find


@pytest.fixture(scope="session")
def hl7_listener() -> Callable[..., AbstractContextManager[Any]]:
    """`tests/hl7_listener.py`'s `listener`."""
    spec = importlib.util.spec_from_file_location("hl7_listener", ROOT / "tests" / "hl7_listener.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.listener


@pytest.fixture
def webhook() -> Iterator[SimpleNamespace]:
    """Who is told by POST: ``url``, and what it ``got`` as (path, Authorization, document); /closed refuses."""
    got: list[tuple[str, str | None, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(403 if self.path.endswith("/closed") else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", got=got)
        server.shutdown()


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """What a command does to the log of its process is of no other test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_configure() -> None:
    # A test run in the background inherits an ignored SIGINT and would pass it on to what it interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What 'make quick' leaves out: training, whole nodes and commands in processes of their own, real peers, clusters.
SLOW = (
    "tests/cli", "tests/deploy", "tests/detectors", "tests/explain", "tests/gpu", "tests/network", "tests/phantom",
    "tests/training", "tests/test_agreement.py", "tests/test_cluster.py", "tests/test_demo.py", "tests/test_house.py",
    "tests/imaging/test_fuzz.py", "tests/imaging/test_shared_data.py", "tests/datasets/audit",
    "tests/datasets/collections", "tests/datasets/formats",
)  # fmt: skip
QUICK_OF_NODE = ("tests/node/storage", "tests/node/db", "tests/node/jobs/test_study_completion.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones."""
    for item in items:
        if not item.path.is_relative_to(ROOT):
            continue
        file = item.path.relative_to(ROOT).as_posix()
        slow = file.startswith(SLOW) or (file.startswith("tests/node") and not file.startswith(QUICK_OF_NODE))
        if slow or any(item.iter_markers("pacs")) or any(item.iter_markers("validators")):
            item.add_marker(pytest.mark.slow)


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


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 12 small pictures of 6 patients: a breast with one bright mass, or with none (every fourth)."""
    folder = tmp_path_factory.mktemp("tiny-dataset")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :96] + 0.5
    images, annotations = [], []
    for number in range(12):
        pixels = 20 + 90 * ((x / 80) ** 2 + ((y - 64) / 55) ** 2 < 1) + rng.normal(0, 4, y.shape)
        if number % 4 != 3:
            middle_x, middle_y, half = rng.uniform(20, 45), rng.uniform(45, 83), rng.uniform(10, 14)
            pixels += 110 * np.exp(-((np.hypot(x - middle_x, y - middle_y) / half) ** 4))
            box = [middle_x - half, middle_y - half, 2 * half, 2 * half]
            annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 4 * half**2})
        name = f"{number:02}.png"
        cv2.imwrite(str(folder / "images" / name), np.clip(pixels, 0, 255).astype(np.uint8))
        split = "train" if number < 8 else "val"
        images.append(
            {
                "id": number,
                "file_name": name,
                "height": 128,
                "width": 96,
                "patient_id": f"p{number // 2}",
                "split": split,
            }
        )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Mass"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="session")
def tiny_recipe(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The recipe of a training of seconds; called with the run's folder and ``section__key=value`` to change."""

    def write(run: Path, **changes: object) -> Path:
        recipe: dict[str, dict[str, object]] = {
            "data": {"dataset": str(tiny_dataset), "source": "drawn by the tests", "licence": "CC0"},
            "input": {"rows": 64, "columns": 64},
            "detector": {
                "architecture": "retinanet", "backbone": "tf_efficientnet_lite0", "weights": "imagenet",
                "frozen_stages": 0, "fpn_channels": 32, "norm": "group", "anchor_scale": 16, "score_threshold": 0.005,
            },
            "augmentation": {"rotation_degrees": 10.0, "noise": 0.02},
            "optimiser": {"kind": "adamw", "learning_rate": 3e-3, "clip_norm": 1.0},
            "schedule": {"iterations": 24, "batch": 4, "decay": "cosine", "ema": 0.9},
            "run": {"folder": str(run), "seed": 3, "checkpoint_every": 4, "validate_every": 12, "threads": 1},
        }  # fmt: skip
        for change, value in changes.items():
            section, key = change.split("__")
            recipe[section][key] = value
        lines = ['name = "tiny"']
        for section, values in recipe.items():
            # JSON's strings, numbers and lists are TOML's too; a key whose value is None is left out.
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
        file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
        file.write_text("\n".join(lines))
        return file

    return write


@dataclass(frozen=True)
class KilledRun:
    """A run that was killed by SIGKILL after a checkpoint and gone on with by the same command."""

    folder: Path
    recipe: Path
    iteration_when_killed: int
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def killed_run(tiny_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> KilledRun:
    """``mammoscope train``, killed, and again to its end."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("runs") / "killed"
    recipe = tiny_recipe(folder)
    command = [sys.executable, "-m", "mammoscope", "train", str(recipe)]
    checkpoint = folder / "checkpoint.pt"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as first:
        until = time.monotonic() + 300
        while not checkpoint.is_file() and first.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        first.kill()
    assert first.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    iteration = torch.load(checkpoint, weights_only=True)["iteration"]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return KilledRun(folder, recipe, iteration, second)


@dataclass(frozen=True)
class SeededModel:
    """An untrained detector whose head proposes boxes of widely different scores, in torch and as a bundle."""

    detector: Any
    recipe: Any
    bundle: Path


@pytest.fixture(scope="session", params=["retinanet", "faster_rcnn"])
def seeded_model(
    request: pytest.FixtureRequest, tiny_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> SeededModel:
    torch = pytest.importorskip("torch")
    from mammoscope.detectors import build_detector
    from mammoscope.inference import BundleInput, BundleMetadata, OperatingPoint, TrainingData
    from mammoscope.training import load_recipe, write_bundle

    folder = tmp_path_factory.mktemp(request.param)
    changes = {"detector__architecture": request.param, "detector__norm": "none", "input__rows": 256}
    recipe = load_recipe(tiny_recipe(folder, **changes, input__columns=160, detector__score_threshold=0.02))
    torch.manual_seed(1)
    detector = build_detector(recipe.detector).eval()
    _spread_scores(detector)
    metadata = BundleMetadata(
        name="seeded",
        version="1",
        input=BundleInput(rows=256, columns=160, crop=recipe.input.crop),
        classes=recipe.detector.classes,
        operating_points=(
            OperatingPoint(name="default", threshold=0.5, rule="by hand", chosen_on="nothing"),
            OperatingPoint(name="sensitive", threshold=0.1, rule="by hand", chosen_on="nothing"),
        ),
        training_data=(TrainingData(name="none", licence="CC0", images=0, patients=0, fingerprint=""),),
        made_with="the tests",
    )
    bundle = folder / "seeded.onnx"
    write_bundle(detector, metadata, bundle)
    return SeededModel(detector, recipe, bundle)


def _spread_scores(detector: Any) -> None:
    """Scale what gives scores until they lie far apart: an untrained head's near ties are turned round by rounding."""
    import torch

    sample = torch.rand(1, 1, 256, 160, generator=torch.Generator().manual_seed(0))
    layers = [module for name, module in detector.named_modules() if name.endswith(("cls_logits", "cls_score"))]
    for layer in layers:  # a proposal's score before that of the detection made from it
        given = []
        handle = layer.register_forward_hook(
            lambda _module, _inputs, output, given=given: given.append(output.flatten())
        )
        with torch.no_grad():
            detector(sample)
            values = torch.cat(given)
            layer.weight *= 2 / values.std()
            layer.bias.zero_()
        handle.remove()


CLONE_NEWNET = 0x40000000


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Enter a new network namespace with a loopback interface only, where that is allowed."""
    name = f"mammoscope-{uuid.uuid4().hex[:8]}"
    if os.geteuid() != 0 or subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        with Path(
            "/proc/self/task", str(os.gettid() if hasattr(os, "gettid") else os.getpid()), "ns/net"
        ).open() as home:
            with Path("/var/run/netns", name).open() as inside:
                assert libc.setns(inside.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(scope="session")
def loopback_only() -> Callable[[], AbstractContextManager[None]]:
    """For servers that listen on every interface, whatever they are told."""
    return _loopback_only


@contextmanager
def _ray_cluster(folder: Path) -> Iterator[SimpleNamespace]:
    """A Ray cluster of two nodes' processes on the loopback interface, a processor each; the second can be killed.

    Its nodes import what lies in ``work_folder``.
    """
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed (pip install 'mammoscope[ray]')")
    work_folder = folder / "work"
    work_folder.mkdir()
    command = [sys.executable, str(ROOT / "tests" / "run_ray_cluster.py")]
    path = os.pathsep.join(filter(None, [str(work_folder), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}
    with (
        _loopback_only(),
        pytest.MonkeyPatch.context() as patch,
        (folder / "ray.log").open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as process,
    ):
        patch.syspath_prepend(work_folder)

        def told(word: str) -> str:
            for line in process.stdout:
                if line.startswith(word):
                    return line.removeprefix(word).strip()
            raise AssertionError((folder / "ray.log").read_text()[-3000:])

        def kill_second() -> None:
            process.stdin.write("kill\n")
            process.stdin.flush()
            told("killed")

        try:
            yield SimpleNamespace(address=told("address"), kill_second=kill_second, work_folder=work_folder)
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Ray cluster for a test that kills a node of it."""
    with _ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def lasting_ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Ray cluster for the tests that leave it whole."""
    with _ray_cluster(tmp_path_factory.mktemp("ray")) as cluster:
        yield cluster
