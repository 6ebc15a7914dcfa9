"""R16: no code runs from an adapter, a model's folder or a config, whatever it is and however it is packed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gradience_analysis.errors import InputError
from gradience_analysis.unpickling import convert_pickled
from gradience_analysis.unpickling.landlock import landlock_version
from tests.analysis.adapters.files import adapter, base, config
from tests.reliability.gadgets import GADGETS
from tests.reliability.pickles import CONTAINERS, Ground, contained, zipped
from tests.reliability.unpickling_client import MIB, UnpicklingServer

pytestmark = pytest.mark.hf
ROOT = Path(__file__).parents[2]
PACKAGES = ("gradience", "gradience_emit", "gradience_analysis", "gradience_train", "schema", "cli")
CHILD = Path(__file__).with_name("untrusted_reading_child.py")
FIRING = [name for name, gadget in GADGETS.items() if gadget.fires]
# What the audit hook does not see, as it happens in native code or has no event; Landlock stops it.
UNSEEN = {
    "os.mkfifo",
    "os.mknod",
    "multiprocessing.util.spawnv_passfds",
    "torch.save",
    "torch.UntypedStorage.from_file",
}
REFUSALS = {"refused", "tar", "unreadable", "not_tensors", "unsupported", "too_large", "no_memory", "input_error"}


def laid(folder: Path, name: str, container: str) -> tuple[Ground, Path]:
    """An adapter's folder with one gadget for its weights, and everything else that a hostile folder may hold."""
    folder.mkdir(parents=True)
    ground = Ground(folder)
    ground.lay()
    (folder / "adapter_config.json").write_text(json.dumps(config()))
    path = folder / CONTAINERS[container]
    path.write_bytes(contained(container, GADGETS[name].build(ground)))
    return ground, path


def matrix(folder: Path, containers: Mapping[str, list[str]]) -> Iterator[tuple[str, str, Ground, Path]]:
    """Gadgets by container, each in a folder of its own."""
    for container, names in containers.items():
        for number, name in enumerate(names):
            yield (container, name, *laid(folder / f"{container}{number}", name, container))


def everything(*, slow: bool) -> dict[str, list[str]]:
    """All gadgets in all containers."""
    return {container: [name for name, one in GADGETS.items() if slow or not one.slow] for container in CONTAINERS}


def test_matrix_is_as_large_as_promised() -> None:
    """Given the gadgets and containers, when counted, then there are 60 gadgets that work, and 6 containers."""
    assert len(FIRING) >= 60
    assert len(CONTAINERS) == 6


def test_gadgets_work(tmp_path: Path) -> None:
    """Given each gadget, and each container, when it is loaded plainly, then the mark is there: the test can fail."""
    cases = {"pickle": FIRING, "zip": ["os.system"], "stream": ["os.system"], "tar": ["os.system"]}
    cases |= {"misnamed": ["os.system"], "checkpoint": ["os.system"]}
    idle: list[str] = []
    with UnpicklingServer() as server:
        for container, name, ground, path in matrix(tmp_path, cases):
            server.ask("plain", path, ground.folder / "made" / "weights.safetensors")
            deadline = time.monotonic() + 10
            while not ground.fired() and time.monotonic() < deadline:
                time.sleep(0.005)  # some leave it to a process of their own
            idle += [] if ground.fired() else [f"{container}: {name}"]
    assert idle == []


def unpickled(folder: Path, way: str, containers: Mapping[str, list[str]]) -> dict[tuple[str, str], str]:
    """How each gadget ended; none may have left a mark, or a file."""
    outcomes: dict[tuple[str, str], str] = {}
    grounds: list[tuple[str, str, Ground]] = []
    with UnpicklingServer() as server:
        for container, name, ground, path in matrix(folder, containers):
            out = ground.folder / "made" / "weights.safetensors"
            outcomes[container, name] = server.ask(way, path, out)["outcome"]
            grounds.append((container, name, ground))
            assert not [item for item in out.parent.iterdir() if item != out]
    time.sleep(0.5)  # for what would have gone on without its process
    assert [(container, name) for container, name, ground in grounds if ground.fired()] == []
    return outcomes


def test_allowed_pickle_runs_nothing(tmp_path: Path) -> None:
    """Given gadgets in all containers, when unpickled as `--allow-pickle` does, then refused, and no mark is left."""
    # All of them in the usual one, every second in the others; the long version takes all.
    some = {
        container: names if container == "zip" else names[::2] for container, names in everything(slow=False).items()
    }
    assert min(map(len, some.values())) >= 60
    outcomes = unpickled(tmp_path, "product", some)
    dangerous = {case: outcome for case, outcome in outcomes.items() if case[1] in FIRING}
    assert {*dangerous.values()} <= {"refused", "unreadable", "tar"}
    # An OrderedDict that brings its own methods is one without tensors; a codec is imported, and stopped.
    assert {name for (_, name), outcome in outcomes.items() if outcome not in REFUSALS} <= {
        "dictionary with its own methods",
        "lazy import by a codec",
    }


