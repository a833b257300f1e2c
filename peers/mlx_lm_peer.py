"""mlx-lm's own trainer and generator, at lfmark's work.

Training is one call of `mlx_lm.tuner.trainer.train`, as published. Batches come in through its
parameter `iterate_batches`. It reports every iteration (`steps_per_report=1`) to its
`TrainingCallback`, with the time that its own timer measured: the step, its evaluation and the
clearing of the cache. What the report costs lies between iterations.
"""

import record  # isort: skip  (the first to be loaded: its clock starts here)

import functools
import hashlib
import os
import sys

import work as peers


def run(work, switches, output):
    import mlx.core as mx
    import mlx.optimizers
    import mlx_lm
    import numpy
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    config = work.config
    compiled = switches.get("compile", "auto") != "off"
    if not compiled:
        mx.disable_compile()
    clear_cache = switches.get("clear-cache", True)
    mx.set_default_device(mx.gpu if config["device"] == "gpu" else mx.cpu)
    mx.random.seed(config["seed"])
    model, tokenizer = mlx_lm.load(str(work.folder))
    model.freeze()
    lora = config["lora"]
    parameters = {key: lora[key] for key in ("rank", "scale", "dropout")}
    linear_to_lora_layers(model, lora["layers"], {**parameters, "keys": lora["targets"]})
    model.load_weights(str(work.folder / "adapters" / "adapters.safetensors"), strict=False)
    mx.eval(model.parameters())
    trainable = dict(tree_flatten(model.trainable_parameters()))
    pairs = {name: (f"{name}.lora_a", f"{name}.lora_b") for name in work.adapter_names()}
    if set(trainable) != {parameter for pair in pairs.values() for parameter in pair}:
        raise peers.Unusable(f"the trainable parameters are {sorted(trainable)}")
    shapes = {name: tuple(trainable[part].shape for part in pair) for name, pair in pairs.items()}
    work.check_adapters(shapes)
    optimizer = _optimizer(mlx.optimizers, config["optimizer"])
    setup_ns = record.now_ns()

    batches = [
        (numpy.array(batch["tokens"], numpy.int32), batch["bounds"], peers.counts(batch))
        for batch in work.batches()
    ]
    data_ns = record.now_ns()

    log = record.Record(
        output,
        peers.start(
            work,
            {
                "compile": compiled,
                "fused_kernels": compiled,
                "clear_cache": clear_cache,
                "wired": wired(mx),
            },
            "mlx-lm",
            mlx_lm.__version__,
            mlx_library(mx),
            "mlx",
        ),
    )
    log.past_phase("setup", 0, setup_ns)
    log.past_phase("data", setup_ns, data_ns)

    def memory():
        return record.memory(mx.get_active_memory(), mx.get_cache_memory(), mx.get_peak_memory())

    def train_all():
        times = {}

        def iterate_batches(**_):
            for number, (tokens, bounds, _) in enumerate(batches, start=1):
                if number == 1 or record.begins_window(config["windows"], number):
                    mx.reset_peak_memory()
                start_ns = record.now_ns()
                batch = mx.array(tokens), mx.array(bounds)
                times.update(start_ns=start_ns, data_ns=record.now_ns() - start_ns)
                yield batch

        class Callback(TrainingCallback):
            def on_train_loss_report(self, info):
                number = info["iteration"]
                times["step_ns"] = round(1e9 / info["iterations_per_second"])
                counts = batches[number - 1][2]
                log.iteration(number, times, counts, info["train_loss"], memory())

        adapters = output / "adapters"
        adapters.mkdir()
        train(
            model,
            optimizer,
            train_dataset=None,
            args=TrainingArgs(
                batch_size=config["batch_size"],
                iters=config["iterations"],
                steps_per_report=1,
                steps_per_save=config["iterations"] + 1,
                max_seq_length=config["max_seq_length"],
                adapter_file=str(adapters / "adapters.safetensors"),
                # It clears the cache where that is larger than this.
                clear_cache_threshold=0 if clear_cache else sys.maxsize,
            ),
            iterate_batches=iterate_batches,
            training_callback=Callback(),
        )
        # It saves the adapters before it returns.
        trained_ns = sum(times.values())
        log.past_phase("save", trained_ns, record.now_ns())

    def generate_all():
        model.eval()
        mx.clear_cache()
        generator = _Generator(model, tokenizer, work)
        if work.prompts:
            with log.phase("warm_up"):
                for ids in {len(prompt["ids"]): prompt["ids"] for prompt in work.prompts}.values():
                    generator.tokens(ids, 3)
        for prompt in work.prompts:
            mx.reset_peak_memory()
            generation = generator.generate(prompt)
            log.generation(generation, memory())

    return peers.recorded(log, train_all, generate_all, work)


