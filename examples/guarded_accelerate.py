"""`GradienceController` in a loop with accelerate and gradient accumulation, with one batch that would end it.

Try it, alone or with `accelerate launch`:

    python examples/guarded_accelerate.py --out accelerate-run
    gradience monitor accelerate-run
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

from gradience import GradienceController
from gradience_train.embedded import tiny_qa

parser = argparse.ArgumentParser(description="An accelerate loop that survives a bad batch.")
parser.add_argument("--out", default="accelerate-run", help="where the run is written")
parser.add_argument("--max-steps", type=int, default=30, help="optimizer steps, of two batches each")
parser.add_argument("--bad-step", type=int, default=12, help="the step whose second batch is bad; 0 for none")
options = parser.parse_args()

ACCUMULATE = 2
accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATE, cpu=not torch.cuda.is_available())
set_seed(0)
task = tiny_qa(seed=0)  # your own model and data go here
lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
model = get_peft_model(task.model, lora)


def collate(rows):
    """Turn rows of equal length into one batch of tensors."""
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}


loader = DataLoader(task.train, batch_size=8, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
scheduler = get_linear_schedule_with_warmup(optimizer, 3, options.max_steps)
model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

# What accelerate has prepared is what the loop calls, so that is what the controller is given.
controller = GradienceController(
    options.out,
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    log_every=5,
    dataset_name="embedded:templated-qa",
)

with controller.watch(clipped=True):
    step = batch_number = 0
    while step < options.max_steps:
        for batch in loader:
            batch_number += 1
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                if batch_number == ACCUMULATE * options.bad_step:
                    loss = loss * float("nan")
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            step += accelerator.sync_gradients
            if step == options.max_steps:
                break

if accelerator.is_main_process:
    summary = controller.summary
    print(f"final loss {summary['final_loss']:.3f} after {summary['total_steps']} steps")
    print(f"guard: {summary['guard']['integrity_status']}, {summary['guard']['total_skips']} update dropped")
