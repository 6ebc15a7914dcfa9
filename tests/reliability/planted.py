"""Generators of planted secrets and of clean telemetry text; every value is made up here."""

# ruff: noqa: E501 - one maker of clean text a line

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator

_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_FIRST = ["alice", "bob.smith", "j.doe", "maria_k", "x.y-z", "o'neil".replace("'", ""), "ünal", "info+ml", "a1", "TEAM"]
_DOMAINS = [
    "example.com",
    "mail.example.org",
    "uni-example.ac.uk",
    "corp.example.io",
    "example.museum",
    "xn--bcher-kva.example",
]


def _word(chance: random.Random, alphabet: str, length: int) -> str:
    return "".join(chance.choices(alphabet, k=length))


def _with_digit(chance: random.Random, length: int) -> str:
    return _word(chance, _ALNUM, length - 1) + chance.choice(string.digits)


def email(chance: random.Random) -> str:
    """An address."""
    return f"{chance.choice(_FIRST)}{chance.randrange(100)}@{chance.choice(_DOMAINS)}"


def phone(chance: random.Random) -> str:
    """A phone number in one of the usual spellings."""
    area, middle, last = chance.randrange(200, 999), chance.randrange(200, 999), f"{chance.randrange(10_000):04}"
    return chance.choice(
        [
            f"+1 {area} {middle} {last}",
            f"+1-{area}-{middle}-{last}",
            f"({area}) {middle}-{last}",
            f"{area}-{middle}-{last}",
            f"+49 30 {middle}{last}",
            f"+44 20 7946 {last}",
            f"+33 6 12 34 {last[:2]} {last[2:]}",
            f"+1{area}{middle}{last}",
            f"+1.{area}.{middle}.{last}",
            f"0049 30 {middle} {last}",
            f"+1 ({area}) {middle}-{last}",
        ]
    )


def api_key(chance: random.Random) -> str:
    """A key whose own form gives it away."""
    return chance.choice(
        [
            "sk-" + _with_digit(chance, 48),
            "sk-proj-" + _with_digit(chance, 60),
            "sk-ant-api03-" + _with_digit(chance, 80),
            "AKIA" + _word(chance, string.ascii_uppercase + "234567", 16),
            "ASIA" + _word(chance, string.ascii_uppercase + "234567", 16),
            "hf_" + _word(chance, string.ascii_letters, 34),
            "ghp_" + _word(chance, _ALNUM, 36),
            "gho_" + _word(chance, _ALNUM, 36),
            "github_pat_" + _word(chance, _ALNUM, 22) + "_" + _word(chance, _ALNUM, 59),
        ]
    )


def key_in_context(chance: random.Random) -> str:
    """A secret without a form of its own, beside the word that tells."""
    secret = _word(chance, _HEX, 40)
    return chance.choice(
        [
            f"wandb login {secret}",
            f"WANDB_API_KEY={secret}",
            f"aws_secret_access_key = {_with_digit(chance, 40)}",
            f'"api_key": "{secret}"',
            f"password: {_with_digit(chance, 12)}",
            f"--hub_token={_with_digit(chance, 30)}",
            f"client_secret='{_with_digit(chance, 24)}'",
            f"Authorization: Bearer {_with_digit(chance, 40)}",
        ]
    )


def token_url(chance: random.Random) -> str:
    """A URL that carries a secret in its user part or its query."""
    token = _with_digit(chance, 32)
    return chance.choice(
        [
            f"https://user:{token}@git.example.com/repo.git",
            f"https://{token}@github.com/org/repo",
            f"https://api.example.com/v1?access_token={token}",
            f"https://s3.example.com/b/o?X-Amz-Date=1&X-Amz-Signature={token}&x=1",
            f"postgres://ml:{token}@db.internal:5432/runs",
            f"https://example.com/cb#id_token={token}",
            f"redis://:{token}@cache:6379/0",
        ]
    )


