"""PyTorch with transformers and PEFT, at lfmark's work; eager, or compiled by `torch.compile`.

The model, the adapters and the generator are those of the two libraries, as published. The loop
is the usual one: forward, cross-entropy, backward, optimizer, and a wait for the device.
"""

import record  # isort: skip  (the first to be loaded: its clock starts here)

import math
import resource
import sys
from pathlib import Path

import work as peers

# Positions with this label are left out of the cross-entropy.
IGNORED = -100


def run(work, switches, output):
    import peft
    import safetensors.torch
    import torch
    import transformers

    config = work.config
    compiled = switches.get("compile", "off") == "on"
    if switches.get("clear-cache", False):
        raise peers.Unusable("the loop of PyTorch keeps its cache; leave `clear-cache` out")
    device = _device(torch, config["device"])
    memory = _Memory(torch, device)
    torch.manual_seed(config["seed"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[config["dtype"]]
    model = transformers.AutoModelForCausalLM.from_pretrained(work.folder, dtype=dtype).to(device)
    tokenizer = transformers.AutoTokenizer.from_pretrained(work.folder)
    lora = config["lora"]
    lora_config = peft.LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["scale"] * lora["rank"],
        lora_dropout=lora["dropout"],
        target_modules=work.adapter_names(),
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, lora_config)
    start = safetensors.torch.load_file(work.folder / "adapters" / "adapters.safetensors")
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    parts = {
        name: [trainable.pop(f"base_model.model.{name}.lora_{half}.default.weight")
               for half in "AB"]
        for name in work.adapter_names()
    }
    if trainable:
        raise peers.Unusable(f"{', '.join(trainable)} are trained, and are no adapters of the work")
    # PyTorch's matrices are transposed.
    shapes = {name: tuple(tuple(part.T.shape) for part in pair) for name, pair in parts.items()}
    work.check_adapters(shapes)
    with torch.no_grad():
        for name, pair in parts.items():
            for part, half in zip(pair, "ab"):
                part.copy_(start[f"{name}.lora_{half}"].T)
    optimizer = _Optimizer(torch, [part for pair in parts.values() for part in pair], config)
    setup_ns = record.now_ns()
    batches = work.batches()
    data_ns = record.now_ns()

    versions = f"{torch.__version__} (transformers {transformers.__version__}, PEFT {peft.__version__})"
    log = record.Record(
        output,
        peers.start(
            work,
            {"compile": compiled, "clear_cache": False, "wired": "off"},
            "PyTorch",
            versions,
            _library(torch, device),
            memory.source,
        ),
    )
    log.past_phase("setup", 0, setup_ns)
    log.past_phase("data", setup_ns, data_ns)

    def loss_of(inputs, labels):
        logits = model(input_ids=inputs, use_cache=False).logits.float()
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )

    def train():
        model.train()
        # One compilation for every width.
        forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of
        for number, batch in enumerate(batches, start=1):
            if number == 1 or record.begins_window(config["windows"], number):
                memory.reset_peak()
            start_ns = record.now_ns()
            inputs, labels = (
                torch.tensor(rows, dtype=torch.int64).to(device) for rows in _columns(batch)
            )
            begun_ns = record.now_ns()
            loss = forward(inputs, labels)
            loss.backward()
            optimizer.step()
            memory.wait()
            loss = loss.item()
            ended_ns = record.now_ns()
            times = {
                "start_ns": start_ns,
                "data_ns": begun_ns - start_ns,
                "step_ns": ended_ns - begun_ns,
            }
            log.iteration(number, times, peers.counts(batch), loss, memory.read())
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss of iteration {number} is {loss}")
        with log.phase("save"):
            adapters = {
                f"{name}.lora_{half}": part.detach().T.contiguous().cpu()
                for name, pair in parts.items()
                for part, half in zip(pair, "ab")
            }
            (output / "adapters").mkdir()
            safetensors.torch.save_file(adapters, output / "adapters" / "adapters.safetensors")

    def generate():
        model.eval()
        memory.clear_cache()
        settings = config["generation"]
        generation = model.generation_config
        generation.eos_token_id = None if settings["ignore_eos"] else work.eos_ids
        generation.pad_token_id = tokenizer.pad_token_id

        def tokens(ids, most):
            times = _Times()
            inputs = torch.tensor([ids], device=device)
            model.generate(
                input_ids=inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=most,
                do_sample=False,
                streamer=times,
            )
            return times

        if work.prompts:
            with log.phase("warm_up"):
                for ids in {len(prompt["ids"]): prompt["ids"] for prompt in work.prompts}.values():
                    tokens(ids, 3)
        for prompt in work.prompts:
            memory.reset_peak()
            start_ns = record.now_ns()
            times = tokens(prompt["ids"], settings["max_tokens"])
            stopped = not settings["ignore_eos"] and times.token_ids[-1] in work.eos_ids
            between = [after - before for before, after in zip(times.known_ns, times.known_ns[1:])]
            fields = {
                "start_ns": start_ns,
                "prompt": prompt["text"],
                "prompt_tokens": len(prompt["ids"]),
                "first_token_ns": times.known_ns[0] - start_ns,
                "token_ns": between,
                "token_ids": times.token_ids,
                "text": tokenizer.decode(times.token_ids, skip_special_tokens=True),
                "finish": "stop" if stopped else "length",
                "wall_ns": record.now_ns() - start_ns,
            }
            log.generation(fields, memory.read())

    return peers.recorded(log, train, generate, work)


