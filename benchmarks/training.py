"""Training: images a second of our step beside torchvision's reference loop, and where the time goes.

    python benchmarks/training.py [--recipe recipes/cpu.toml] [--batch 8] [--steps 4] [--threads 2]

Both train the recipe's detector on drawn pictures of its input size, batch and device in turns, in one run, so that
other work on the machine slows both. "torchvision" is its RetinaNet on the same backbone with its own transform,
anchors and losses (a loop over images), its own augmentation (``torchvision.transforms.v2``, picture by picture:
flip, affine, colour jitter, blur, noise), plain AdamW and a running mean tensor by tensor. "network alone" is forward
and backward of backbone, pyramid and head with a sum as loss: no training step of this network can be faster. On a
busy machine trust the CPU time.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from mammoscope.detectors import build_detector, to_channels_last
from mammoscope.detectors.backbones import build_backbone, pixel_normalisation
from mammoscope.training import Recipe, load_recipe
from mammoscope.training.data import PreparedSamples, TrainingBatches
from mammoscope.training.optim import (
    AveragedWeights,
    MixedPrecision,
    build_optimiser,
    keep_boxes_precise,
    precision_on,
)

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 64
Step = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "cpu.toml")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    changes = (f"schedule.batch={arguments.batch}",) if arguments.batch else ()
    recipe = load_recipe(arguments.recipe, changes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = drawn_samples(recipe.input.rows, recipe.input.columns)
    steps = {
        "mammoscope": our_step(recipe, samples, device),
        "torchvision": torchvision_step(recipe, samples, device),
        "network alone": network_step(recipe, device),
        "augmentation alone": augmentation_step(recipe, samples, device),
    }
    taken = measured(steps, arguments.steps, device)
    batch = recipe.schedule.batch
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {arguments.threads} threads"
    title = f"{arguments.recipe.name}: {recipe.input.rows} x {recipe.input.columns} pixels, batch {batch}, {name}"
    table = Table("step", "images/s", "CPU ms an image", "times torchvision", title=title)
    for label, (seconds, cpu) in taken.items():
        ratio = taken["torchvision"][0] / seconds
        table.add_row(label, f"{batch / seconds:.2f}", f"{1000 * cpu / batch:.1f}", f"{ratio:.2f}")
    Console().print(table)
    if device.type == "cuda":
        for label in ("mammoscope", "torchvision"):
            print(f"{label}: {kernel_share(steps[label]):.0%} of a step is spent in kernels")


def kernel_share(step: Step, steps: int = 5) -> float:
    """The part of a step's wall clock that a GPU spends in kernels, copies left out."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        torch.cuda.synchronize()
        started = time.monotonic()
        for number in range(steps):
            step(100 + number)
        torch.cuda.synchronize()
        wall = time.monotonic() - started
    # One stream: kernels do not overlap.
    kernels = [event for event in profiler.key_averages() if not event.key.startswith("Mem")]
    return sum(event.self_device_time_total for event in kernels) / 1e6 / wall


