"""R19: a configuration is data. No alias, no tag, at most 1 MiB and 64 levels; nothing that it names is opened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.config_check.configs import FLAT
from tests.cli.command import Result, environment, gradience

USAGE = 2
MIB = 1 << 20
SECONDS = 10
MEMORY = 512 << 20

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS: dict[str, str | bytes] = {
    "an alias bomb": LAUGHS,
    "one alias": "r: &r 8\nalpha: *r\n",
    "an anchor alone": "r: &r 8\n",
    "a list that holds itself": "a: &a [*a]\n",
    "a merge of an alias": "base: &b {r: 8}\nlora:\n  <<: *b\n",
    "a merge key alone": "lora:\n  <<: {r: 8}\n",
    "flow brackets": "[" * 100_000,
    "closed flow brackets": "a: " + "[" * 5_000 + "]" * 5_000,
    "braces": "{" * 100_000,
    "braces with keys": "{a: " * 50_000,
    "block nesting": "".join(f"{' ' * depth}a:\n" for depth in range(1_000)),
    "dashes": "- " * 100_000,
    "65 levels": "{a: " * 65 + "1" + "}" * 65,
    "question marks": "? " * 100_000,
    "a number in base 60": "seed: 1" + ":1" * 400_000,
    "a number of many digits": "seed: " + "9" * 1_000_000,
    "a binary number of many digits": "seed: 0b" + "1" * 1_000_000,
    "more than 1 MiB": "# " + "x" * MIB + "\nr: 8\n",
    "a tag that imports": "r: !!python/name:os.system\n",
    "a tag of one's own": "r: !evil 8\n",
    "a directive for a tag": "%TAG ! tag:yaml.org,2002:python/\n---\nr: !object/apply:os.system [id]\n",
    "two documents": "r: 8\n---\nr: 9\n",
    "repeated keys": "r: 8\nr: 9\n",
    "a NUL": "r: 8\x00\n",
    "an escape": "r: \x1b[2J\n",
    "a bad escape in quotes": 'r: "\\q"\n',
    "tabs": "a:\n\t- b\n",
    "a lone quote": "'" + "a\n" * 10_000,
    "UTF-16": "r: 8\n".encode("utf-16"),
    "bytes that are no UTF-8": b"r: \xff\xfe\xfd\n",
}
JSON_BOMBS: dict[str, str] = {
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 50_000 + "]" * 50_000,
    "objects": '{"a":' * 60_000 + "1" + "}" * 60_000,
    "65 levels": '{"a":' * 65 + "1" + "}" * 65,
    "an integer of many digits": '{"r": ' + "9" * 500_000 + "}",
    "repeated keys": '{"r": 1, "r": 2}',
    "a comment": '{"r": 1} // one',
    "single quotes": "{'r': 1}",
    "several values": '{"r": 1}\n{"r": 2}\n',
    "more than 1 MiB": '{"a": "' + "x" * MIB + '"}',
    "a byte order mark inside": '{"r": \ufeff1}',
}


def in_a_small_process(*arguments: str | Path) -> Result:
    """The command in a process that may use so much memory and time."""
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        f"resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))\n"
        "from gradience_cli.app import run\nsys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=environment(),
        timeout=120,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def refused(result: Result, path: Path) -> None:
    """Exit code 2, one short complaint that names the file, and nothing that steers a terminal."""
    assert result.returncode == USAGE, result.stderr
    assert result.stdout == ""
    assert path.name in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 1_000
    assert "\x1b" not in result.stderr


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", BOMBS)
def test_a_yaml_bomb_is_refused_within_bounds(tmp_path: Path, name: str) -> None:
    """Given YAML that expands, nests, imports or misleads, when checked, then it is refused within the bounds."""
    path, text = tmp_path / "config.yaml", BOMBS[name]
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    refused(in_a_small_process("check", path), path)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", JSON_BOMBS)
@pytest.mark.parametrize("option", [(), ("--peft",), ("--training",)])
def test_a_json_bomb_is_refused_within_bounds(tmp_path: Path, name: str, option: tuple[str, ...]) -> None:
    """Given JSON that nests, repeats or misleads, when given as any file of settings, then it is refused too."""
    path = tmp_path / "config.json"
    path.write_text(JSON_BOMBS[name], encoding="utf-8")
    refused(gradience("check", *option, path), path)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "text",
    [
        "{" + ", ".join(f"k{n}: {n}" for n in range(60_000)) + "}",
        "\n".join(f"lerning_rate{n}: {n}" for n in range(40_000)),
        "r: [" + ", ".join(["1"] * 300_000) + "]",
        "target_modules: '" + "x" * 900_000 + "'",
        "a: |\n" + "  line\n" * 100_000,
        "# comment\n" * 90_000 + "r: 8\n",
        "a: {" + "a: {" * 62 + "}" * 63,
    ],
    # pytest hands the name of a test to every child process, which a name of a megabyte stops from starting
    ids=["keys", "lines", "list", "string", "block", "comments", "nested"],
)
def test_a_large_configuration_within_the_cap_costs_little(tmp_path: Path, text: str) -> None:
    """Given as much as 1 MiB can hold, when checked, then it ends with a known exit code, in the same bounds."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert path.stat().st_size <= MIB
    result = in_a_small_process("check", path)
    assert result.returncode in {0, 1, 3}, result.stderr
    assert len(result.stdout) < 100_000


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "!!python/object/apply:subprocess.check_output [['touch', '{}']]",
        "!!python/object/new:os.system ['touch {}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{}']]",
        '!!python/object/apply:builtins.exec [\'open("{}", "w")\']',
        "!!python/object/apply:builtins.open ['{}', 'w']",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {}']",
    ],
)
@pytest.mark.parametrize("where", ["lora_r: {}", "{}", "target_modules: [{}]", "training: {{seed: {}}}"])
def test_no_code_runs_from_a_tag(tmp_path: Path, tag: str, where: str) -> None:
    """Given tags that run code in a careless reader, when checked, then they are refused, and no file is touched."""
    touched = tmp_path / "touched"
    path = tmp_path / "config.yaml"
    path.write_text(where.format(tag.replace("{}", str(touched))) + "\n", encoding="utf-8")
    refused(gradience("check", path), path)
    assert not touched.exists()


