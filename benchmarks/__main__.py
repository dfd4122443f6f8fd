"""Measures what the charts of `docs/speed.md` show, one benchmark after another, in some minutes.

    TFDS_DATA_DIR=... python -m benchmarks [--minutes 8]

Laid out for eight minutes on a GPU; on a CPU allow ninety. What does not fit is left out and named;
results are in `benchmarks/results/`.
"""

import argparse
import subprocess
import sys
import time

from benchmarks import record

# (what, on a GPU, on a CPU), the most asked for first.
ALL = (
    (
        "ResNet-20 at batch 128",
        "step --networks resnet20 --batch 128 --steps 100 --rounds 5 "
        "--variants ours together bfloat16 keras --together 8",
        "step --networks resnet20 --batch 128 --variants ours together keras",
    ),
    ("start and gaps", "overhead", "overhead"),
    (
        "a whole study",
        "study --set dataset.train_images=25000 --set fuse=8",
        "study --set dataset.train_images=2500 --set dataset.test_images=500",
    ),
    (
        "every network at batch 64",
        "step --steps 40 --rounds 5 --variants ours",
        "step --steps 2 --rounds 5 --variants ours",
    ),
    ("distance to the floor", "floor", "floor --rounds 3"),
    ("memory", "memory --networks resnet20 --together 1 4 8", "memory --networks resnet20"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    options = parser.parse_args()
    began, left_out = time.monotonic(), []
    for what, on_gpu, on_cpu in ALL:
        left = 60 * options.minutes - (time.monotonic() - began)
        command = (on_gpu if record.gpu() else on_cpu).split()
        print(f"== {what}: python -m benchmarks.{' '.join(command)}", flush=True)
        if left <= 0:
            left_out.append(f"{what}: no time left")
            continue
        module = f"benchmarks.{command[0]}"
        process = subprocess.Popen([sys.executable, "-m", module, *command[1:]])
        try:
            if process.wait(left):
                left_out.append(f"{what}: exit code {process.returncode}")
        except subprocess.TimeoutExpired:
            process.terminate()  # So that it ends what it has started.
            process.wait()
            left_out.append(f"{what}: no time left")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    if left_out:
        raise SystemExit("left out: " + "; ".join(left_out))


if __name__ == "__main__":
    main()
