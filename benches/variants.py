"""What each means is worth, from samples of variants in turn: python3 benches/variants.py FILE...

A file is the CSV that a program of reports/breakdown/variants*.patch prints, with a first column
that names the process, gzipped or not. A round of a process has a block of steps or tokens of every
variant. A process gives the median over its rounds of the ratio of a block's median to that of the
block `as it is` in the same round; the first round is left out. Printed is the median of the
processes, and the least and the most behind it.
"""

import csv
import gzip
import statistics
import sys
from collections import defaultdict
from pathlib import Path

BASE = "as it is"


def ratios(rows):
    """Time and peak memory of every variant, each a ratio to BASE: {(what, variant): [process]}."""
    blocks = defaultdict(list)
    for row in rows:
        round_ = int(row["round"])
        if round_ > 0:
            block = row["process"], row["what"], row["variant"], round_
            blocks[block].append((int(row["ns"]), int(row["peak_bytes"])))
    medians = {
        block: [statistics.median(values) for values in zip(*rows)] for block, rows in blocks.items()
    }
    rounds = defaultdict(lambda: ([], []))
    for (process, what, variant, round_), values in medians.items():
        base = medians.get((process, what, BASE, round_))
        if variant == BASE or base is None:
            continue
        for ratios, value, of in zip(rounds[what, variant, process], values, base):
            if of > 0:
                ratios.append(value / of)
    table = defaultdict(lambda: ([], []))
    for (what, variant, _), both in rounds.items():
        for processes, ratios in zip(table[what, variant], both):
            if ratios:
                processes.append(statistics.median(ratios))
    return table


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(files):
    for file in map(Path, files):
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt") as opened:
            table = ratios(csv.DictReader(opened))
        print(f"\n{file.name}\n\n| | Variant | Time | Peak memory of the block | Processes |")
        print("| --- | --- | ---: | ---: | ---: |")
        for (what, variant), (times, peaks) in sorted(table.items()):
            # What a token needs is less than what earlier ones have left to be returned.
            peak = spread(peaks) if what == "step" else ""
            print(f"| {what} | {variant} | {spread(times)} | {peak} | {len(times)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
