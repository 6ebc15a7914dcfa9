"""Entries of files to settings: every layout gives the same, each setting knows its source, and who overrides whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradience_analysis.config_check.keys import ALIASES, NUMBERS
from gradience_analysis.config_check.preflight import Wanted, preflight, read_configuration
from gradience_analysis.config_check.profiles import profile_of
from gradience_analysis.config_check.reading.combine import combine
from gradience_analysis.config_check.reading.settings import Kind, Reading, read_settings
from gradience_analysis.errors import GradienceError, InputError
from gradience_schema import ConfigSnapshot, TaskProfile
from tests.analysis.config_check.configs import FLAT, NESTED, written

SECTIONED = [key for key in ALIASES if key.count(".") == 1]


def values(entries: dict[str, Any], kind: Kind = Kind.CONFIG) -> dict[str, Any]:
    """Canonical name → value of the settings among the entries."""
    return {key: setting.value for key, setting in read_settings(entries, "file", kind).settings.items()}


def test_flat_and_nested_say_the_same() -> None:
    """Given one configuration in both layouts, when read, then settings and snapshot are equal."""
    assert values(FLAT) == values(NESTED)
    flat, nested = (combine([read_settings(entries, "file")]).config for entries in (FLAT, NESTED))
    assert flat == nested


@given(
    st.dictionaries(st.sampled_from(SECTIONED), st.integers(-5, 5) | st.text(max_size=5) | st.booleans(), max_size=8),
    st.data(),
)
def test_any_settings_flat_and_nested(chosen: dict[str, Any], data: st.DataObject) -> None:
    """Given any settings, when written flat under any of their names, then they are read as when nested."""
    flat = {data.draw(st.sampled_from(ALIASES[key])): value for key, value in chosen.items()}
    nested: dict[str, Any] = {}
    for key, value in chosen.items():
        room, _, name = key.partition(".")
        nested.setdefault(room, {})[name] = value
    expected = dict(chosen)
    assert values(flat) == expected
    if "name" not in nested.get("optimizer", {}) or isinstance(nested["optimizer"]["name"], str):
        assert values(nested) == expected
    assert values({"config": nested}) == expected or not nested


@given(
    st.builds(
        lambda r, alpha, lr, batch, steps, profile: ConfigSnapshot.from_dict(
            {
                "task_profile": profile,
                "lora": {"r": r, "alpha": alpha, "target_modules": ["q"]},
                "optimizer": {"lr": lr},
                "training": {"batch_size": batch, "max_steps": steps},
            }
        ),
        st.integers(1, 64),
        st.integers(1, 64),
        st.floats(1e-6, 1e-2),
        st.integers(1, 64),
        st.integers(1, 900),
        st.sampled_from([str(one) for one in TaskProfile]),
    )
)
def test_a_recorded_configuration_comes_back(snapshot: ConfigSnapshot) -> None:
    """Given the config of a run_start, when read, then the snapshot is the same again, but for what follows from it."""
    again = combine([read_settings(json.loads(json.dumps(snapshot.to_dict())), "file")]).config
    assert again.training == snapshot.training
    assert again.optimizer == snapshot.optimizer
    assert again.task_profile == snapshot.task_profile
    assert again.lora.alpha_over_r == pytest.approx((snapshot.lora.alpha or 0) / (snapshot.lora.r or 1))
    assert (again.lora.r, again.lora.alpha, again.lora.target_modules) == (
        *(snapshot.lora.r, snapshot.lora.alpha, snapshot.lora.target_modules),
    )


def test_nulls_of_the_contract_say_not_known() -> None:
    """Given a recorded full fine-tuning, when read, then its nulls and empty lists are no settings."""
    recorded = ConfigSnapshot.from_dict({"optimizer": {"lr": 5e-5}, "training": {"epochs": 1.0}}).to_dict()
    assert values(recorded) == {"task_profile": "unknown", "optimizer.lr": 5e-5, "training.epochs": 1.0}


def test_a_null_that_contradicts_its_neighbours_is_kept() -> None:
    """Given alpha without a rank in the contract's layout, when read, then the null of the rank is a setting."""
    read = values({"lora": {"r": None, "alpha": 16}, "optimizer": {"lr": None}})
    assert read == {"lora.r": None, "lora.alpha": 16, "optimizer.lr": None}


def test_displaced_values_are_found_again() -> None:
    """Given a recorded rank that was a text, when read from extras, then it is the rank, as it was written."""
    recorded = ConfigSnapshot.from_dict({"lora": {"r": "16", "alpha": 32}}).to_dict()
    assert recorded["lora"]["r"] is None
    assert values(recorded)["lora.r"] == "16"


def test_a_whole_record_of_telemetry() -> None:
    """Given a run_start as one JSON object, when read, then its config is the configuration."""
    assert values({"schema": "x", "ts": 1.0, "event": "run_start", "config": NESTED}) == values(NESTED)


