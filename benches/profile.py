"""Group the samples of profilers into a table: python3 benches/profile.py FILE...

A file is the text of `perf report --stdio --sort dso,symbol`, or the CSV of `ncu --csv` with the
metric gpu__time_duration.sum, or that of `kernels.py`, any of them gzipped or not. METHODOLOGY.md
has the commands. One column a file, which is named after it, one row a group, in percent of all
samples, or of all time of kernels. Under the table, kernels and their time from one step or token
to the next, and for `kernels.py`, which lets kernels run at once, how long any of them ran.
"""

import csv
import gzip
import re
import sys
from collections import Counter
from pathlib import Path

# The first group whose pattern is found in "library symbol" has the sample.
HOST = [
    ("Waiting and switching threads", r"futex|pthread_(mutex|cond)|Worker::thread_fn|finish_task_switch|spin_unlock|sched|blas_thread_server|exec_blas_async_wait|__lll_"),
    ("Matrix products (BLAS)", r"openblas|libblas|liblapack"),
    ("CUDA's libraries and driver", r"libcuda|libcublas|libnvrtc|libcudnn|\[nvidia"),
    ("PyTorch", r"libtorch|libc10"),
    ("Memory of the system", r"kernel.*(page|clear|fault|mmap|munmap|zap|vma|lru|memcg)|memset"),
    ("Allocator", r"malloc|calloc|realloc|\bfree\b|_mi_|mi_|operator (new|delete)|CommonAllocator|allocator::|_int_"),
    ("Copying memory", r"memmove|memcpy"),
    ("Exponentials", r"simd::exp|fmaf|libm\.so"),
    ("Graph and dispatch", r"eval_impl|array::|ArrayDesc|_Hashtable|cpu::eval|scheduler::|Scheduler|compile_|tape|shared_ptr|_Sp_counted|std::deque|libmlxc"),
    ("Other kernels of MLX", r"libmlx\.so"),
    ("Python", r"python|_PyEval|libffi|site-packages|\.cpython"),
    ("lfmark", r"lfmark"),
]
DEVICE = [
    ("Fused by PyTorch's compiler", r"^triton_"),
    ("Matrix products", r"gemm|cutlass|nvjet|cublas|splitK|gemv"),
    ("Attention", r"fmha|sdpa|flash|attention|cudnn"),
    ("Norms and softmax", r"rms_norm|softmax|logsumexp|layer_norm"),
    ("Copies and gathers", r"copy|gather|scatter|concat|pad|memcpy|memset"),
    ("Reductions", r"reduce"),
    ("Random numbers", r"rbits|random"),
    ("Element-wise", r"unary|binary|ternary|compiled|elementwise|_contiguous<|_strided<|fused|arange|kernel"),
]


def perf(text):
    for line in text.splitlines():
        match = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(.*)", line)
        if match:
            yield HOST, f"{match[2]} {match[3]}", float(match[1]), None


def ncu(text):
    lines = text.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith('"ID"'))
    for row in csv.DictReader(lines[head:]):
        if row["Metric Name"] == "gpu__time_duration.sum":
            begun = float(row["Begun"]) if "Begun" in row else None
            yield DEVICE, row["Kernel Name"], float(row["Metric Value"].replace(",", "")), begun


def groups(path):
    """The share of every group in percent, and for kernels a line about their periods."""
    read = gzip.open if path.endswith(".gz") else open
    with read(path, "rt", encoding="utf-8", errors="replace") as file:
        text = file.read()
    of_kernels = '"ID"' in text
    samples = list((ncu if of_kernels else perf)(text))
    if not samples:
        sys.exit(f"{path}: neither the text of perf report nor the CSV of ncu")
    shares = Counter()
    for table, name, weight, _ in samples:
        shares[next((g for g, pattern in table if re.search(pattern, name)), "Other")] += weight
    total = sum(shares.values())
    shares = {group: 100 * weight / total for group, weight in shares.items()}
    return shares, periods(samples) if of_kernels else None


def periods(samples):
    """What lies between two runs of a kernel that comes once a step or token: of those that come
    at equal distances, three times or more, the one that comes least often."""
    places = {}
    for place, (_, name, *_) in enumerate(samples):
        places.setdefault(name, []).append(place)

    def regular(found):
        return len({after - before for before, after in zip(found, found[1:])}) == 1

    once = [found for found in places.values() if len(found) > 2 and regular(found)]
    if not once:
        return "no kernel that comes once a period"
    found = min(once, key=len)
    all_periods = [samples[before:after] for before, after in zip(found, found[1:])]
    text = f"{found[1] - found[0]} kernels a period, {span(all_periods, total)} one after another"
    if samples[0][-1] is None:
        return text
    return f"{text}, {span(all_periods, busy)} at once"


def span(periods, of):
    times = [of(period) / 1e6 for period in periods]
    return f"{min(times):.3f} to {max(times):.3f} ms"


def total(period):
    return sum(nanoseconds for *_, nanoseconds, _ in period)


def busy(period):
    """Nanoseconds in which one kernel ran or more; the samples are in the order of their begin."""
    ran = end = 0
    for *_, nanoseconds, begun in period:
        ran += max(0, begun + nanoseconds - max(begun, end))
        end = max(end, begun + nanoseconds)
    return ran


def main(paths):
    found = [groups(path) for path in paths]
    columns = [shares for shares, _ in found]
    names = [Path(path).name.split(".")[0] for path in paths]
    order = [name for name, _ in HOST + DEVICE] + ["Other"]
    print("| Share (%) | " + " | ".join(names) + " |")
    print("| --- |" + " ---: |" * len(paths))
    for group in order:
        if any(group in column for column in columns):
            cells = (f"{column[group]:.1f}" if group in column else "0" for column in columns)
            print(f"| {group} | " + " | ".join(cells) + " |")
    for name, (_, line) in zip(names, found):
        if line:
            print(f"\n{name}: {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
