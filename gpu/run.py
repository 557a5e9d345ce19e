"""Works through a plan on a GPU machine without internet, and goes on where it stopped. See docs/gpu.md.

``python gpu/run.py gpu/call-2.toml --pack pack --out OUT --minutes 9.5``
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pack import MANIFEST as PACK_MANIFEST
from parts import MIB, Limits, Outbox, PartsError, sha256_of
from plan import Plan, Stage, read_plan
from slim import CHECKPOINT, SLIM, expand, slim

REPOSITORY = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.2
_CLOSING_SECONDS = 15.0
"""Kept free of a stage's minutes for what comes after its last step: validation and report."""
_STOP_SECONDS = 15.0
"""How long a stage may take to stop before it is killed."""
_SHORTEST_SECONDS = 20.0
"""A stage that would have less is not started any more."""
_FIGURES = ("recipe.json", "pretrain.json", "figures.json", "curves.jsonl", "validation/metrics.json",
            "validation/report.md", "probe.json")  # fmt: skip


@dataclass
class Workplace:
    """The folder that commands run in: ``data`` and ``weights`` are the pack's, ``runs`` grows."""

    folder: Path
    pack: Path

    def set_up(self, *, install: bool) -> None:
        """Take in the pack, once: its files, its wheels and the runs that were carried in."""
        ready = self.folder / "ready"
        if ready.is_file():
            return
        check_pack(self.pack)
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        # Copied: the pack may be carried anew each time, and prepared pictures are kept beside the data.
        for name in ("data", "weights"):
            shutil.copytree(self.pack / name, self.folder / name, dirs_exist_ok=True)
        if not (self.folder / "recipes").is_symlink():
            (self.folder / "recipes").symlink_to(REPOSITORY / "recipes")
        for carried in sorted((self.pack / "runs").glob("*")):
            run = self.run(carried.name)
            if not (run / CHECKPOINT).is_file():
                shutil.copytree(carried, run, dirs_exist_ok=True)
                if (run / SLIM).is_file():
                    expand(run / SLIM, run)
        wheels = sorted((self.pack / "wheels").glob("*.whl"))
        if install and wheels:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
            subprocess.run([*command, "--upgrade", "--target", self._site, *wheels], check=True)
        ready.touch()

    def run(self, name: str) -> Path:
        """The folder of a stage's run."""
        return self.folder / "runs" / name

    def is_done(self, name: str) -> bool:
        """Whether a stage has come to its end."""
        return (self.folder / "done" / name).is_file()

    def mark_done(self, name: str) -> None:
        """Note that a stage has come to its end."""
        (self.folder / "done").mkdir(exist_ok=True)
        (self.folder / "done" / name).touch()

    def start(
        self, stage: Stage, environment: dict[str, str], seconds_left: float, changes: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a stage's command, or start it again: it goes on from its last checkpoint.

        Its schedule gets the stage's minutes, or the seconds that are left where those are fewer, and so ends well.
        """
        python = [sys.executable]
        if stage.command == "probe":  # of several recipes, which keep their names
            sets = [word for change in (*stage.changes, *changes) for word in ("--set", change)]
            out = f"runs/{stage.name}/probe.json"
            probe = str(REPOSITORY / "gpu" / "probe.py")
            command = [*python, probe, stage.recipe, *stage.candidates, *sets, "--out", out]
        else:
            made = (*stage.changes, *self._place_in_the_schedule(stage, seconds_left), *changes)
            sets = [word for change in made for word in ("--set", change)]
            command = [*python, "-m", "mammoscope", stage.command, stage.recipe, *sets]
        path = os.pathsep.join(filter(None, (str(self._site), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH"))))
        with (self.folder / "logs" / f"{stage.name}.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **environment, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # of its own, so that its loaders stop with it; no session, so that all end with this
            )

    @staticmethod
    def _place_in_the_schedule(stage: Stage, seconds_left: float) -> Iterator[str]:
        """What a stage's recipe is told of its name, its folder and its time."""
        # A fold's run lies in the folder fold-N of that of the whole.
        of_a_fold = any(change.startswith("data.fold=") for change in stage.changes)
        yield f"name={stage.name}"
        yield "run.folder=runs" if of_a_fold else f"run.folder=runs/{stage.name}"
        if stage.minutes is not None:
            seconds = max(min(stage.minutes * 60, seconds_left - _CLOSING_SECONDS), 1.0)
            yield f"schedule.minutes={seconds / 60:.4f}"

    @property
    def _site(self) -> Path:
        return (self.folder / "site").resolve()


class Queue:
    """Runs a plan's stages until all are done or the time is up."""

    def __init__(
        self,
        plan: Plan,
        place: Workplace,
        outbox: Outbox,
        ends: float,
        send_every: float,
        changes: tuple[str, ...] = (),
    ) -> None:
        self._plan, self._place, self._outbox, self._ends = plan, place, outbox, ends
        self._changes = changes
        self._send_every = send_every
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._failed: dict[str, int] = {}
        self._began = time.monotonic()

    def work(self) -> bool:
        """Whether all stages are done; what is not is left as its last checkpoint is."""
        try:
            self._until_the_end()
        finally:
            self._stop()
        return all(self._place.is_done(stage.name) for stage in self._plan.stages)

    def end(self, *_signal: object) -> None:
        """Let `work` come to its end now; the handler of signals."""
        self._ends = 0.0

    def _until_the_end(self) -> None:
        send_at = time.monotonic() + self._send_every
        while (waiting := self._startable()) or self._running:
            now = time.monotonic()
            if now >= self._ends:
                return
            if waiting and len(self._running) < self._plan.lanes and self._ends - now >= _SHORTEST_SECONDS:
                self._start(waiting[0])
                continue
            if not self._running:
                return
            for name in [name for name, process in self._running.items() if process.poll() is not None]:
                self._ended(name, self._running.pop(name).returncode)
            if now >= send_at:
                for name in self._running:
                    self._send(self._stage(name))
                send_at = now + self._send_every
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        """Stop what runs and send home how far it came."""
        for process in self._running.values():
            os.killpg(process.pid, signal.SIGINT)
        by = time.monotonic() + _STOP_SECONDS
        for name, process in self._running.items():
            try:
                process.wait(max(by - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._say(f"{name}: stopped; goes on next time")
            self._send(self._stage(name))
        self._running.clear()
        self._send_logs()

    def _startable(self) -> list[Stage]:
        return [
            stage
            for stage in self._plan.stages
            if not self._place.is_done(stage.name)
            and stage.name not in self._running
            and stage.name not in self._failed
            and (stage.after is None or self._place.is_done(stage.after))
        ]

    def _start(self, stage: Stage) -> None:
        left = self._ends - time.monotonic()
        self._running[stage.name] = self._place.start(stage, self._plan.environment, left, self._changes)
        self._say(f"{stage.name}: started")

    def _ended(self, name: str, code: int) -> None:
        if code == 0:
            self._place.mark_done(name)
            self._say(f"{name}: done")
        else:
            self._failed[name] = code
            log = (self._place.folder / "logs" / f"{name}.txt").read_text(errors="replace").strip()
            self._say(f"{name}: failed with exit code {code}: {log.splitlines()[-1] if log else 'it said nothing'}")
        self._send(self._stage(name))
        self._send_logs()

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self._plan.stages if stage.name == name)

    def _send(self, stage: Stage) -> None:
        run = self._place.run(stage.name)
        files = {name: run / name for name in _FIGURES if (run / name).is_file()}
        if stage.bring == "weights" and (run / CHECKPOINT).is_file():
            iteration = slim(run, run / SLIM)
            files[SLIM] = run / SLIM
            self._say(f"{stage.name}: iteration {iteration} goes home")
        if files:
            self._outbox.put(stage.name, 1 + self._plan.stages.index(stage), files)

    def _send_logs(self) -> None:
        logs = {path.name: path for path in (self._place.folder / "logs").iterdir()}
        self._outbox.put("logs", 0, logs)

    def _say(self, line: str) -> None:
        shown = f"{time.monotonic() - self._began:6.0f} s  {line}"
        print(shown, flush=True)
        with (self._place.folder / "logs" / "run.txt").open("a") as log:
            log.write(shown + "\n")


def check_pack(pack: Path) -> None:
    """Raise `PartsError` if a file of a pack is missing or damaged."""
    try:
        listed: dict[str, str] = json.loads((pack / PACK_MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise PartsError(f"{pack} is not a pack: make one with gpu/pack.py") from error
    for name, expected in listed.items():
        if not (pack / name).is_file() or sha256_of(pack / name) != expected:
            raise PartsError(f"{pack / name} is missing or damaged: carry the pack again")


def main() -> int:
    """0 if the whole plan is done, 1 if something is left for the next time, 2 if nothing could be started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--pack", type=Path, required=True, help="what gpu/pack.py made")
    parser.add_argument("--out", type=Path, required=True, help="the folder that comes home")
    parser.add_argument("--minutes", type=float, required=True, help="how long this command may work")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "runs" / "gpu", help="kept between commands")
    parser.add_argument("--no-install", action="store_true", help="everything needed is installed already")
    parser.add_argument("--part-mib", type=float, default=15.0, help="largest file that comes home")
    parser.add_argument("--total-mib", type=float, default=62.0, help="of all files that come home together")
    parser.add_argument("--files", type=int, default=8, help="how many files may come home")
    parser.add_argument("--send-every", type=float, default=3.0, help="minutes between parts of what still runs")
    parser.add_argument("--set", action="append", default=[], help="a recipe's key=value for every stage (rehearsals)")
    parser.add_argument("--again", action="store_true", help="send everything again, whatever was sent before")
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.minutes * 60 - _STOP_SECONDS
    memory = arguments.work / "outbox"
    if arguments.again:
        (memory / "sent.json").unlink(missing_ok=True)
    try:
        plan = read_plan(arguments.plan)
        place = Workplace(arguments.work, arguments.pack)
        place.set_up(install=not arguments.no_install)
        limits = Limits(arguments.files, int(arguments.part_mib * MIB), int(arguments.total_mib * MIB))
        outbox = Outbox(arguments.out, memory, limits)
    except (PartsError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    queue = Queue(plan, place, outbox, ends, arguments.send_every * 60, tuple(arguments.set))
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, queue.end)
    done = queue.work()
    print(f"{'all done' if done else 'start the same command again'}; {outbox.waiting} parts wait for the next time")
    return 0 if done and not outbox.waiting else 1


if __name__ == "__main__":
    sys.exit(main())
