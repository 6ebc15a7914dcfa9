"""What an audit costs: adapters of three sizes and the norms of a base, beside torch, the dense way and the read floor.

Writes adapters shaped like those of DistilBERT, an 8B and a 70B model (random factors, PEFT's names), and a base of
1.3 G parameters in bfloat16 (random, with three singular values above the bulk, as trained weights have them), to a
temporary folder. Each way runs as a process of its own on one thread; CPU seconds
(user + system, the best of several) are printed with and without imports, with the wall clock and the peak memory.

- `read` takes every byte of the file once: the floor.
- `torch, Gram` and `torch, QR` are what a good auditor on torch does: `safetensors.torch.load_file`, then the spectrum
  of each update from its factors, by float64 Gram matrices or by float32 QR.
- `compress` writes the adapter again at rank 8, reads it back and measures what was lost.
- `torch, dense` multiplies lora_B and lora_A and takes `svdvals` of the product: only for DistilBERT, since one 4096 x
  4096 matrix takes tens of seconds.

Beside the norms of the base, `torch, power` takes 20 steps of the power method on each weight, which certifies nothing.

    python benchmarks/audit.py [--repeat 3] [--no-70b] [--no-base]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _process import ROOT, measure

SHAPES = {
    "distilbert r16": (6, 16, "F32", {"q_lin": (768, 768), "v_lin": (768, 768)}),
    "8B r16": (32, 16, "BF16", None),
    "8B r64": (32, 64, "BF16", None),
    "70B r64": (80, 64, "BF16", None),
}
WIDTHS = {"8B": (4096, 1024, 14336), "70B": (8192, 1024, 28672), "1.3G": (2048, 512, 8192)}
GOALS = {"8B r16 in process": 0.43 / 3, "8B r16 cold": 3.9 / 10, "distilbert r16 cold": 0.3, "base": 5.0}
"""CPU seconds: a third and a tenth of what an auditor on torch took where these goals were set, and the rest as set."""


def linears(size: str) -> dict[str, tuple[int, int]]:
    """(out, in) of the seven linear layers of a block, by their names."""
    hidden, kv, inner = WIDTHS[size]
    return {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def factors(shape: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and shape of every factor of an adapter."""
    layers, rank, _, modules = SHAPES[shape]
    path = "model.layers" if modules is None else "distilbert.transformer.layer"
    within = "" if modules is None else "attention."
    for layer in range(layers):
        for module, (out, width) in (modules or linears(shape.split(maxsplit=1)[0])).items():
            name = f"base_model.model.{path}.{layer}.{within}{module}"
            yield f"{name}.lora_A.weight", (rank, width)
            yield f"{name}.lora_B.weight", (out, rank)


def write_tensors(
    path: Path, tensors: list[tuple[str, tuple[int, int]]], dtype: str, scale: float, *, trained: bool = False
) -> None:
    """A safetensors file of normal random numbers, written a tensor at a time; `trained` adds outliers to each."""
    import numpy as np

    width = 2 if dtype == "BF16" else 4
    header, place = {}, 0
    for name, (rows, columns) in tensors:
        size = rows * columns * width
        header[name] = {"dtype": dtype, "shape": [rows, columns], "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, (rows, columns) in tensors:
            numbers = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)
            values = (numbers + outliers(rng, rows, columns, scale) if trained else numbers).view("<u4")
            file.write(((values >> 16).astype("<u2") if dtype == "BF16" else values).tobytes())


def write_adapter(folder: Path, shape: str) -> Path:
    """An adapter as save_pretrained lays it out."""
    folder.mkdir(parents=True)
    _, rank, dtype, _ = SHAPES[shape]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "base_model_name_or_path": "benchmark"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tensors(folder / "adapter_model.safetensors", list(factors(shape)), dtype, 0.02)
    return folder


def outliers(rng: Any, rows: int, columns: int, scale: float) -> Any:
    """Three directions above the edge of a random matrix (2, 1.5 and 1.2 times), as trained weights have them."""
    import numpy as np

    edge = scale * (math.sqrt(rows) + math.sqrt(columns))
    left, right = (np.linalg.qr(rng.standard_normal((size, 3)))[0].astype(np.float32) for size in (rows, columns))
    return (left * np.float32([2 * edge, 1.5 * edge, 1.2 * edge])) @ right.T