def jwt(chance: random.Random) -> str:
    """A JSON Web Token."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(f'{{"sub":"{chance.randrange(10**9)}"}}'.encode()).decode().rstrip("=")
    return f"{head}.{body}.{_word(chance, _ALNUM + '-_', 43)}"


def pem(chance: random.Random) -> str:
    """A private key."""
    kind = chance.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"])
    lines = "\n".join(_word(chance, _ALNUM + "+/", 64) for _ in range(2))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


def basic_auth(chance: random.Random) -> str:
    """An HTTP basic credential."""
    pair = base64.b64encode(f"user{chance.randrange(100)}:{_with_digit(chance, 10)}".encode()).decode()
    return chance.choice([f"Authorization: Basic {pair}", f"basic {pair}", f"'authorization': 'Basic {pair}'"])


KINDS: dict[str, Callable[[random.Random], str]] = {
    "email": email,
    "phone": phone,
    "api key": api_key,
    "key in context": key_in_context,
    "token url": token_url,
    "jwt": jwt,
    "pem": pem,
    "basic auth": basic_auth,
}


def ends_of(secret: str) -> tuple[str, str]:
    """The first and the last characters of the part of a planted secret that must not be found in the file."""
    core = _core(secret)
    return core[:8], core[-8:]


def _core(secret: str) -> str:
    for mark in ("Bearer ", "asic ", "login ", "token=", "Signature="):
        if mark in secret:
            return secret.split(mark)[1].partition("&")[0].strip("'\"")
    if "://" in secret:
        return secret.split("://")[1].split("@", maxsplit=1)[0].rpartition(":")[2]
    if secret.startswith("-----BEGIN"):
        return secret.split("\n")[1]
    for mark in (": ", " = ", "="):
        if mark in secret and "@" not in secret:
            return secret.split(mark, 1)[1].strip("'\"")
    return secret


def clean_lines(count: int, seed: int) -> Iterator[str]:
    """Strings that training telemetry is full of, and that hold no secret."""
    chance = random.Random(seed)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "fc1", "query_key_value"]
    optimizers = ["adamw_torch", "sgd", "adafactor", "paged_adamw_8bit", "lion_8bit"]

    def number() -> str:
        return repr(
            chance.choice([chance.random(), chance.gauss(0, 1e3), chance.random() * 1e-8, chance.randrange(10**12)])
        )

    makers: list[Callable[[], str]] = [
        lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        lambda: _word(chance, _HEX, 40),
        lambda: _word(chance, _HEX, 64),
        lambda: "sha256:" + _word(chance, _HEX, 64),
        lambda: _word(chance, _HEX, 7),
        lambda: (
            f"base_model.model.model.layers.{chance.randrange(80)}.self_attn.{chance.choice(layers)}.lora_A.default.weight"
        ),
        number,
        lambda: f"[{chance.randrange(1, 9000)}, {chance.randrange(1, 9000)}]",
        lambda: f"torch.Size([{chance.randrange(1, 64)}, {chance.randrange(1, 9000)}])",
        lambda: f"{chance.randrange(1990, 2040)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
        lambda: (
            f"2026-{chance.randrange(1, 13):02}-11T{chance.randrange(24):02}:30:{chance.randrange(60):02}.{chance.randrange(10**6):06}+00:00"
        ),
        lambda: f"{chance.randrange(9)}.{chance.randrange(40)}.{chance.randrange(30)}+cu{chance.randrange(110, 130)}",
        lambda: f"/data/runs/{chance.randrange(10**6)}/checkpoint-{chance.randrange(10**5)}/adapter_model.safetensors",
        lambda: (
            f"https://example.com/datasets/set-{chance.randrange(10**4)}/resolve/main/train-{chance.randrange(100):05}-of-00100.parquet?download=true"
        ),
        lambda: f"lr={number()} wd={number()} betas=(0.9, 0.{chance.randrange(900, 1000)}) eps=1e-08",
        lambda: f"{chance.choice(optimizers)} warmup_ratio=0.0{chance.randrange(10)} max_grad_norm={number()}",
        lambda: f"step {chance.randrange(10**5)}/{chance.randrange(10**6)} loss {number()} ppl {number()}",
        lambda: f"NVIDIA H200 {chance.randrange(8)}: {chance.randrange(10**5)} MiB / {chance.randrange(10**5)} MiB",
        lambda: (
            f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}:{chance.randrange(1024, 65536)}"
        ),
        lambda: (
            f"pad_token_id={chance.randrange(10**5)} eos_token=</s> num_tokens={chance.randrange(10**9)} tokens/s {number()}"
        ),
        lambda: f"meta-llama/Llama-{chance.randrange(1, 9)}.{chance.randrange(4)}-{chance.randrange(1, 90)}B-Instruct",
        lambda: f"{chance.randrange(-(10**9), 10**9)} {number()} {number()} {chance.randrange(100)}%",
        lambda: (
            f"CUDA out of memory. Tried to allocate {number()} GiB. GPU {chance.randrange(8)} has {number()} GiB free"
        ),
        lambda: (
            f"basic block {chance.randrange(99)}, key dimension {chance.randrange(256)}, secret santa task {chance.randrange(9)}"
        ),
        lambda: (
            f"tokenizer: {chance.choice(['fast', 'slow'])}, key: value_{chance.randrange(999)}, passes={chance.randrange(9)}"
        ),
        lambda: (
            f"r={chance.randrange(1, 256)} alpha={chance.randrange(1, 512)} target_modules=q_proj,v_proj seed={chance.randrange(10**9)}"
        ),
    ]
    for index in range(count):
        yield makers[index % len(makers)]()