def test_bench_and_recipe_sections() -> None:
    """Given the sections of a bench configuration, when read, then its settings have their canonical names."""
    bench = {
        "bench_version": "0.1",
        "model": {"name": "base"},
        "task": {"dataset": "glue", "subset": "sst2", "metric": "accuracy", "profile": "easy_classification"},
        "train": {"max_steps": 500, "lr": 5e-5, "per_device_train_batch_size": 8, "seed": 42, "train_samples": 500},
        "lora": {"probe_r": 32, "alpha": 32, "dropout": 0.0, "target_modules": ["q_lin"]},
        "compression": {"allowed_ranks": [1, 2]},
        "runtime": {"device": "cpu"},
    }
    read = read_settings(bench, "file")
    assert {key: setting.value for key, setting in read.settings.items()} == {
        "model_name": "base",
        "dataset_name": "glue",
        "task_profile": "easy_classification",
        "training.max_steps": 500,
        "optimizer.lr": 5e-5,
        "training.batch_size": 8,
        "training.seed": 42,
        "training.num_train_examples": 500,
        "lora.r": 32,
        "lora.alpha": 32,
        "lora.dropout": 0.0,
        "lora.target_modules": ["q_lin"],
    }
    assert read.unknown == ()


def test_the_recipe_of_the_harness_is_all_known() -> None:
    """Given every key of a recipe, when read, then none is unknown."""
    recipe: dict[str, Any] = {
        "base_model_path": "p",
        "run_name_prefix": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.1,
        "target_modules": ["q"],
        "use_rslora": False,
        "learning_rate": 3e-4,
        "num_epochs": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "bf16": True,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "max_grad_norm": 1.0,
        "max_seq_length": 2048,
        "use_gradient_checkpointing": True,
        "seed": 42,
        "train_file": "a",
        "test_file": "b",
        "adapters_dir": "a",
        "runs_dir": "r",
        "telemetry": {},
        "guard": {"max_steps": 5},
        "bench": {},
    }
    read = read_settings(recipe, "file")
    assert read.unknown == ()
    assert "training.max_steps" not in read.settings, "a section of its own is not the training's"
    assert len(read.settings) == len(recipe) - 3


def test_two_names_of_one_setting() -> None:
    """Given a setting under two names, when read, then the library's holds, and the other is kept as replaced."""
    read = read_settings({"alpha": 8, "lora_alpha": 16}, "file", Kind.ADAPTER)
    assert read.settings["lora.alpha"].value == 16
    assert [(one.name, one.value) for one in read.shadowed] == [("alpha", 8)]


def test_precedence(tmp_path: Path) -> None:
    """Given every source, when combined, then flags override the configuration, and files fill what it leaves open."""
    wanted = Wanted(
        config=written(tmp_path, {"lora_r": 8, "lr": 1e-4, "weight_decay": None}, "c.json"),
        peft=written(tmp_path, {"r": 16, "lora_alpha": 32, "peft_type": "LORA"}, "adapter_config.json"),
        training=written(tmp_path, {"learning_rate": 5e-5, "weight_decay": 0.1, "seed": 1}, "training_args.json"),
        flags={"optimizer.lr": ("--lr", 3e-4), "lora.alpha": ("--alpha", None)},
    )
    subject = read_configuration(wanted)
    held = {key: (setting.value, setting.name) for key, setting in subject.settings.items()}
    assert held == {
        "optimizer.lr": (3e-4, "--lr"),
        "lora.r": (8, "lora_r"),
        "optimizer.weight_decay": (0.1, "weight_decay"),
        "lora.alpha": (32, "lora_alpha"),
        "lora.peft_type": ("LORA", "peft_type"),
        "training.seed": (1, "seed"),
    }
    assert [(one.key, one.value) for one in subject.shadowed] == [
        *[("optimizer.lr", 1e-4), ("lora.r", 16), ("optimizer.lr", 5e-5)],
    ]
    assert subject.sources == (*("the command line", str(wanted.config), str(wanted.peft), str(wanted.training)),)
    assert subject.config.lora.alpha_over_r == 4.0


@pytest.mark.parametrize(("name", "profile"), [("gsm8k", "hard_reasoning"), ("openai/GSM8K", "hard_reasoning")])
def test_a_known_task_says_its_profile(tmp_path: Path, name: str, profile: str) -> None:
    """Given the name of a well-known task and no profile, when read, then the profile follows from it."""
    wanted = Wanted(config=written(tmp_path, FLAT | {"task_profile": None}), flags={"task": ("--task", name)})
    subject = read_configuration(wanted)
    assert subject.config.task_profile == profile
    assert name in subject.settings["task_profile"].remark
    assert profile_of("my own task") is None
    assert profile_of(7) is None