def _optimizer(optimizers, settings):
    """As the command `mlx_lm.lora` makes it: MLX's own, without bias correction."""
    constants = {
        "learning_rate": settings["learning_rate"],
        "betas": [settings["beta1"], settings["beta2"]],
        "eps": settings["eps"],
    }
    if settings["name"] == "adamw":
        return optimizers.AdamW(weight_decay=settings["weight_decay"], **constants)
    return optimizers.Adam(**constants)


class _Generator:
    """`mlx_lm.stream_generate`, as published."""

    def __init__(self, model, tokenizer, work):
        from mlx_lm.tokenizer_utils import TokenizerWrapper

        self._model = model
        self._text = functools.partial(tokenizer.decode, skip_special_tokens=True)
        self._config = work.config["generation"]
        # Its tokenizer turns every token into text at once. lfmark does that after the last one,
        # so the peer is given a detokenizer that does nothing.
        self._tokenizer = TokenizerWrapper(tokenizer._tokenizer, _NoDetokenizer)
        ignored = self._config["ignore_eos"]
        self._tokenizer.eos_token_ids = [] if ignored else work.eos_ids

    def tokens(self, ids, most):
        """Generates; gives the token ids, when each was known, and why it ended."""
        from mlx_lm import stream_generate

        token_ids, known_ns, finish = [], [record.now_ns()], None
        for response in stream_generate(self._model, self._tokenizer, ids, max_tokens=most):
            known_ns.append(record.now_ns())
            token_ids.append(response.token)
            finish = response.finish_reason
        return token_ids, known_ns, finish

    def generate(self, prompt):
        start_ns = record.now_ns()
        token_ids, known_ns, finish = self.tokens(prompt["ids"], self._config["max_tokens"])
        times = [after - before for before, after in zip(known_ns, known_ns[1:])]
        text = self._text(token_ids)
        return {
            "start_ns": start_ns,
            "prompt": prompt["text"],
            "prompt_tokens": len(prompt["ids"]),
            "first_token_ns": times[0],
            "token_ns": times[1:],
            "token_ids": token_ids,
            "text": text,
            "finish": finish,
            "wall_ns": record.now_ns() - start_ns,
        }


class _NoDetokenizer:
    last_segment = ""

    def __init__(self, _tokenizer):
        pass

    def reset(self):
        pass

    def add_token(self, _token):
        pass

    def finalize(self):
        pass


def mlx_library(mx):
    """The library that does the work, as lfmark's record describes it."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    backend = "cpu" if on_cpu else "metal" if sys.platform == "darwin" else "cuda"
    info = mx.device_info()
    library = record.loaded_library("libmlx")
    return {
        "version": mx.__version__,
        "backend": backend,
        "device_name": info.get("device_name"),
        "architecture": info.get("architecture"),
        "device_memory_bytes": info.get("memory_size") or info.get("total_memory"),
        "working_set_bytes": info.get("max_recommended_working_set_size"),
        "library_sha256": library and hashlib.sha256(library.read_bytes()).hexdigest(),
        "blas": record.blas() if on_cpu else None,
        "variables": {k: v for k, v in os.environ.items() if k.startswith("MLX_")},
    }


def wired(mx):
    """The wired limit that mlx-lm sets by itself while it trains and generates."""
    return "recommended" if mx.metal.is_available() else "off"


if __name__ == "__main__":
    peers.main(run)
