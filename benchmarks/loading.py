"""How long does a large dataset take to load, and to sort into buckets?  `python benchmarks/loading.py [--images N]`

Makes N small JPEG files of many shapes with their captions in a temporary folder, and in a fresh process each time scans
them (headers and captions) and assigns the buckets. Prints the best of three runs in seconds of the clock and of the CPU, the
same for the bare reading of all those files as a yardstick, and the most memory of the process where the system tells it.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

NUM_ROUNDS = 3
CHILD = """
import json, sys, time
from pathlib import Path
from athanor.trainer.dataset import assign_buckets, scan_folder

def timed(work):
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, [time.perf_counter() - clock, time.process_time() - cpu]

folder = Path(sys.argv[1])
_, reading = timed(lambda: [path.read_bytes() and None for path in folder.iterdir()])
dataset, scanning = timed(lambda: scan_folder(folder))
_, bucketing = timed(lambda: assign_buckets(dataset, resolution_px=512, min_px=256, max_px=1024, step_px=64, upscale=True))
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
except ImportError:
    peak = None
json.dump({"images": len(dataset.samples), "reading": reading, "scanning": scanning, "bucketing": bucketing, "peak_mib": peak}, sys.stdout)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), options.images)
        rounds = [measure(folder) for _ in range(NUM_ROUNDS)]
    sys.stdout.write(f"{rounds[0]['images']} images, peak memory {rounds[0]['peak_mib'] or 'unknown'} MiB\n")
    for what in ("reading", "scanning", "bucketing"):
        clock, cpu = (min(each[what][i] for each in rounds) for i in range(2))
        sys.stdout.write(f"{what:10} {clock:6.2f} s, {cpu:6.2f} s of CPU\n")


def make_files(folder: Path, number: int) -> None:
    draw = random.Random(1)
    pictures = []
    for _ in range(200):
        buffer = io.BytesIO()
        Image.effect_noise((draw.randrange(40, 200), draw.randrange(40, 200)), 60).convert("RGB").save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    for i in range(number):
        (folder / f"{i}.jpg").write_bytes(pictures[i % len(pictures)])
        (folder / f"{i}.txt").write_text(f"1girl, solo, smile, tag {i}", encoding="utf-8")


def measure(folder: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", CHILD, folder], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
