"""The public names of the adapter audit: paths that scripts import, what they cost, and what is said without numpy."""

from __future__ import annotations

import importlib
import json

import pytest

from tests.facade.test_public_names import in_fresh_python

MODULES = {
    "gradience.vnext.audit": "gradience_analysis.audit.peft_dir",
    "gradience.vnext.rank_suggestion": "gradience_analysis.audit.rank_suggestion",
}


@pytest.mark.parametrize("module", MODULES)
def test_all_names_resolve_to_their_one_home(module: str) -> None:
    """Given a facade module, when each public name is asked for, then it is the one of its home, and `dir` lists it."""
    facade, home = importlib.import_module(module), importlib.import_module(MODULES[module])
    assert len(facade.__all__) == len(set(facade.__all__)) > 0
    for name in facade.__all__:
        assert getattr(facade, name) is getattr(home, name)
        assert name in dir(facade)


@pytest.mark.parametrize(
    "statement",
    [
        "from gradience.vnext.audit import audit_lora_peft_dir",
        "from gradience.vnext.rank_suggestion import suggest_global_ranks_from_audit, suggest_per_layer_ranks",
        "from gradience.vnext.rank_suggestion import DEFAULT_ALLOWED_RANKS",
    ],
)
def test_documented_import_statements(statement: str) -> None:
    """Given an import statement that users have in their scripts, when a fresh Python runs it, then it works."""
    done = in_fresh_python(statement)
    assert done.returncode == 0, done.stderr


def test_importing_them_is_light_and_using_them_loads_no_torch() -> None:
    """Given a fresh Python, when the modules are imported and used, then numpy comes on use and torch never."""
    code = (
        "import sys, json, gradience.vnext.audit as a, gradience.vnext.rank_suggestion as r\n"
        "before = sorted(sys.modules)\n"
        "a.audit_lora_peft_dir, r.suggest_per_layer_ranks\n"
        "print(json.dumps([before, sorted(sys.modules)]))"
    )
    before, after = ({name.partition(".")[0] for name in names} for names in json.loads(in_fresh_python(code).stdout))
    assert not before & {"numpy", "pandas", "torch", "gradience_analysis"}
    assert "numpy" in after
    assert not after & {"torch", "transformers", "peft", "safetensors", "pandas"}


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_extra_is_named(module: str) -> None:
    """Given no numpy, when a name is asked for, then the ImportError says what to install."""
    name = importlib.import_module(module).__all__[0]
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'numpy':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "try:\n"
        f"    from {module} import {name}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = in_fresh_python(code)
    assert f"{module}.{name} needs numpy: pip install 'gradience[analysis]'" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    """Given a misspelt name, when it is asked for, then the error is the ordinary one."""
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        importlib.import_module(module).nothing  # noqa: B018
