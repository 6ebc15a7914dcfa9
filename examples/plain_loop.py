"""`TelemetryWriter` in a training loop of your own, without any trainer.

Try it:

    python examples/plain_loop.py --out plain-run
    gradience monitor plain-run
"""

import argparse
import itertools
import math

import torch
from peft import LoraConfig, get_peft_model

from gradience import ConfigSnapshot, LoraSnapshot, OptimizerSnapshot, TelemetryWriter, TrainingSnapshot
from gradience_train.embedded import tiny_qa

parser = argparse.ArgumentParser(description="A hand-written loop that records itself.")
parser.add_argument("--out", default="plain-run", help="where the run is written")
parser.add_argument("--max-steps", type=int, default=60)
options = parser.parse_args()

LR, BATCH = 5e-3, 16
task = tiny_qa(seed=0)  # your own model and data go here
lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
model = get_peft_model(task.model, lora)
trainable = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=LR)


def batches(rows, size):
    """Collate rows, for ever and in order, into batches of tensors."""
    endless = itertools.cycle(rows)
    while True:
        chosen = list(itertools.islice(endless, size))
        yield {key: torch.tensor([row[key] for row in chosen]) for key in chosen[0]}


def validation_loss():
    """Compute the loss on all validation rows at once."""
    model.eval()
    with torch.no_grad():
        loss = model(**next(batches(task.val, len(task.val)))).loss.item()
    model.train()
    return loss


config = ConfigSnapshot(
    model_name="embedded:tiny-causal",
    dataset_name="embedded:templated-qa",
    optimizer=OptimizerSnapshot(name="adamw", lr=LR),
    lora=LoraSnapshot(r=lora.r, alpha=lora.lora_alpha, target_modules=sorted(lora.target_modules)),
    training=TrainingSnapshot(seed=0, batch_size=BATCH, max_steps=options.max_steps),
)

# Leaving the block writes run_end: status ok, or error with the exception's type if one comes out of it.
with TelemetryWriter(f"{options.out}/run.jsonl") as telemetry:
    telemetry.run_start(config)
    for step, batch in enumerate(batches(task.train, BATCH), start=1):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        if step % 5 == 0:
            telemetry.train_step(step, loss=loss.item(), lr=LR, grad_norm=grad_norm.item())
        if step % 20 == 0:
            val = validation_loss()
            telemetry.eval(step, split="val", metrics={"loss": val, "ppl": math.exp(val), "n": len(task.val)})
        if step == options.max_steps:
            break
print(f"wrote {telemetry.path}")
