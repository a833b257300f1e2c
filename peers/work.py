"""What a peer is asked to do: settings as `lfmark run` takes them, and the exported work.

`lfmark export` fixes the work: model, adapters, batches, tokenized prompts. A peer may be told
how to run it (`SWITCHES`); any other setting must be the one the work was exported with.
Standard library only.
"""

import record  # isort: skip  (the first to be loaded: its clock starts here)

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

# Settings that change how the work is done and not what it is.
SWITCHES = ("compile", "clear-cache")


class Unusable(Exception):
    """A setting that this peer cannot honour, or work that is not what it says."""


@dataclass
class Work:
    """Exported work, as `lfmark export` wrote it. Records' parts are plain dictionaries."""

    folder: Path
    machine: dict
    config: dict
    model: dict
    data: dict
    prompts: list
    eos_ids: list
    rules: dict
    batches_sha256: str
    # The run's place among those that were started together.
    member: dict | None = None

    def batches(self):
        """The batches in order: `tokens` and `bounds` as lists of rows, and counts of tokens."""
        text = (self.folder / "batches.jsonl").read_bytes()
        if hashlib.sha256(text).hexdigest() != self.batches_sha256:
            raise Unusable(f"{self.folder}/batches.jsonl is not what was exported; export again")
        return [json.loads(line) for line in text.splitlines()]

    def adapter_names(self):
        return [adapter["name"] for adapter in self.model["adapters"]]

    def check_adapters(self, shapes):
        """Compares the trainable parameters of the built model with those of the work.

        `shapes` gives the shapes of A `[inputs, rank]` and B `[rank, outputs]` by module.
        """
        rank = self.config["lora"]["rank"]
        expected = {
            adapter["name"]: ((adapter["inputs"], rank), (rank, adapter["outputs"]))
            for adapter in self.model["adapters"]
        }
        if shapes != expected:
            raise Unusable(f"the adapters built are {shapes}, and the work's are {expected}")

    def check_files(self):
        """Compares the weights with their hash; long for a large model, so not at the start."""
        digest = hashlib.sha256()
        with (self.folder / "model.safetensors").open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        if digest.hexdigest() != self.model["weights"]["sha256"]:
            raise Unusable(f"{self.folder}/model.safetensors is not what was exported")


def counts(batch):
    """A batch's counts, as the record has them."""
    tokens = {name: batch[name] for name in ("real_tokens", "padded_tokens", "loss_tokens")}
    return {"rows": len(batch["tokens"]), **tokens}


def main(peer):
    """Runs a peer from its command line, and ends the process with lfmark's exit codes.

    `peer(work, switches, output)` does the work and writes the record; `switches` holds the
    settings of `SWITCHES` that were given.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("--config", required=True, type=Path, help="TOML file of settings")
    parser.add_argument("--output", "-o", required=True, type=Path, help="run folder to create")
    parser.add_argument("--member", type=json.loads, help="place among runs started together")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--quiet", "-q", action="store_true", help="accepted: nothing else is printed")
    arguments = parser.parse_args()
    if arguments.member:
        threading.Thread(target=_interrupt_at_end_of_stdin, daemon=True).start()
    # What libraries print is no result.
    result, sys.stdout = sys.stdout, open(os.devnull, "w")
    try:
        settings = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
        if (arguments.output / "record.jsonl").exists():
            raise Unusable(f"{arguments.output} holds a record already; choose another --output")
        work, switches = read(settings)
        work.member = arguments.member
        complete = peer(work, switches, arguments.output)
    except KeyboardInterrupt:
        sys.exit(1)
    except (Unusable, OSError, tomllib.TOMLDecodeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    run = str(arguments.output)
    print(json.dumps({"run": run}) if arguments.json else f"record      {run}", file=result)
    sys.exit(0 if complete else 1)


def _interrupt_at_end_of_stdin():
    """Ends the run in order when the program that started it closes its end, or dies."""
    # Not through `sys.stdin`, whose lock the interpreter needs when it ends.
    while os.read(0, 1 << 12):
        pass
    signal.raise_signal(signal.SIGINT)


def read(settings):
    """Settings to the work they name and the switches among them."""
    folder = Path(settings.get("model", ""))
    if not (folder / "work.json").is_file():
        raise Unusable(
            f"the setting `model` is `{folder}`; a peer runs a folder written by `lfmark export`"
        )
    exported = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    for key, value in settings.items():
        if key not in SWITCHES and exported.get(key) != value:
            raise Unusable(
                f"the setting `{key}` is {value!r}, and {folder} was exported with "
                f"{exported.get(key, 'its default')!r}; export again with the setting you want"
            )
    fields = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    work = Work(folder=folder, **fields)
    if fact := record.machine_differs(work.machine):
        raise Unusable(f"{folder} was exported on another machine ({fact} differs); export it here")
    generation = work.config["generation"]
    if generation["temperature"] != 0:
        raise Unusable("peers choose the likeliest token only; set temperature = 0")
    return work, {key: settings[key] for key in SWITCHES if key in settings}


def start(work, config, name, version, mlx, memory_source):
    """The fields of a record's first line that are the same for every peer."""
    return {
        "lfmark": {
            "version": f"{name} {version}",
            "commit": None,
            "dirty": None,
            "profile": "release",
            "rustc": None,
            "native_setup": None,
        },
        "engine": {
            "name": name,
            "version": version,
            "memory_source": memory_source,
            "batches_sha256": work.batches_sha256,
        },
        "mlx": mlx,
        "machine": work.machine,
        "config": {**work.config, **config},
        "model": work.model,
        "data": work.data,
        "rules": work.rules,
        "member": work.member,
    }


def recorded(log, train, generate, work):
    """Does the measured parts and ends the record; returns whether the run is complete."""
    try:
        log.machine_state()
        train()
        generate()
        work.check_files()
    except KeyboardInterrupt:
        log.end("interrupted", "interrupted")
        return False
    except Exception as error:
        log.end("failed", f"{type(error).__name__}: {error}")
        print(f"error: {error}", file=sys.stderr)
        return False
    log.end("complete")
    return True
