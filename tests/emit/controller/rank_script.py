"""One rank of two, started by torchrun from `test_ranks`: a watched loop whose batch is NaN on the second rank only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from gradience_emit.controller import GradienceController
from tests.emit.controller.loops import Training


def train(out: Path, *, guarded: bool) -> dict[str, torch.Tensor]:
    """Train with data parallelism; the outcome."""
    training = Training("one_cycle", dropout=0.2)
    rank = torch.distributed.get_rank()
    training.model = torch.nn.parallel.DistributedDataParallel(training.model)
    torch.manual_seed(rank)  # each rank has random numbers of its own
    struck = {4, 12}
    if guarded:
        controller = GradienceController(out, **training.parts())
        with controller.watch():
            training.run(dict.fromkeys(struck, "nan_batch") if rank == 1 else None)
    else:
        training.run(left_out=struck)
    return training.outcome()


def main() -> None:
    """Train guarded and bare, and save both outcomes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    out, rank = Path(sys.argv[1]), torch.distributed.get_rank()
    torch.save(train(out, guarded=True), out / f"guarded.{rank}.pt")
    torch.save(train(out, guarded=False), out / f"bare.{rank}.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    main()
    os._exit(0)  # every file is complete; gloo's teardown can wait for itself while DDP models are freed