def measured(steps: dict[str, Step], turns: int, device: torch.device) -> dict[str, tuple[float, float]]:
    """Least seconds of wall clock and of this process's CPUs that a step took, each step in its turn."""
    least = {label: (float("inf"), float("inf")) for label in steps}
    for number in range(turns + 1):
        for label, step in steps.items():
            started, spent = time.monotonic(), time.process_time()
            step(number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken = (time.monotonic() - started, time.process_time() - spent)
            if number:  # the first warms up
                least[label] = (min(least[label][0], taken[0]), min(least[label][1], taken[1]))
    return least


def drawn_samples(rows: int, columns: int) -> PreparedSamples:
    """Noise with one box each."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, rows, columns), dtype=np.uint8)
    box = np.array([[columns / 4, rows / 4, columns / 2, rows / 2]])
    return PreparedSamples(pixels, [box] * IMAGES, [np.array([0])] * IMAGES)


def keys_of(recipe: Recipe, number: int) -> list[tuple[int, int]]:
    return [(number, index % IMAGES) for index in range(recipe.schedule.batch)]


def our_step(recipe: Recipe, samples: PreparedSamples, device: torch.device) -> Step:
    batches = iter(TrainingBatches(samples, recipe.augmentation, 1, map(partial(keys_of, recipe), count()), device))
    detector = to_channels_last(build_detector(recipe.detector, load_weights=False)).to(device).train()
    keep_boxes_precise(detector)
    optimiser = build_optimiser(detector, recipe.optimiser)
    averaged = AveragedWeights(detector, 0.998)
    precision = MixedPrecision(precision_on(device, recipe.schedule.precision), device)

    def step(number: int) -> None:
        images, truth = next(batches)
        optimiser.zero_grad()
        with precision.autocast():
            losses = detector(images, truth)
        precision.scaled(sum(losses.values())).backward()
        precision.step(optimiser, recipe.optimiser.clip_norm)
        averaged.update(detector, number)

    return step


def torchvision_step(recipe: Recipe, samples: PreparedSamples, device: torch.device) -> Step:
    rows, columns = recipe.input.rows, recipe.input.columns
    network = torchvision_retinanet(recipe).to(device).train()
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, foreach=False)
    mean = {name: value.clone() for name, value in network.state_dict().items()}
    section = recipe.augmentation
    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(section.horizontal_flip),
            v2.RandomVerticalFlip(section.vertical_flip),
            v2.RandomAffine(section.rotation_degrees, (section.shift, section.shift), section.zoom),
            v2.ColorJitter(section.brightness, section.contrast),
            *([v2.GaussianBlur(5, (0.1, section.blur))] if section.blur else []),
            *([v2.GaussianNoise(sigma=section.noise / 2)] if section.noise else []),
            v2.SanitizeBoundingBoxes(labels_getter=None),
        ]
    )

    def step(number: int) -> None:
        images, targets = [], []
        for _, index in keys_of(recipe, number):
            picture = torch.from_numpy(samples.pixels[index] / np.float32(255))[None].to(device)
            edges = torch.from_numpy(samples.boxes[index]).float().to(device)
            boxes = BoundingBoxes(edges, format=BoundingBoxFormat.XYXY, canvas_size=(rows, columns))
            picture, boxes = change(picture, boxes)
            images.append(picture.expand(3, -1, -1))
            targets.append({"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64, device=device)})
        losses = network(images, targets)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        sum(losses.values()).item()
        with torch.no_grad():
            for name, value in network.state_dict().items():
                mean[name].lerp_(value, 0.002) if value.is_floating_point() else mean[name].copy_(value)

    return step


def torchvision_retinanet(recipe: Recipe) -> RetinaNet:
    spec = recipe.detector
    sizes = tuple(
        tuple(int(spec.anchor_scale * 2 ** (level + octave / 3)) for octave in range(3)) for level in range(5)
    )
    norm = partial(nn.GroupNorm, 16) if spec.norm == "group" else None
    mean, std = pixel_normalisation(spec.backbone)
    return RetinaNet(
        build_backbone(spec, load_weights=False),
        num_classes=1,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        head=RetinaNetHead(spec.fpn_channels, 9, 1, norm_layer=norm),
        min_size=min(recipe.input.rows, recipe.input.columns),
        max_size=max(recipe.input.rows, recipe.input.columns),
        image_mean=list(mean),
        image_std=list(std),
    )


def network_step(recipe: Recipe, device: torch.device) -> Step:
    network = to_channels_last(build_detector(recipe.detector, load_weights=False)).to(device).train().network
    pixels = torch.rand(recipe.schedule.batch, 3, recipe.input.rows, recipe.input.columns, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def step(_number: int) -> None:
        said: dict[str, Tensor] = network.head(list(network.backbone(pixels).values()))
        sum(value.sum() for value in said.values()).backward()
        network.zero_grad()

    return step


def augmentation_step(recipe: Recipe, samples: PreparedSamples, device: torch.device) -> Step:
    batches = TrainingBatches(samples, recipe.augmentation, 1, [], device)
    return lambda number: (batches.batch(keys_of(recipe, number)), None)[1]


if __name__ == "__main__":
    main()
