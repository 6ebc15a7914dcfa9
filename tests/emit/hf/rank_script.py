"""One rank of a distributed training, started by torchrun from `test_ranks`: trains in two folders, one per option."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from gradience_emit.hf import GradienceCallback
from tests.emit.hf import tiny


def main() -> None:
    """Train twice, and once with the callback on no rank, and save the weights of the first and the last."""
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    options = {"eval_strategy": "steps", "eval_steps": 2, "ddp_backend": "gloo"}
    first = GradienceCallback(train_eval_samples=6)
    trainer = tiny.trainer(out / "one", first, **options)
    trainer.train()
    torch.save(tiny.weights(trainer.model), out / f"with.{trainer.args.process_index}.pt")
    every = GradienceCallback(rank_telemetry=True)
    tiny.trainer(out / "every", every, **options).train()
    bare = tiny.trainer(out / "bare", **options)
    bare.train()
    torch.save(tiny.weights(bare.model), out / f"without.{bare.args.process_index}.pt")
    torch.distributed.barrier()


if __name__ == "__main__":
    main()
    # every file is complete; gloo's teardown can wait for itself while DDP models are freed, seen once in ten runs
    os._exit(0)