def write_base(folder: Path, layers: int = 22, shards: int = 4) -> Path:
    """A base of 1.34 G parameters in bfloat16, in shards with an index, and an adapter for all of its linear layers."""
    folder.mkdir(parents=True)
    names = [
        (f"model.layers.{layer}.{module}.weight", size)
        for layer in range(layers)
        for module, size in linears("1.3G").items()
    ]
    index: dict[str, str] = {}
    step = math.ceil(len(names) / shards)
    for shard in range(shards):
        part = names[shard * step : (shard + 1) * step]
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        write_tensors(folder / file, part, "BF16", 0.02, trained=True)
        index |= dict.fromkeys((name for name, _ in part), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    adapter = folder / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "benchmark"}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    pairs = [
        pair
        for name, (out, width) in names
        for stem in [f"base_model.model.{name.removesuffix('.weight')}"]
        for pair in ((f"{stem}.lora_A.weight", (8, width)), (f"{stem}.lora_B.weight", (out, 8)))
    ]
    write_tensors(adapter / "adapter_model.safetensors", pairs, "BF16", 0.02)
    return folder


# --- what a child process does: the imports first, then the work, each timed ---


def import_ours() -> None:
    """What an audit without a base imports."""
    import gradience_analysis.audit  # noqa: F401


def import_torch() -> None:
    """What the peers import."""
    import safetensors.torch
    import torch

    torch.set_num_threads(1)
    del safetensors


def run_ours(folder: Path) -> float:
    """The spectra and the totals; the median stable rank, so that the ways can be compared."""
    from gradience_analysis.audit import audit_adapter

    return float(audit_adapter(folder).summary["stable_rank_median"])


def run_base(folder: Path) -> float:
    """The norms of every base weight; the median UDR."""
    from gradience_analysis.audit import audit_adapter

    return float(audit_adapter(folder / "adapter", folder).summary["udr_median"])


def import_compression() -> None:
    """What a compression imports."""
    import gradience_analysis.compression  # noqa: F401


def run_compress(folder: Path) -> float:
    """The adapter written again at rank 8, read back and measured; the relative error."""
    from gradience_analysis.compression import compress_adapter

    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        done = compress_adapter(folder, Path(place) / "smaller", rule=8)
    return float(done.total_measured or 0.0)


def run_power(folder: Path) -> float:
    """20 steps of the power method on each base weight in float32; the median UDR."""
    import statistics

    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    adapter = load_file(str(folder / "adapter" / "adapter_model.safetensors"))
    ratios: list[float] = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                weight = tensors.get_tensor(name).float()
                vector = torch.ones(weight.shape[1])
                for _ in range(20):
                    vector = weight.T @ (weight @ vector)
                    vector /= vector.norm()
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                lora_a, lora_b = (adapter[f"{stem}.lora_{letter}.weight"].double() for letter in "AB")
                left = torch.linalg.qr(lora_b, mode="r")[1]
                right = torch.linalg.qr(lora_a.T, mode="r")[1]
                ratios.append(float(2 * torch.linalg.svdvals(left @ right.T)[0] / (weight @ vector).norm()))
    return statistics.median(ratios)


def run_floor(folder: Path) -> float:
    """Every byte once, through the page cache."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        buffer = bytearray(1 << 20)
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return float(total)


def run_torch(folder: Path, way: str) -> float:
    """`load_file`, then each update's spectrum; the median stable rank."""
    import statistics

    import safetensors.torch
    import torch

    tensors = safetensors.torch.load_file(str(folder / "adapter_model.safetensors"))
    ranks: list[float] = []
    for name, lora_a in tensors.items():
        if ".lora_A." not in name:
            continue
        lora_b = tensors[name.replace(".lora_A.", ".lora_B.")]
        if way == "dense":
            sigma = torch.linalg.svdvals(2 * lora_b.float() @ lora_a.float())
        elif way == "qr":
            right = torch.linalg.qr(lora_a.float().T, mode="r")[1]
            left = torch.linalg.qr(lora_b.float(), mode="r")[1]
            sigma = torch.linalg.svdvals(2 * left @ right.T)
        else:
            a, b = lora_a.double(), lora_b.double()
            values, vectors = torch.linalg.eigh(b.T @ b)
            root = vectors * values.clamp_min(0).sqrt() @ vectors.T
            sigma = 2 * torch.linalg.eigvalsh(root @ (a @ a.T) @ root).clamp_min(0).sqrt()
        squares = sigma.double() ** 2
        ranks.append(float(squares.sum() / squares.max()))
    return statistics.median(ranks)


WAYS = {
    "ours": (import_ours, run_ours),
    "compress": (import_compression, run_compress),
    "read": (lambda: None, run_floor),
    "torch, Gram": (import_torch, lambda folder: run_torch(folder, "gram")),
    "torch, QR": (import_torch, lambda folder: run_torch(folder, "qr")),
    "torch, dense": (import_torch, lambda folder: run_torch(folder, "dense")),
    "base": (import_ours, run_base),
    "torch, power": (import_torch, run_power),
}


