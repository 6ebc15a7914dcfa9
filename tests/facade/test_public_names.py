"""The public names: every documented import path works, costs nothing, and defines nothing itself."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gradience

ROOT = Path(__file__).resolve().parents[2]
FACADE = sorted((ROOT / "gradience").rglob("*.py"))
MODULES = [
    "gradience",
    "gradience.vnext.telemetry",
    "gradience.vnext.types",
    "gradience.vnext.telemetry_reader",
    "gradience.vnext.integrations.hf",
]
HEAVY = ["torch", "pandas", "transformers", "numpy", "jsonschema", "typer", "rich", "msgspec", "orjson"]


def in_fresh_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that sees the same packages as this one."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("module", MODULES)
def test_all_names_resolve_and_are_listed(module: str) -> None:
    """Given a facade module, when each name of `__all__` is asked for, then it is there, and `dir` lists it."""
    facade = importlib.import_module(module)
    assert len(facade.__all__) == len(set(facade.__all__)) > 0
    for name in facade.__all__:
        assert getattr(facade, name) is not None
        assert name in dir(facade)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("gradience", "GradienceCallback, TelemetryWriter"),
        ("gradience.vnext.telemetry", "TelemetryWriter"),
        ("gradience.vnext.types", "Severity, TaskProfile, ConfigSnapshot, LoraSnapshot, Recommendation"),
        ("gradience.vnext.telemetry_reader", "TelemetryReader"),
        ("gradience.vnext.integrations.hf", "GradienceCallback, GradienceCallbackConfig"),
    ],
)
def test_documented_import_statements(path: str, names: str) -> None:
    """Given an import statement that users have in their scripts, when a fresh Python runs it, then it works."""
    done = in_fresh_python(f"from {path} import {names}")
    assert done.returncode == 0, done.stderr


def test_one_name_is_one_object_on_every_path() -> None:
    """Given a name with two import paths, when both are followed, then they lead to the same object."""
    from gradience.vnext import telemetry, telemetry_reader, types
    from gradience.vnext.integrations import hf

    for module in (telemetry, telemetry_reader, types, hf):
        for name in module.__all__:
            assert getattr(module, name) is getattr(gradience, name)


def test_import_is_light() -> None:
    """Given a fresh Python, when gradience is imported, then nothing heavy comes with it."""
    done = in_fresh_python("import sys, gradience, json; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & set(HEAVY)


def test_the_writer_comes_without_third_parties() -> None:
    """Given a fresh Python that refuses site-packages, when the writer and types are used, then they import."""
    code = (
        "import sys\n"
        "sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "from gradience import TelemetryWriter, ConfigSnapshot, Severity\n"
        "from gradience.vnext.telemetry import TelemetryWriter\n"
        "from gradience.vnext.types import Severity\n"
        "print(TelemetryWriter.__name__)"
    )
    done = in_fresh_python(code)
    assert done.stdout.strip() == "TelemetryWriter", done.stderr


@pytest.mark.parametrize(
    ("missing", "statement", "extra"),
    [
        ("transformers", "from gradience import GradienceCallback", "hf"),
        ("torch", "from gradience.vnext.integrations.hf import GradienceCallback", "hf"),
        ("gone", "import gradience; gradience.load_run", "analysis"),
        ("gone", "from gradience.vnext.telemetry_reader import TelemetryReader", "analysis"),
    ],
)
def test_a_missing_extra_is_named(missing: str, statement: str, extra: str) -> None:
    """Given an extra that is not installed, when its name is asked for, then the ImportError says what to install."""
    # `gone` stands for whatever the analysis package imports first from outside; refuse all of its needs.
    refused = {"gone": ["msgspec", "orjson", "jsonschema", "referencing", "pandas"]}.get(missing, [missing])
    code = (
        "import sys\n"
        f"refused = {refused!r}\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in refused:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "try:\n"
        f"    exec({statement!r})\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = in_fresh_python(code)
    assert f"pip install 'gradience[{extra}]'" in done.stdout, done.stdout + done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Given a misspelt name, when it is asked for, then the error is the ordinary one."""
    with pytest.raises(AttributeError, match="module 'gradience' has no attribute 'TelemetryWriterr'"):
        gradience.TelemetryWriterr  # noqa: B018


def test_version_is_the_distribution_s() -> None:
    """Given pyproject.toml, when the version is asked for, then it is the one written there."""
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert gradience.__version__ == wanted


@pytest.mark.parametrize("path", FACADE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_facade_defines_nothing(path: Path) -> None:
    """Given a facade file, when its syntax tree is walked, then all it defines is how names are imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert defined <= {"__getattr__", "__dir__"} or (path.name == "lazy.py" and defined == {"imported"})
