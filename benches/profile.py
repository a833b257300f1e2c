"""Group the samples of profilers into a table: python3 benches/profile.py FILE...

A file is the text of `perf report --stdio --sort dso,symbol`, or the CSV of `ncu --csv` with the
metric gpu__time_duration.sum. METHODOLOGY.md has the commands. One column a file, which is named
after it, one row a group, in percent of all samples, or of all time of kernels.
"""

import csv
import re
import sys
from collections import Counter
from pathlib import Path

# The first group whose pattern is found in "library symbol" has the sample.
HOST = [
    ("Waiting and switching threads", r"futex|pthread_(mutex|cond)|Worker::thread_fn|finish_task_switch|spin_unlock|sched|blas_thread_server|exec_blas_async_wait|__lll_"),
    ("Matrix products (BLAS)", r"openblas|libblas|liblapack"),
    ("CUDA's libraries and driver", r"libcuda|libcublas|libnvrtc|libcudnn|\[nvidia"),
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
    ("Matrix products", r"gemm|cutlass|nvjet|cublas|splitK|gemv"),
    ("Attention", r"fmha|sdpa|flash|attention|cudnn"),
    ("Norms and softmax", r"rms_norm|softmax|logsumexp|layer_norm"),
    ("Copies and gathers", r"copy|gather|scatter|concat|pad|memcpy|memset"),
    ("Reductions", r"reduce"),
    ("Random numbers", r"rbits|random"),
    ("Element-wise", r"unary|binary|ternary|compiled|elementwise|triton|fused|arange|kernel"),
]


def perf(text):
    for line in text.splitlines():
        match = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(.*)", line)
        if match:
            yield HOST, f"{match[2]} {match[3]}", float(match[1])


def ncu(text):
    lines = text.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith('"ID"'))
    for row in csv.DictReader(lines[head:]):
        if row["Metric Name"] == "gpu__time_duration.sum":
            yield DEVICE, row["Kernel Name"], float(row["Metric Value"].replace(",", ""))


def groups(path):
    text = Path(path).read_text(errors="replace")
    shares, count = Counter(), 0
    for table, name, weight in (ncu if '"ID"' in text else perf)(text):
        count += 1
        shares[next((g for g, pattern in table if re.search(pattern, name)), "Other")] += weight
    if not count:
        sys.exit(f"{path}: neither the text of perf report nor the CSV of ncu")
    total = sum(shares.values())
    return {group: 100 * weight / total for group, weight in shares.items()}, total, count


def main(paths):
    columns = [groups(path)[0] for path in paths]
    order = [name for name, _ in HOST + DEVICE] + ["Other"]
    print("| Share (%) | " + " | ".join(Path(path).stem for path in paths) + " |")
    print("| --- |" + " ---: |" * len(paths))
    for group in order:
        if any(group in column for column in columns):
            cells = (f"{column[group]:.1f}" if group in column else "0" for column in columns)
            print(f"| {group} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
