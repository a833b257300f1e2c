"""Writes lfmark's record (FORMAT.md): one event a line, appended and flushed as it happens.

Import this module before any other: its clock starts when it is loaded, as lfmark's does in the
first statement of `main`. Standard library only.
"""

import time

_START_NS = time.monotonic_ns()
_STARTED_UNIX_NS = time.time_ns()

import contextlib
import json
import math
import os
import sys
from pathlib import Path

SCHEMA = {"major": 1, "minor": 4}


def now_ns():
    """Nanoseconds since the start of the program."""
    return time.monotonic_ns() - _START_NS


class Record:
    """A record in the making. Times are those of `now_ns`."""

    def __init__(self, folder, start):
        """Creates `folder`/record.jsonl with its first line; refuses one that exists."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "record.jsonl").open("x", encoding="utf-8")
        self._footprint = _Rationed(footprint_bytes)
        self._swap = _Rationed(swap_used_bytes)
        self._write(
            "start",
            schema=SCHEMA,
            run_id=folder.name,
            started_unix_ms=_STARTED_UNIX_NS // 1_000_000,
            launch_ns=launch_ns(),
            footprint_source=None if footprint_bytes() is None else "rss",
            **start,
        )

    @contextlib.contextmanager
    def phase(self, name):
        """Records what is done inside it as a phase."""
        start_ns = now_ns()
        yield
        self.past_phase(name, start_ns, now_ns())

    def past_phase(self, name, start_ns, end_ns):
        self._write("phase", phase=name, start_ns=start_ns, wall_ns=end_ns - start_ns)

    def iteration(self, number, times, counts, loss, memory):
        """`times`: start_ns, data_ns, step_ns; `counts`: rows and tokens; `memory`: see `memory`."""
        self._write(
            "iteration",
            iteration=number,
            **times,
            **counts,
            loss=loss if math.isfinite(loss) else None,
            **memory,
            footprint_bytes=self._footprint.read_if_affordable(),
            swap_bytes=self._swap.read_if_affordable(),
        )

    def generation(self, fields, memory):
        self._write("generation", **fields, **memory, footprint_bytes=footprint_bytes())

    def machine_state(self):
        """What may change while the machine runs, as far as it is read here."""
        unread = ("thermal_state", "power_source", "power_mode", "power_mode_name", "energy_uj")
        self._write(
            "machine_state",
            at_ns=now_ns(),
            **dict.fromkeys(unread),
            swap_used_bytes=swap_used_bytes(),
            footprint_bytes=footprint_bytes(),
            gpu_clock_hz=None,
            gpu_temperature_mc=None,
            load_milli=round(os.getloadavg()[0] * 1000),
            **cpu_times(),
        )

    def end(self, status, reason=None):
        """The last line; `status` is complete, interrupted or failed."""
        self.machine_state()
        self._write("end", status=status, reason=reason, wall_ns=now_ns())
        self._file.close()

    def _write(self, event, **fields):
        line = json.dumps({"event": event, **fields}, ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()


def launch_ns():
    """From just before the process was started, which the one that did has noted, to `_START_NS`;
    None where it has not, and where the wall clock was set back."""
    launched = os.environ.get("LFMARK_LAUNCHED_UNIX_NS", "")
    launch = _STARTED_UNIX_NS - int(launched) if launched.isdecimal() else -1
    return launch if launch >= 0 else None


def memory(active, cache, peak):
    """Memory of the device as its own library counts it, in bytes."""
    return {"active_bytes": active, "cache_bytes": cache, "peak_bytes": peak}


def begins_window(windows, iteration):
    """Whether `iteration` is the first that counts in a window: a shared one counts in the earlier."""
    last = 0
    for window in windows:
        if iteration == max(window["first"], last + 1) <= window["last"]:
            return True
        last = max(last, window["last"])
    return False


class _Rationed:
    """Takes readings as long as they cost no more than 0.1 % of the time since the start."""

    def __init__(self, read):
        self._read = read
        self._spent_ns = 0
        self._dearest_ns = None

    def read_if_affordable(self):
        begin = now_ns()
        if self._dearest_ns is not None and self._spent_ns + self._dearest_ns > begin // 1000:
            return None
        value = self._read()
        cost = now_ns() - begin
        self._spent_ns += cost
        self._dearest_ns = max(cost, self._dearest_ns or 0)
        return value


def footprint_bytes():
    """Resident memory of the process; None where the system has no /proc."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def swap_used_bytes():
    """Swap in use on the machine; None where the system has no /proc."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = dict(line.split(":") for line in lines)
        used = int(kib["SwapTotal"].split()[0]) - int(kib["SwapFree"].split()[0])
        return used * 1024
    return None


def cpu_times():
    """Time of all CPUs since the machine was started, and what of it other guests had: the first
    line of /proc/stat (proc_stat(5)), whose unit is a hundredth of a second. None without it."""
    names = ("cpu_total_ms", "cpu_steal_ms")
    with contextlib.suppress(OSError):
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        # The last two, of guests of this machine, are in the first two already.
        own = [int(time) for time in first.split()[1:9]]
        if len(own) == 8:
            return dict(zip(names, (10 * sum(own), 10 * own[7])))
    return dict.fromkeys(names)


def machine_differs(machine):
    """Names a fact in which this machine is another than `machine`, a record's; None if none is."""
    here = os.uname()
    arch = {"arm64": "aarch64"}.get(here.machine, here.machine)
    facts = {"kernel": here.release, "arch": arch, "logical_cores": os.cpu_count()}
    differs = (name for name, value in facts.items() if machine[name] not in (None, value))
    return next(differs, None)


def loaded_library(name, but_not=None):
    """Path of the first loaded library with `name` in its file name; None where unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = Path(line.split()[-1])
            if name in path.name and ".so" in path.name and (but_not or "\0") not in path.name:
                return path
    return None


def blas():
    """The BLAS that serves the CPU, as lfmark names it."""
    if sys.platform == "darwin":
        return "Accelerate"
    # It forwards to OpenBLAS. NumPy brings one of its own, which serves only NumPy.
    if loaded_library("liblfmark_native"):
        fast = loaded_library("openblas", but_not="openblas64_")
        return fast and f"OpenBLAS ({fast.name})"
    reference = loaded_library("libblas") or loaded_library("libcblas")
    return reference and f"reference BLAS ({reference.name})"
