"""The whole integration is one argument: `callbacks=[GradienceCallback()]`.

Try it:

    python examples/minimal_trainer.py --out my-run
    gradience monitor my-run
"""

import argparse

from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from gradience import GradienceCallback
from gradience_train.embedded import tiny_qa

parser = argparse.ArgumentParser(description="A LoRA fine-tune that records itself.")
parser.add_argument("--out", default="my-run", help="where the run is written")
parser.add_argument("--max-steps", type=int, default=60)
options = parser.parse_args()

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
    eval_dataset=task.val,
    callbacks=[GradienceCallback()],  # this line; it writes my-run/run.jsonl
)
trainer.train()