def _device(torch, wanted):
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    raise peers.Unusable("the work was exported for a GPU, and PyTorch finds none here")


def _columns(batch):
    """Inputs, all columns but the last; and labels, all but the first, where they count."""
    labels = [
        [token if low <= column <= high else IGNORED for column, token in enumerate(row[1:], 1)]
        for row, (low, high) in zip(batch["tokens"], batch["bounds"])
    ]
    return [row[:-1] for row in batch["tokens"]], labels


class _Optimizer:
    """PyTorch's own Adam or AdamW, fused, as transformers' trainer chooses it.

    It always corrects the bias of the moments, and the work does not. Each step is given the
    learning rate, epsilon and decay for which the correction leaves the work's arithmetic.
    """

    def __init__(self, torch, parameters, config):
        self._settings = settings = config["optimizer"]
        kind = torch.optim.AdamW if settings["name"] == "adamw" else torch.optim.Adam
        betas = (settings["beta1"], settings["beta2"])
        self._optimizer = kind(parameters, betas=betas, fused=True)
        self._steps = 0

    def step(self):
        settings = self._settings
        self._steps += 1
        first = 1 - settings["beta1"] ** self._steps
        second = math.sqrt(1 - settings["beta2"] ** self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = settings["learning_rate"] * first / second
            group["eps"] = settings["eps"] / second
            group["weight_decay"] = settings["weight_decay"] * second / first
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


class _Memory:
    """The device's memory, as far as PyTorch counts it, and the wait for its work."""

    def __init__(self, torch, device):
        self._library = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
        self._kind = device.type
        self._peak = 0
        sources = {
            "cuda": "torch.cuda",
            "mps": "torch.mps, the peak of readings after each step",
            "cpu": "memory of the process",
        }
        self.source = sources[device.type]

    def wait(self):
        if self._library:
            self._library.synchronize()

    def clear_cache(self):
        if self._library:
            self._library.empty_cache()

    def reset_peak(self):
        self._peak = 0
        if self._kind == "cuda":
            self._library.reset_peak_memory_stats()
        if self._kind == "cpu" and sys.platform == "linux":
            # Resets the largest resident set (proc_pid_clear_refs(5)).
            Path("/proc/self/clear_refs").write_text("5")

    def read(self):
        if self._kind == "cuda":
            active = self._library.memory_allocated()
            cache = self._library.memory_reserved() - active
            return record.memory(active, cache, self._library.max_memory_allocated())
        if self._kind == "mps":
            active = self._library.current_allocated_memory()
            self._peak = max(self._peak, active)
            return record.memory(active, self._library.driver_allocated_memory() - active, self._peak)
        largest = _largest_resident_set()
        return record.memory(record.footprint_bytes() or largest, 0, largest)


def _largest_resident_set():
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Times:
    """Receives every token as soon as it is known on the host."""

    def __init__(self):
        self.token_ids, self.known_ns = [], []
        self._prompt_seen = False

    def put(self, tokens):
        if self._prompt_seen:
            self.known_ns.append(record.now_ns())
            self.token_ids.extend(tokens.tolist())
        self._prompt_seen = True

    def end(self):
        pass


def _library(torch, device):
    """In the record's place for MLX: that there is none, and the device."""
    name = memory = capability = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
        capability = f"sm_{properties.major}{properties.minor}"
    return {
        "version": "not used",
        "backend": device.type,
        "device_name": name,
        "architecture": capability,
        "device_memory_bytes": memory,
        "working_set_bytes": None,
        "library_sha256": None,
        "blas": None,
    }


if __name__ == "__main__":
    peers.main(run)