def test_without_weights_only_the_rest_still_holds(tmp_path: Path) -> None:
    """Given all gadgets, when unpickled plainly in the confined process, then hook and kernel stop them still."""
    names = [name for name in FIRING if landlock_version() or name not in UNSEEN]
    outcomes = unpickled(tmp_path, "hook", {"pickle": names})
    assert {name for (_, name), outcome in outcomes.items() if outcome != "tripped"} <= UNSEEN
    assert Counter(outcomes.values())["tripped"] >= 60


@pytest.mark.parametrize("container", CONTAINERS)
def test_whole_conversion_refuses(tmp_path: Path, container: str) -> None:
    """Given a working gadget in each container, when converted by the product itself, then it is refused."""
    ground, path = laid(tmp_path / "adapter", "os.system", container)
    with pytest.raises(InputError, match=r"none of its code ran|is no file of torch\.save|is a tar archive"):
        convert_pickled(path, tmp_path / "x")
    assert not ground.fired()
    assert [item.name for item in tmp_path.iterdir()] == ["adapter"]


def test_hash_bomb_is_stopped(tmp_path: Path) -> None:
    """Given a key that takes hours to hash, when converted with a second, then it is stopped by then."""
    _, path = laid(tmp_path / "adapter", "2**40 hashes", "zip")
    with pytest.raises(InputError, match="takes longer than the 1 seconds"):
        convert_pickled(path, tmp_path / "x", seconds=1)