def test_a_profile_that_is_set_is_kept(tmp_path: Path) -> None:
    """Given a profile in the configuration, when a task would say another, then the one that is set holds."""
    wanted = Wanted(config=written(tmp_path, FLAT), flags={"task": ("--task", "gsm8k")})
    assert read_configuration(wanted).config.task_profile == "generation"


def test_precisions_and_rates_find_their_place() -> None:
    """Given switches of precision, a warm-up ratio and betas, when combined, then the contract's fields have them."""
    entries = {"fp16": True, "warmup_ratio": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95, "max_steps": -1, "epochs": 2}
    config = combine([read_settings(entries, "file")]).config
    assert config.training.dtype == "float16"
    assert config.training.warmup_steps == 0.1
    assert config.optimizer.betas == (0.9, 0.95)
    assert (config.training.max_steps, config.training.epochs) == (None, 2)


def test_every_number_is_a_known_setting() -> None:
    """Given the settings that must be numbers, when looked up, then each is a canonical name."""
    assert set(ALIASES) >= NUMBERS


def test_a_name_stands_for_one_setting() -> None:
    """Given the names of all settings, when put together, then none stands for two."""
    names = [name for several in ALIASES.values() for name in several]
    assert len(names) == len(set(names))


def test_one_thing_given_twice(tmp_path: Path) -> None:
    """Given a file and a folder for the adapter, when read, then that is refused."""
    with pytest.raises(GradienceError, match="--peft and --peft-dir"):
        read_configuration(Wanted(peft=tmp_path / "a", peft_dir=tmp_path))


class TestLocate:
    """Folders: the exact name at the root, else the one below, else nothing is guessed."""

    def test_the_root_comes_first(self, tmp_path: Path) -> None:
        """Given one at the root and one below, when looked for, then the one at the root is taken."""
        (tmp_path / "below").mkdir()
        written(tmp_path / "below", {"r": 4}, "adapter_config.json")
        written(tmp_path, {"r": 8}, "adapter_config.json")
        assert read_configuration(Wanted(peft_dir=tmp_path)).value("lora.r") == 8

    def test_the_only_one_below(self, tmp_path: Path) -> None:
        """Given one below, and a linked folder with another, when looked for, then the one below is taken."""
        (tmp_path / "out" / "run").mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        written(tmp_path / "out" / "run", {"seed": 4}, "training_args.json")
        written(tmp_path / "elsewhere", {"seed": 5}, "training_args.json")
        (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
        assert read_configuration(Wanted(training_dir=tmp_path / "out")).value("training.seed") == 4

    def test_several_are_listed(self, tmp_path: Path) -> None:
        """Given two below, when looked for, then the error lists both."""
        for name in ("checkpoint-1", "checkpoint-2"):
            (tmp_path / name).mkdir()
            written(tmp_path / name, {"r": 4}, "adapter_config.json")
        with pytest.raises(InputError, match=r"several: .*checkpoint-1.*checkpoint-2.*--peft"):
            read_configuration(Wanted(peft_dir=tmp_path))

    def test_none_and_a_pickle(self, tmp_path: Path) -> None:
        """Given none, when looked for, then the error says so; a training_args.bin is refused with the way out."""
        with pytest.raises(InputError, match=r"holds no training_args\.json"):
            read_configuration(Wanted(training_dir=tmp_path))
        (tmp_path / "training_args.bin").write_bytes(b"PK\x03\x04")
        with pytest.raises(InputError, match=r"training_args\.bin: is a pickle.*to_json_string"):
            read_configuration(Wanted(training_dir=tmp_path))

    @pytest.mark.parametrize("name", ["missing", "file", "x" * 300])
    def test_no_folder(self, tmp_path: Path, name: str) -> None:
        """Given no folder, when looked into, then the error names the path."""
        (tmp_path / "file").write_text("{}", encoding="utf-8")
        with pytest.raises(InputError, match=name[:20]):
            read_configuration(Wanted(peft_dir=tmp_path / name))


def test_nothing_that_a_file_names_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given paths inside a configuration, when it is read, then only the configuration itself is opened."""
    opened: list[str] = []
    paths = {"base_model_path": "/etc", "train_file": "/etc/passwd", "output_dir": "../..", "dataset": "/dev/zero"}
    config = written(tmp_path, FLAT | paths)
    import gradience_analysis.config_check.reading.document as document

    real = document.open_regular
    monkeypatch.setattr(document, "open_regular", lambda path: opened.append(str(path)) or real(path))
    subject = preflight(Wanted(config=config))
    assert opened == [str(config)]
    assert (subject.data, subject.base_model) == (None, None)
    assert subject.config.model_name == "/etc"


def test_an_empty_source_changes_nothing() -> None:
    """Given no source, when combined, then there is no setting, and the configuration is the unknown one."""
    assert combine([]).config == ConfigSnapshot()
    assert combine([Reading("file")]).settings == {}