LABELS: dict[str, Any] = {
    "base_model_path": "FOLDER/model",
    "train_file": "FOLDER/pipe",
    "test_file": "FOLDER/pipe",
    "output_dir": "FOLDER/out",
    "adapters_dir": "../../../../etc",
    "runs_dir": "FOLDER/link",
    "dataset": "/dev/zero",
    "resume_from_checkpoint": "FOLDER/checkpoint-5",
    "deepspeed": "FOLDER/pipe",
    "include": "FOLDER/pipe",
    "$ref": "file:///etc/passwd",
    "lora": {"r": 16, "base_model_name_or_path": "FOLDER/pipe"},
}


def test_paths_inside_are_labels(tmp_path: Path) -> None:
    """Given paths of FIFOs, devices, folders and links in a configuration, when checked, then none of them is opened.

    The process reports every file that it opens; a FIFO that is opened would never return.
    """
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(FLAT | LABELS).replace("FOLDER", str(tmp_path)), encoding="utf-8")
    program = (
        "import sys\nseen = []\n"
        "sys.addaudithook(lambda event, given: seen.append(str(given[0])) if event in "
        "('open', 'os.listdir', 'os.scandir', 'os.mkdir', 'socket.connect', 'subprocess.Popen') else None)\n"
        "from gradience_cli.app import run\ncode = run(sys.argv[1:])\n"
        f"here = ({str(tmp_path)!r}, '/etc/passwd', '/dev/zero', '../..')\n"
        "print(code, [one for one in seen if one.startswith(here)])"
    )
    command = [sys.executable, "-P", "-c", program, "check", str(config), "--quiet"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=60, check=True, cwd=tmp_path / "model"
    )
    assert done.stdout.strip() == f"0 ['{config}']"
    assert not (tmp_path / "out").exists()


def test_a_name_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    """Given a folder with a link to another one, when searched for a file, then only the folder itself is."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir()
    (outside / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    (inside / "way").symlink_to(outside)
    os.mkfifo(inside / "adapter_config.json")
    result = gradience("check", "--peft-dir", inside)
    assert result.returncode == USAGE
    assert "holds no adapter_config.json" in result.stderr
