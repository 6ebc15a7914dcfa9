"""Every option of the callback, with what it is for.

Try it:

    python examples/full_configuration.py --out full-run
    gradience monitor full-run --verbose
"""

import argparse

from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from gradience import GradienceCallback, GradienceCallbackConfig, TaskProfile
from gradience_train.embedded import tiny_qa

parser = argparse.ArgumentParser(description="A LoRA fine-tune with every callback option spelled out.")
parser.add_argument("--out", default="full-run", help="where the run is written")
parser.add_argument("--max-steps", type=int, default=60)
options = parser.parse_args()

config = GradienceCallbackConfig(
    # Where to. By default run.jsonl in the trainer's output_dir. An existing file is never changed:
    # the run then starts a segment beside it, run.1.jsonl.
    output_dir=options.out,
    filename="run.jsonl",
    # An identifier of your own; by default a new one, or the earlier one when a checkpoint is resumed.
    run_id="full-configuration-example",
    # Labels for the report. The profile decides the limits the run is judged by.
    dataset_name="embedded:templated-qa",
    task_profile=TaskProfile.GENERATION,
    notes="every option, spelled out",
    # Strings longer than this are replaced by their length, unless text is allowed.
    # Keys, tokens, e-mail addresses and the like are replaced in any case.
    telemetry_allow_text=False,
    telemetry_max_str_len=256,
    # The machine's name is written as a hash unless allowed.
    allow_hostname=False,
    # Throughput and memory, every so many optimizer steps; 0 writes none.
    telemetry_interval=10,
    # Evaluate this many training examples, always the same ones, at each evaluation. That is what a real
    # generalization gap is taken from; it costs a forward pass over them each time. 0, the default: none.
    train_eval_samples=64,
    train_eval_seed=0,
    # By default only rank 0 writes; True gives each further rank a file, run.rank1.jsonl.
    rank_telemetry=False,
    # Experimental: the guard drops updates that would damage the training and restores what is damaged.
    # mode "observe" only writes down what it would do. docs/guard.md says what it can and cannot do.
    enable_guard=True,
    guard_mode="act",
    # A snapshot of weights, optimizer, schedule and random numbers every so many steps; the newest are kept.
    guard_snapshot_every=10,
    guard_ring_size=5,
    # What an explosion is: this norm at first, then a spike over the run's own norms.
    guard_grad_threshold=100.0,
    guard_spike_deviations=8.0,
    guard_spike_ratio=4.0,
    guard_spike_window=64,
    guard_spike_min_history=16,
    guard_on_clipped_spike="warn",
    # How far a rollback goes, how often it may happen, and when the guard gives up.
    guard_steps_back=1,
    guard_prune_newer_on_rollback=True,
    guard_cooldown_steps=10,
    guard_window_steps=50,
    guard_max_rollbacks=3,
    guard_max_skips=20,
    guard_on_abort="stop",
    # Halve the learning rate after a rollback, three times at most; None, the default, leaves it.
    guard_lr_backoff=0.5,
    guard_max_backoffs=3,
    # Experimental: singular values of the adapter's update, every so many steps. The levels are not calibrated,
    # so nothing acts on them unless you say so.
    spectral_enabled=True,
    spectral_interval=20,
    spectral_actions=False,
    spectral_on_instability="rollback",
)

task = tiny_qa(seed=0)  # your own model and data go here
model = get_peft_model(task.model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=options.out,
        max_steps=options.max_steps,
        learning_rate=5e-3,
        logging_steps=5,
        eval_strategy="steps",
        eval_steps=20,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=task.train,
    eval_dataset={"val": task.val, "reworded": task.test},  # several sets: each becomes a split of its name
    callbacks=[GradienceCallback(config)],
)
trainer.train()
