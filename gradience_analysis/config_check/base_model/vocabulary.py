"""Vocabulary: whether the embedding has a row for each token, and whether padding is kept out of the loss.

Measured: `len(tokenizer)` from the tokenizer's files against the rows of the input embedding in the safetensors
headers; and, where padding is the end-of-sequence token and the training data hold both input_ids and labels, the
examples whose padding carries labels other than -100. A model with more rows than tokens is ordinary and is no
finding. Not measured without `--model`, or for a tokenizer of which only a SentencePiece model is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradience_analysis.config_check.base_model.facts import ModelFacts
from gradience_analysis.config_check.base_model.modules import input_embedding
from gradience_analysis.config_check.subject import Preflight
from gradience_analysis.model import Finding, Measurement
from gradience_analysis.policy import Policy
from gradience_schema import Severity

CODE = "vocabulary_mismatch"
CODES: Mapping[str, str] = {
    CODE: "The tokenizer has more tokens than the embedding has rows, or padding is the end token and is learned."
}
COVERS: Mapping[str, frozenset[str]] = {}


def measure(subject: Preflight) -> tuple[Measurement, ...]:
    """Tokens beyond the last row of the embedding, and examples with padding that is learned."""
    return (_beyond(subject.base_model), _padding(subject))


def _beyond(model: ModelFacts | None) -> Measurement:
    name, unit = "tokens_without_row", "tokens"
    if model is None:
        return Measurement(name, None, unit, reason="No base model was given: give its folder with --model.")
    if not model.shapes:
        return Measurement(name, None, unit, reason=model.fault or model.weights_fault)
    embedding = input_embedding(model)
    if embedding is None:
        return Measurement(name, None, unit, reason="No tensor is named like an input embedding.")
    if model.tokenizer is None or model.tokenizer.size is None:
        return Measurement(name, None, unit, reason="There is no tokenizer.json, vocab.json or vocab.txt to count.")
    size, rows = model.tokenizer.size, embedding[0]
    details = {"tokens": size, "rows": rows}
    return Measurement(name, max(size - rows, 0), unit, "tokenizer files and safetensors headers", details=details)


def _padding(subject: Preflight) -> Measurement:
    name, unit = "unmasked_padding", "examples"
    tokenizer = subject.base_model.tokenizer if subject.base_model else None
    if tokenizer is None or tokenizer.pad is None or tokenizer.eos is None:
        return Measurement(name, None, unit, reason="The tokenizer's padding and end tokens are not known.")
    train = subject.data.train if subject.data else None
    if train is None or train.unmasked_padding is None:
        return Measurement(name, None, unit, reason="The training data hold no input_ids with labels (--data).")
    details = {"pad": tokenizer.pad, "same": tokenizer.pad == tokenizer.eos, "examples": train.examples}
    return Measurement(name, train.unmasked_padding, unit, "labels where input_ids end in padding", details=details)


def judge(measurements: Sequence[Measurement], policy: Policy) -> list[Finding]:  # noqa: ARG001
    """An error for tokens without a row, a warning for padding that is the end token and is learned."""
    beyond, padding = measurements
    found: list[Finding] = []
    if beyond.value:
        tokens, rows = beyond.details["tokens"], beyond.details["rows"]
        found.append(
            Finding(
                code=CODE,
                severity=Severity.ERROR,
                message=f"The tokenizer has {tokens:,} tokens, and the embedding only {rows:,} rows.",
                evidence=dict(beyond.details),
                advice="Resize the embedding (resize_token_embeddings), and train and save it with the adapter.",
                confidence=0.9,
                basis="counted in the tokenizer's files and the safetensors headers",
                caveat="A script that resizes the embedding before training makes this needless.",
                rule="V10",
            )
        )
    if padding.value and padding.details["same"]:
        found.append(_learned_padding(padding))
    return found


def _learned_padding(padding: Measurement) -> Finding:
    total = padding.details["examples"]
    return Finding(
        code=CODE,
        severity=Severity.WARNING,
        message=f"Padding is the end token, and {padding.value:,} of {total:,} examples are trained to repeat it.",
        evidence=dict(padding.details) | {"unmasked": padding.value},
        advice="Set the labels of padding to -100, or set a padding token of its own.",
        confidence=0.8,
        basis="labels that are not -100 where input_ids end in the padding id twice or more",
        caveat="A collator that masks padding by the attention mask makes this needless.",
        rule="V10",
    )