def child(way: str, folder: Path) -> None:
    """Import, work, and print what each cost."""
    load, work = WAYS[way]
    load()
    imported, started = time.process_time(), time.monotonic()
    result = work(folder)
    cpu, wall = time.process_time() - imported, time.monotonic() - started
    # Not ru_maxrss: that of the process which started this one counts there, too.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "cold": time.process_time(), "peak": peak, "result": result}))


def best(way: str, folder: Path, repeat: int) -> dict[str, float]:
    """The cheapest of several runs."""
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "schema", ROOT / "cli"))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": paths}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    runs: list[dict[str, float]] = []
    for _ in range(repeat + 1):  # the first compiles, and fills the page cache
        command = [sys.executable, __file__, "--child", way, str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        runs.append(json.loads(done.stdout))
    return min(runs[1:], key=lambda run: run["cpu"])


def print_row(name: str, run: dict[str, float], ours: dict[str, float] | None = None) -> None:
    """One way's line; beside ours, how many times as much it took."""
    times = "" if ours is None else f"{run['cpu'] / ours['cpu']:8.1f}x {run['cold'] / ours['cold']:8.1f}x"
    print(
        f"  {name:14} {run['cpu']:9.3f} {run['cold']:9.3f} {run['wall']:9.3f} {run['peak']:9.0f} "
        f"{run['result']:12.4f} {times}"
    )


def print_goal(name: str, value: float, goal: float, unit: str = "s") -> None:
    """Whether a goal is met."""
    print(f"  goal, {name}: {value:.3f} {unit} of {goal:.3f} {unit}: {'met' if value <= goal else 'NOT met'}")


def adapters(folder: Path, shapes: list[str], repeat: int) -> None:
    """Each size in each way."""
    for shape in shapes:
        written = write_adapter(folder / shape.replace(" ", "-"), shape)
        size = (written / "adapter_model.safetensors").stat().st_size / 1e6
        largest = max(math.prod(size) for _, size in factors(shape)) * 8 / 1e6
        print(f"\n{shape}: {sum(1 for _ in factors(shape)) // 2} modules, {size:,.0f} MB\n")
        print(f"  {'':14} {'cpu s':>9} {'cold s':>9} {'wall s':>9} {'peak MB':>9} {'result':>12}  as much as ours")
        few = max(1, repeat // 3) if shape.startswith("70B") else repeat
        ours = best("ours", written, few)
        print_row("ours", ours)
        ways = ["torch, Gram", "torch, QR", *(["torch, dense"] if shape.startswith("distilbert") else [])]
        for way in ways:
            print_row(way, best(way, written, few), ours)
        print_row("compress", best("compress", written, few), ours)
        print_row("read", best("read", written, repeat))
        for name in (f"{shape} in process", f"{shape} cold"):
            if name in GOALS:
                print_goal(f"{name}, cpu", ours["cold" if name.endswith("cold") else "cpu"], GOALS[name])
        if shape == "8B r16":
            print_goal("peak memory: 60 MB and the largest pair", ours["peak"], 60 + 2 * largest, "MB")
        if shape == "distilbert r16":
            command = [sys.executable, "-m", "gradience_cli", "audit", str(written)]
            cost = measure(command, repeat, folder / "bytecode")
            print_goal("the whole command `gradience audit`, cpu", cost.cpu_s, GOALS["distilbert r16 cold"])
        shutil.rmtree(written)


def base(folder: Path, repeat: int) -> None:
    """The norms of a base."""
    written = write_base(folder / "base")
    parameters = sum(path.stat().st_size for path in written.glob("*.safetensors")) / 2
    print(f"\nBase norms: {parameters / 1e9:.2f} G parameters in bfloat16, 154 matrices, tolerance 1e-4\n")
    print(f"  {'':14} {'cpu s':>9} {'cold s':>9} {'wall s':>9} {'peak MB':>9} {'result':>12}  as much as ours")
    ours = best("base", written, max(1, repeat // 3))
    print_row("ours", ours)
    print_row("torch, power", best("torch, power", written, 1), ours)
    print_row("read", best("read", written, repeat))
    print_goal("cpu", ours["cpu"], GOALS["base"])
    print_goal("peak memory", ours["peak"], 150, "MB")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-70b", action="store_true", help="leave out the 70B adapter, which takes 1.7 GB of disk")
    parser.add_argument("--no-base", action="store_true", help="leave out the base, which takes 2.7 GB of disk")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        adapters(
            Path(name), [shape for shape in SHAPES if not (options.no_70b and shape.startswith("70B"))], options.repeat
        )
        if not options.no_base:
            base(Path(name), options.repeat)


if __name__ == "__main__":
    main()
