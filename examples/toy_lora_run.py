"""A small, real LoRA run with everything a tool may want to look at afterwards.

    python examples/toy_lora_run.py --out toy-run --device cpu

It leaves `run.jsonl` (telemetry), `peft/` (the adapter), `base/` (the model the adapter belongs to) and
`training/training_args.json`. Nothing is downloaded.
"""

import argparse

from gradience_train.offline import offline_and_quiet

parser = argparse.ArgumentParser(description="Leave a small LoRA run to look at.")
parser.add_argument("--out", required=True, help="directory of the run")
parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
parser.add_argument("--max-steps", type=int, default=160)
parser.add_argument("--seed", type=int, default=42)
options = parser.parse_args()

offline_and_quiet()  # before the line below imports transformers

from gradience_train.demo import run_demo  # noqa: E402

result = run_demo(options.out, max_steps=options.max_steps, seed=options.seed, device=options.device)
print(f"telemetry      {result.telemetry}")
print(f"adapter        {result.adapter}")
print(f"base model     {result.base}")
print(f"training args  {result.training_args}")
