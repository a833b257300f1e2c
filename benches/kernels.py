"""The time of every kernel of a Python program on a GPU, where ncu is too slow to reach it:
python3 benches/kernels.py CSV FIRST COUNT PEER ARGUMENT...

Runs PEER, a program of `peers/`, under PyTorch's profiler, which sees the kernels of the whole
process, MLX's too. It is on from the FIRST reading of the peer's clock for COUNT more: training
reads it a few times an iteration, generation once a token. CSV gets a line a kernel in the order
in which they began, in the form of ncu, with the beginning besides. Kernels run as they would
without it, at the same time too, so that their times may overlap.
"""

import csv
import runpy
import sys
from pathlib import Path


def main(csv_path, first, count, peer, *arguments):
    # The path and the arguments that the peer would have by itself.
    sys.path[0] = str(Path(peer).resolve().parent)
    sys.argv = [peer, *arguments]
    import record  # isort: skip  (its clock starts here)
    import torch

    torch.cuda.init()
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    clock, calls = record.now_ns, 0

    def now_ns():
        nonlocal calls
        calls += 1
        if calls == first:
            profiler.start()
        if calls == first + count:
            torch.cuda.synchronize()
            profiler.stop()
            write(csv_path, profiler.profiler.kineto_results.events())
        return clock()

    record.now_ns = now_ns
    try:
        runpy.run_path(peer, run_name="__main__")
    finally:
        if calls < first + count:
            print(f"error: the clock was read {calls} times; give less", file=sys.stderr)


def write(path, events):
    on_device = [event for event in events if event.device_type().name == "CUDA"]
    on_device.sort(key=lambda event: event.start_ns())
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_ALL)
        rows.writerow(["ID", "Kernel Name", "Metric Name", "Metric Unit", "Metric Value", "Begun"])
        for number, event in enumerate(on_device):
            begun = event.start_ns() - on_device[0].start_ns()
            time = ["gpu__time_duration.sum", "ns", event.duration_ns()]
            rows.writerow([number, event.name(), *time, begun])


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    path, first, count, *rest = sys.argv[1:]
    main(path, int(first), int(count), *rest)
