"""How long does it take from the start of the worker's process to its first step?  `python benchmarks/start_time.py [--rounds 5]`

Trains the miniature that comes with the pack as a node does: `python trainer/launch.py RUN`, in a process of its own. The first
round encodes all images and captions; later ones find them in the cache, as every second run on a dataset does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from step_overhead import MINIATURE, benchmark_job

from athanor.trainer.bases import describe_base
from athanor.trainer.runs.run import open_run

PACK = MINIATURE.parent.parent
RANK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    base, found = describe_base(MINIATURE / "base"), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            run = open_run(Path(folder), benchmark_job(base, base.native_px, 4, "fp32", 1 + number, RANK))
            started = time.time()
            subprocess.run(
                [sys.executable, str(PACK / "trainer" / "launch.py"), str(run.folder)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
            moments = {event["event"]: event["time"] for event in reversed(run.events())}
            found.append((moments["start"] - started, moments["step"] - started))
            sys.stdout.write(f"round {number + 1}: {found[-1][0]:.2f} s until the loop begins, {found[-1][1]:.2f} s until its first step is done\n")
    sys.stdout.write(f"median {statistics.median(each[0] for each in found):.2f} s and {statistics.median(each[1] for each in found):.2f} s\n")


if __name__ == "__main__":
    main()
