"""`GradienceController` around a training loop of your own, with one batch on purpose that would end it.

Try it, and once more with --no-guard:

    python examples/guarded_loop.py --out guarded-run
    gradience monitor guarded-run
"""

import argparse
import itertools

import torch
from peft import LoraConfig, get_peft_model

from gradience import GradienceController
from gradience_train.embedded import tiny_qa

parser = argparse.ArgumentParser(description="A hand-written loop that survives a bad batch.")
parser.add_argument("--out", default="guarded-run", help="where the run is written")
parser.add_argument("--max-steps", type=int, default=60)
parser.add_argument("--bad-step", type=int, default=12, help="the step whose gradient is NaN; 0 for none")
parser.add_argument("--no-guard", action="store_true", help="telemetry only: see what becomes of the run")
options = parser.parse_args()

torch.manual_seed(0)
task = tiny_qa(seed=0)  # your own model and data go here
lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
model = get_peft_model(task.model, lora)
trainable = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=5e-3)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=options.max_steps)


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


controller = GradienceController(
    options.out,
    model=model,
    optimizer=optimizer,
    scheduler=scheduler,
    enable_guard=not options.no_guard,
    log_every=5,
    dataset_name="embedded:templated-qa",
)

# The loop is as it would be without the controller. `clipped=True` tells that it clips: what the controller sees at the
# optimizer's step is clipped already. Leaving the block checks the final weights and writes the end of the run.
with controller.watch(clipped=True):
    for step, batch in enumerate(itertools.islice(batches(task.train, 16), options.max_steps), start=1):
        loss = model(**batch).loss
        loss.backward()
        if step == options.bad_step:
            trainable[0].grad.fill_(float("nan"))
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            controller.eval("val", {"loss": validation_loss(), "n": len(task.val)})

sound = all(bool(torch.isfinite(p).all()) for p in trainable)
guard = controller.summary["guard"]
print(f"weights finite: {sound}; validation loss {validation_loss():.3f}")
print(f"guard: {'off' if guard is None else guard['integrity_status']}; summary in {options.out}/summary.json")