ARCHIVES: Mapping[str, Mapping[str, bytes]] = {
    "names that lead out": {"../touched": b"x", "/tmp/../touched": b"x", "archive/../../touched": b"x"},
    "names that lead out, of the data": {"archive/data/../../../touched": b"x"},
    "a script archive": {"archive/constants.pkl": b"N.", "archive/code/__torch__.py": b"import os"},
    "a bomb": {"archive/data/0": bytes(64 * MIB)},
    "the pickle twice": {"other/data.pkl": b"N."},
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archive_writes_nothing(tmp_path: Path, case: str) -> None:
    """Given names, scripts and sizes in a zip that are not as torch writes them, when converted, then no harm."""
    ground = Ground(tmp_path / "a" / "b")
    ground.folder.mkdir(parents=True)
    ground.lay()
    members = {"archive/data.pkl": GADGETS["os.system"].build(ground), "archive/version": b"3\n", **ARCHIVES[case]}
    path = ground.folder / "adapter_model.bin"
    path.write_bytes(zipped(members, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError):
        convert_pickled(path, tmp_path / "x", memory_bytes=256 * MIB)
    assert not ground.fired()
    assert not list(tmp_path.rglob("touched*"))


CONFIGS: Mapping[str, Mapping[str, str]] = {
    "auto_map": {"config.json": '{"auto_map": {"AutoModel": "script.Model"}, "architectures": ["script.Model"]}'},
    "auto_map of another place": {"config.json": '{"auto_map": {"AutoConfig": "owner/name--script.Config"}}'},
    "auto_mapping": {
        "adapter_config.json": json.dumps(
            config(auto_mapping={"base_model_class": "x", "parent_library": "touching_module"})
        )
    },
    "base model beside": {"adapter_config.json": json.dumps(config(base_model_name_or_path="./"))},
    "trust_remote_code": {
        "adapter_config.json": json.dumps(config(trust_remote_code=True, custom_module="script")),
        "config.json": '{"trust_remote_code": true, "model_type": "script"}',
    },
    "py/object": {"adapter_config.json": '{"py/object": "os.system", "py/reduce": [{"py/type": "os.system"}, ["x"]]}'},
    "a YAML tag": {"adapter_config.json": "!!python/object/apply:os.system [touch x]"},
    "a module for a config": {"adapter_config.json": "import script", "config.json": "import script"},
    "tokenizer": {"tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["script.T", null]}, "added": {}}'},
    "template": {"tokenizer_config.json": '{"chat_template": "{{ cycler.__init__.__globals__.os.system(1) }}"}'},
    "quantizer": {"config.json": '{"quantization_config": {"quant_method": "script", "modules": "script"}}'},
    "generation": {"generation_config.json": '{"custom_generate": "script.py"}', "custom_generate/generate.py": "1"},
    "index": {"model.safetensors.index.json": '{"weight_map": {"a": "../../script.py", "b": "adapter_model.pkl"}}'},
    "trainer state": {"trainer_state.json": '{"global_step": "__import__(1)"}', "training_args.bin": "cos\nsystem\n"},
}


def reading(tmp_path: Path, folders: list[Path], provoke: str = "") -> list[dict[str, Any]]:
    """What the readers made of these folders, under a hook that ends the process at anything but reading."""
    sound = adapter(tmp_path / "sound")
    base(sound)
    request = {"sound": [str(sound), *map(str, folders[:6])], "folders": list(map(str, folders)), "root": str(tmp_path)}
    path = ":".join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-B", str(CHILD)],
        input=json.dumps({**request, "provoke": provoke}),
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert not done.stderr, done.stderr[-2000:]
    assert (done.returncode, len(answers)) in {(0, len(folders)), (3, 1)}, answers[-1:]
    return answers


def test_reading_runs_nothing(tmp_path: Path) -> None:
    """Given all gadgets in all containers, when read as by default, then each reader refuses, and nothing happens."""
    # All containers of one gadget come first: what only they load is loaded before the hook is there.
    cases = sorted(matrix(tmp_path / "adapters", everything(slow=True)), key=lambda case: case[1])
    answers = reading(tmp_path, [ground.folder for *_, ground, _ in cases])
    assert "tripped" not in answers[0]
    for (container, name, ground, path), answer in zip(cases, answers, strict=True):
        assert not ground.fired(), (container, name)
        assert "refused" in answer, (container, name, answer)
        wanted = {"safetensors_header_invalid"} if container == "misnamed" else {"pickled_weights", "no_weights"}
        assert wanted & {*answer["codes"]}, (container, name, answer)
        assert path.exists()


def test_configs_run_nothing(tmp_path: Path) -> None:
    """Given configs that name code, with the code beside them, when read, then nothing of it is imported or opened."""
    grounds: list[Ground] = []
    for number, files in enumerate(CONFIGS.values()):
        folder = adapter(tmp_path / "configs" / str(number))
        ground = Ground(folder)
        ground.lay()
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        grounds.append(ground)
    answers = reading(tmp_path, [ground.folder for ground in grounds])
    assert len(answers) == len(CONFIGS)
    assert not [ground for ground in grounds if ground.fired()]


@pytest.mark.parametrize(
    "harm",
    [
        "open('{}', 'w')",
        "open('/etc/passwd')",
        "import this",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import socket; socket.socket()",
        "import pickle; pickle.loads(b'cos\\nsystem\\n.')",
        "import ctypes; ctypes.CDLL(None)",
        "import os; os.remove('{}')",
        "eval('1')",
    ],
)
def test_hook_of_the_reader_trips(tmp_path: Path, harm: str) -> None:
    """Given a reader that did some harm, when run under the same hook, then it is ended: the tests above can fail."""
    answers = reading(tmp_path, [], harm.format(tmp_path / "touched"))
    assert [*answers[0]] == ["tripped", "args"]
    assert not (tmp_path / "touched").exists()


def test_code_of_ours_loads_no_code() -> None:
    """Given our packages, when their calls are looked through, then none loads a pickle or trusts remote code."""
    found: list[str] = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    found += [f"{path.relative_to(ROOT)}: {fault}" for fault in faults(node)]
    # Between a process of ours and one that it started.
    assert found == ["gradience_analysis/workers/pool.py: pickle.loads"]


def faults(node: ast.Call) -> Iterator[str]:
    """What is wrong with a call."""
    name = ast.unparse(node.func)
    keywords = {one.arg: ast.unparse(one.value) for one in node.keywords}
    if keywords.get("trust_remote_code", "False") != "False":
        yield "trust_remote_code"
    if name.endswith("torch.load") and keywords.get("weights_only") != "True":
        yield name
    if name in {"pickle.load", "pickle.loads", "pickle.Unpickler", "read_pickle", "pd.read_pickle", "marshal.loads"}:
        yield name
    if name in {"eval", "exec", "yaml.load", "yaml.unsafe_load"} or (
        name.endswith(".load") and keywords.get("allow_pickle", "False") != "False"
    ):
        yield name


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("torch.load(f)", 1),
        ("self._torch.load(f, weights_only=False)", 1),
        ("torch.load(f, weights_only=True)", 0),
        ("AutoModel.from_pretrained(p, trust_remote_code=flag)", 1),
        ("AutoModel.from_pretrained(p, trust_remote_code=False)", 0),
        ("np.load(f, allow_pickle=True)", 1),
        ("eval(x)", 1),
        ("model.eval()", 0),
    ],
)
def test_a_call_that_loads_code_is_seen(code: str, count: int) -> None:
    """Given a call, when looked at, then it is found exactly when it may run code: the test above can fail."""
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert len(list(faults(call))) == count


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_gadget_in_every_container(tmp_path: Path, container: str) -> None:
    """Given all gadgets in all containers, when converted by the product itself, then each is refused or harmless."""
    done: list[str] = []
    for _, name, ground, path in matrix(tmp_path / "adapters", {container: [*GADGETS]}):
        out = tmp_path / "x"
        try:
            convert_pickled(path, out, memory_bytes=256 * MIB, seconds=2)
            done.append(name)
            out.unlink()
        except InputError:
            pass
        assert not ground.fired(), (container, name)
    assert {*done} <= {"dictionary with its own methods"}
