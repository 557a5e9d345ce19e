"""A run killed by SIGKILL twice beside an unbroken one: the curves in one picture, the largest difference of weights.

    python benchmarks/resume.py [--iterations 120] [--picture docs/images/resume.png]

Draws its own small pictures; needs no data. Exit code 1 says that the two runs did not end alike.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

ALIKE = 1e-6
WIDTH, HEIGHT, MARGIN = 900, 420, 60
GREY, BLUE, RED, BLACK = (190, 190, 190), (30, 80, 200), (200, 40, 40), (0, 0, 0)
RECIPE = """
name = "resume"
[data]
dataset = "{dataset}"
source = "drawn"
licence = "CC0"
[input]
rows = 64
columns = 64
[detector]
architecture = "retinanet"
backbone = "tf_efficientnet_lite0"
frozen_stages = 0
fpn_channels = 32
norm = "group"
anchor_scale = 16
score_threshold = 0.005
[augmentation]
rotation_degrees = 10.0
noise = 0.02
[optimiser]
kind = "adamw"
learning_rate = 3e-3
clip_norm = 1.0
[schedule]
iterations = {iterations}
batch = 4
decay = "cosine"
ema = 0.9
[run]
folder = "{folder}"
checkpoint_every = 7
validate_every = 20
threads = 1
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--picture", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_dataset(folder / "data")
        unbroken, broken = folder / "unbroken", folder / "broken"
        train(folder, unbroken, arguments.iterations)
        kills = [
            train(folder, broken, arguments.iterations, kill_after=arguments.iterations * part // 10) for part in (3, 6)
        ]
        train(folder, broken, arguments.iterations)
        curves = {run.name: read_curves(run) for run in (unbroken, broken)}
        difference = largest_difference(unbroken, broken)
    for at in kills:
        print(f"killed after iteration {at} was saved")
    apart = max(abs(one[1] - two[1]) for one, two in zip(*(c["loss"] for c in curves.values()), strict=True))
    print(f"{len(curves['broken']['loss'])} points of the loss, largest difference {apart:.1e}")
    print(f"largest difference of a weight at the end: {difference:.1e} (alike up to {ALIKE:g})")
    if arguments.picture:
        draw(curves, kills, difference, arguments.picture)
    return 0 if difference <= ALIKE else 1


def draw_dataset(folder: Path) -> None:
    """Twelve pictures of a breast, most with one bright mass."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :96] + 0.5
    images, annotations = [], []
    for number in range(12):
        pixels = 20 + 90 * ((x / 80) ** 2 + ((y - 64) / 55) ** 2 < 1) + rng.normal(0, 4, y.shape)
        if number % 4 != 3:
            left, top, half = rng.uniform(20, 45), rng.uniform(45, 83), rng.uniform(10, 14)
            pixels += 110 * np.exp(-((np.hypot(x - left, y - top) / half) ** 4))
            box = [left - half, top - half, 2 * half, 2 * half]
            annotations.append({"id": number + 1, "image_id": number, "category_id": 1, "bbox": box})
        file = f"{number:02}.png"
        cv2.imwrite(str(folder / "images" / file), np.clip(pixels, 0, 255).astype(np.uint8))
        split = "train" if number < 8 else "val"
        facts = {"id": number, "file_name": file, "height": 128, "width": 96, "patient_id": f"p{number // 2}"}
        images.append({**facts, "split": split})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Mass"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))


def train(folder: Path, run: Path, iterations: int, kill_after: int | None = None) -> int:
    """Train to the end, or until a checkpoint later than that iteration is there; the iteration it holds."""
    recipe = folder / f"{run.name}.toml"
    recipe.write_text(RECIPE.format(dataset=folder / "data", folder=run, iterations=iterations))
    with subprocess.Popen([sys.executable, "-m", "mammoscope", "train", recipe], stderr=subprocess.PIPE) as process:
        if kill_after is not None:
            while process.poll() is None and saved(run) <= kill_after:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        told = process.communicate()[1].decode()
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(told)
    return saved(run)


def saved(run: Path) -> int:
    file = run / "checkpoint.pt"
    return int(torch.load(file, weights_only=True)["iteration"]) if file.is_file() else 0


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    lines = [json.loads(line) for line in (run / "curves.jsonl").read_text().splitlines()]
    validations = [(line["iteration"], line["validation"].get("ap50")) for line in lines if "validation" in line]
    return {
        "loss": [(line["iteration"], line["loss"]) for line in lines if "loss" in line],
        "AP50": [(at, value) for at, value in validations if value is not None],
    }


def largest_difference(one: Path, other: Path) -> float:
    states = [torch.load(run / "checkpoint.pt", weights_only=True) for run in (one, other)]
    return max(
        float((states[0][kind][name].double() - states[1][kind][name].double()).abs().max())
        for kind in ("detector", "averaged")
        for name in states[0][kind]
    )


def draw(curves: dict, kills: list[int], difference: float, picture: Path) -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    last = curves["unbroken"]["loss"][-1][0]
    highest = max(value for _, value in curves["unbroken"]["loss"])

    def place(at: float, value: float, top: float) -> tuple[float, float]:
        across = MARGIN + at / last * (WIDTH - 2 * MARGIN)
        return across, HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)

    for at in kills:
        x, _ = place(at, 0, 1)
        for y in range(MARGIN, HEIGHT - MARGIN, 10):
            pen.line([(x, y), (x, y + 5)], RED, 2)
        pen.text((x + 5, MARGIN - 4), f"gone on after {at}", RED, font)
    pen.rectangle([MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN], outline=BLACK)
    for run, colour, width in (("unbroken", GREY, 9), ("broken", BLUE, 2)):
        for name, top in (("loss", highest), ("AP50", 1.0)):
            points = [place(at, value, top) for at, value in curves[run][name]]
            pen.line(points, colour, width, joint="curve")
            if name == "AP50":
                for x, y in points:
                    pen.ellipse([x - width / 2 - 1, y - width / 2 - 1, x + width / 2 + 1, y + width / 2 + 1], colour)
    text = (
        f"grey: unbroken. blue: killed twice by SIGKILL. Loss (line, 0 to {highest:.2f}) and validation AP50 (dots, "
        "0 to 1)."
    )
    pen.text((MARGIN, 12), text, BLACK, font)
    ends = f"iterations 0 to {last}; largest difference of a weight at the end: {difference:.1e}"
    pen.text((MARGIN, HEIGHT - MARGIN + 16), ends, BLACK, font)
    picture.parent.mkdir(parents=True, exist_ok=True)
    image.save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
