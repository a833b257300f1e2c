"""Lets mlx-lm's own trainer write lfmark's record, from a script that trains an LFM2 with it.

    import mlx_lm_callback  # before any other: its clock starts here
    recorder = mlx_lm_callback.Recorder(run_folder, model, optimizer, data, args, given)
    train(model, optimizer, data, args=args, iterate_batches=recorder.batches,
          training_callback=recorder)
    recorder.log.end("complete")

`args` is mlx-lm's `TrainingArgs` with `steps_per_report=1`, so that every iteration is reported.
`given` holds what these objects do not tell: `model` and `data`, the paths of the model's folder and
the JSONL file; `lora`, with rank, scale, dropout, layers and keys; and `seed`. Batches are made before
the first one is timed. Of the machine only system, kernel and architecture are read: the rest is null.
"""

import record  # isort: skip  (the first to be loaded: its clock starts here)

import hashlib
import itertools
import json
import platform

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import iterate_batches

from mlx_lm_peer import mlx_library, wired


class Recorder(TrainingCallback):
    """Both the trainer's callback and its batches: the one sees times, the other what was fed."""

    def __init__(self, folder, model, optimizer, data, args, given):
        if args.steps_per_report != 1 or args.grad_accumulation_steps != 1:
            raise ValueError("the record holds every iteration: set steps_per_report and "
                             "grad_accumulation_steps to 1")
        endless = iterate_batches(data, args.batch_size, args.max_seq_length, loop=True)
        self._batches, self._times = list(itertools.islice(endless, args.iters)), {}
        start = _start(model, optimizer, data, args, given, self._batches)
        self.log = record.Record(folder, start)
        self.log.past_phase("setup", 0, record.now_ns())

    def batches(self, **_):
        mx.reset_peak_memory()
        for tokens, bounds in self._batches:
            self._times["start_ns"] = record.now_ns()
            self._times["data_ns"] = record.now_ns() - self._times["start_ns"]
            yield tokens, bounds

    def on_train_loss_report(self, info):
        times = {**self._times, "step_ns": round(1e9 / info["iterations_per_second"])}
        counts = _counts(*self._batches[info["iteration"] - 1])
        memory = record.memory(mx.get_active_memory(), mx.get_cache_memory(), mx.get_peak_memory())
        self.log.iteration(info["iteration"], times, counts, info["train_loss"], memory)


def _counts(tokens, bounds):
    """The loss of a row is over the targets from the first bound, and 1 at least, to the last."""
    rows, width = tokens.shape
    bounds = bounds.tolist()
    return {
        "rows": rows,
        "real_tokens": sum(min(last, width - 1) for _, last in bounds),
        "padded_tokens": rows * (width - 1),
        "loss_tokens": sum(min(last, width - 1) - max(first, 1) + 1 for first, last in bounds),
    }


def _start(model, optimizer, data, args, given, batches):
    """The first line of the record."""
    folder, lora = given["model"], given["lora"]
    if any(name.endswith("scales") for name, _ in tree_flatten(model.parameters())):
        raise ValueError("the model is quantized, and its parameters cannot be counted here")
    adapters = [
        {"name": name, "inputs": module.lora_a.shape[0], "outputs": module.lora_b.shape[1]}
        for name, module in model.named_modules()
        if hasattr(module, "lora_a")
    ]
    trainable = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    base = [value for name, value in tree_flatten(model.parameters()) if "lora_" not in name]
    digest = hashlib.sha256()
    for batch in batches:
        digest.update((json.dumps([part.tolist() for part in batch]) + "\n").encode())
    samples = [len(data[index][0]) for index in range(len(data))]
    layers = model.layers
    library = mlx_library(mx)
    compiled = library["variables"].get("MLX_DISABLE_COMPILE") is None
    return {
        "lfmark": {"version": f"mlx-lm {mlx_lm.__version__}", "profile": "release"},
        "engine": {
            "name": "mlx-lm",
            "version": mlx_lm.__version__,
            "memory_source": "mlx",
            "batches_sha256": digest.hexdigest(),
        },
        "mlx": library,
        "machine": {
            "os": {"Darwin": "macos"}.get(platform.system(), platform.system().lower()),
            "kernel": platform.release(),
            "arch": {"arm64": "aarch64"}.get(platform.machine(), platform.machine()),
        },
        "config": {
            "iterations": args.iters,
            "batch_size": args.batch_size,
            "max_seq_length": args.max_seq_length,
            "pad_to": 32,
            "mask_prompt": any(bounds[:, 0].max().item() > 0 for _, bounds in batches),
            "batch_order": "mlx_lm",
            "seed": given["seed"],
            "dtype": {mx.float32: "f32", mx.bfloat16: "bf16", mx.float16: "f16"}[base[0].dtype],
            "device": "cpu" if mx.default_device() == mx.Device(mx.cpu) else "gpu",
            "optimizer": {
                "name": type(optimizer).__name__.lower(),
                "learning_rate": optimizer.learning_rate.item(),
                "beta1": optimizer.betas[0],
                "beta2": optimizer.betas[1],
                "eps": optimizer.eps,
                "weight_decay": getattr(optimizer, "weight_decay", 0.0),
                "bias_correction": optimizer.bias_correction,
            },
            "lora": {
                **{name: lora[name] for name in ("rank", "scale", "dropout", "layers")},
                "targets": list(lora["keys"]),
            },
            "compile": compiled,
            "fused_kernels": compiled,
            "clear_cache": args.clear_cache_threshold == 0,
            "wired": wired(mx),
            "windows": [{"first": 1, "last": args.iters}],
            "generation": {
                "prompts": [],
                "max_tokens": 0,
                "temperature": 0.0,
                "top_p": 1.0,
                "ignore_eos": False,
                "chat_template": False,
            },
        },
        "model": {
            "name": folder.name,
            "weights": {"kind": "files", "sha256": _files(folder, "*.safetensors")},
            "layers": len(layers),
            "attention_layers": sum(layer.is_attention_layer for layer in layers),
            "hidden_size": model.args.hidden_size,
            "ffn_size": layers[0].feed_forward.w1.weight.shape[0],
            "vocab_size": model.args.vocab_size,
            "parameters": sum(value.size for value in base),
            "weight_bytes": sum(value.nbytes for value in base),
            "trainable_parameters": trainable,
            "adapters": adapters,
            "config_sha256": _files(folder, "config.json"),
            "tokenizer_sha256": _files(folder, "tokenizer.json"),
        },
        "data": {
            "name": given["data"].name,
            "sha256": _files(given["data"].parent, given["data"].name),
            "format": _format(given["data"]),
            "sample_tokens": samples,
            "truncated_samples": sum(length > args.max_seq_length for length in samples),
        },
    }


def _format(path):
    """The format of a JSONL file, as mlx-lm takes it from the first line."""
    with path.open(encoding="utf-8") as file:
        first = json.loads(file.readline())
    formats = {"prompt": "completions", "messages": "chat"}
    return next((formats[key] for key in formats if key in first), "text")


def _files(folder, pattern):
    """SHA-256 of a file, or that of the hashes of several; None where there is none."""
    hashes = [hashlib.sha256(path.read_bytes()) for path in sorted(folder.glob(pattern))]
    if len(hashes) > 1:
        return hashlib.sha256(b"".join(each.digest() for each in hashes)).hexdigest()
    return hashes[0].hexdigest() if hashes else None
