"""Times steps of recipes' networks: images a second and memory, by precision and layout. See docs/gpu.md.

``python gpu/probe.py RECIPE [RECIPE ...] --out probe.json``
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

_STEPS, _WARM_UP = 20, 3


def probe(recipe: Any, precision: str, layout: str, steps: int) -> dict[str, Any]:
    """What one network does with drawn pictures of its input and batch: forward, losses, backward, optimiser."""
    import torch

    from mammoscope.detectors import Truth, build_detector, count_parameters
    from mammoscope.training.optim import MixedPrecision, build_optimiser, keep_boxes_precise, precision_on

    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, rows, columns = recipe.schedule.batch, recipe.input.rows, recipe.input.columns
    described = {"recipe": recipe.name, "rows": rows, "columns": columns, "batch": batch, "precision": precision,
                 "layout": layout}  # fmt: skip
    detector = build_detector(recipe.detector, load_weights=False).to(device).train()
    if layout == "channels_last":
        detector = detector.to(memory_format=torch.channels_last)
    keep_boxes_precise(detector)
    mixed = MixedPrecision(precision_on(device, precision), device)
    optimiser = build_optimiser(detector, recipe.optimiser)
    images = torch.rand(batch, 1, rows, columns, device=device)
    box = torch.tensor([[columns / 4, rows / 4, columns / 2, rows / 2]], device=device)
    truth = Truth.from_targets([{"boxes": box, "labels": torch.zeros(1, dtype=torch.int64, device=device)}] * batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        for step in range(steps + _WARM_UP):
            if step == _WARM_UP:
                _wait(device)
                began = time.perf_counter()
            optimiser.zero_grad()
            with mixed.autocast():
                losses = detector(images, truth)
            mixed.scaled(sum(losses.values(), torch.zeros((), device=device))).backward()
            mixed.step(optimiser, recipe.optimiser.clip_norm)
    except torch.OutOfMemoryError:
        return described | {"problem": "the device's memory is too small for this batch: give a smaller one"}
    _wait(device)
    seconds = (time.perf_counter() - began) / steps
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return described | {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "parameters": count_parameters(detector),
        "seconds_a_step": round(seconds, 4),
        "images_a_second": round(batch / seconds, 1),
        "memory_gib": None if memory is None else round(memory, 2),
    }


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    """0 if every network was tried, else 2."""
    from mammoscope.errors import MammoscopeError
    from mammoscope.training import load_recipe

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="key=value of every recipe")
    parser.add_argument("--steps", type=int, default=_STEPS)
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for file in arguments.recipes:
            recipe = load_recipe(file, tuple(arguments.set))
            steps = min(arguments.steps, recipe.schedule.iterations)  # a rehearsal has few
            for precision, layout in dict.fromkeys(
                ((recipe.schedule.precision, "channels_last"), ("fp32", "channels_last"), ("fp32", "contiguous"))
            ):
                found.append(probe(recipe, precision, layout, steps))
                print(json.dumps(found[-1]), flush=True)
                arguments.out.write_text(json.dumps(found, indent=1))  # what is known is kept if time runs out
    except (MammoscopeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
