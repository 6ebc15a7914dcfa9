"""Two hundred texts that try to steer a terminal, a page, a comment or a log; and a run that has one in every field."""

from __future__ import annotations

import json
from typing import Any

from tests.analysis.records import evaluation, numbered, record

BEACON = "BEACON"
"""Stands for the address of a server that counts who asks it."""
OWNED = "OWNED"
"""What a script of ours would make the title of the page."""


def payloads(address: str = "http://127.0.0.1:9") -> list[str]:
    """All of them, in a fixed order, with links to this address where they have one."""
    texts = [*_controls(), *_escapes(), *_unicode(), *_markup(), *_scripts(), *_styles(), *_markdown(), *_formats()]
    unique = list(dict.fromkeys(texts))
    return [text.replace(BEACON, address) for text in unique]


def harmless(text: str) -> str:
    """A plain text that takes as much room in JSON."""
    return "x" * (len(json.dumps(text)) - 2)


def _controls() -> list[str]:
    """Every C0 and C1 character, and DEL, in the middle of a word."""
    return [f"a{chr(code)}b" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))]


def _escapes() -> list[str]:
    esc = "\x1b"
    return [
        f"{esc}[2J{esc}[H", f"{esc}[31mred{esc}[0m", f"{esc}[?1049h", f"{esc}[?25l", f"{esc}[1000B", f"{esc}[5;5Hx",
        f"{esc}]0;{OWNED}\x07", f"{esc}]2;{OWNED}{esc}\\", f"{esc}]8;;{BEACON}/osc8\x07link{esc}]8;;\x07",
        f"{esc}]52;c;T1dORUQ=\x07", f"{esc}]1337;File=inline=1:AAAA\x07", f"{esc}P+q544e{esc}\\", f"{esc}_Gi=1{esc}\\",
        f"{esc}c", f"{esc}7{esc}8", f"{esc}[6n", f"{esc}[c", f"{esc}#8", f"{esc}(0lqk", f"{esc}[99999;99999H",
        f"{esc}[1;1r", f"{esc}[s{esc}[u", f"{esc}[?2004h", f"{esc}[200~x{esc}[201~", f"{esc}", f"{esc}[", f"{esc}]",
        "\x9b2J", f"\x9d0;{OWNED}\x9c", "\x90q\x9c", "\x0eabc\x0f", "x\rVERDICT OK", "x\b\b\b\bfake", "\x07" * 20,
        "\u241b[31m", "^[[31m", r"\x1b[31m", r"\033[31m", r"\u001b[31m",
    ]  # fmt: skip


def _unicode() -> list[str]:
    return [
        "\u202egnp.exe", "\u202dabc\u202c", "\u2066abc\u2069", "\u2067abc\u2069", "\u2068abc\u2069", "\u061cabc",
        "\u200eabc\u200f", "pay\u200bpal", "a\u200cb\u200dc", "\ufeffabc", "\u2060abc", "\u00adsoft\u00adhyphen",
        "\u2028line", "\u2029paragraph", "\u0085nel", "\U000e0041\U000e0042tags", "\ud800", "\udfff\ud800",
        "\ud83d alone", "\ufffe\uffff", "\U0010ffff", "\ue000private", "\x00", "null\x00byte", "e\u0301" * 50,
        "\u0300" * 100, "\u05d0\u05d1\u05d2", "\u0627\u0644\u0639", "\u6a21\u578b", "\U0001f468\u200d\U0001f469",
        "\ufe0f\u20e3", "\u180e\u3164\u115f", "\uff1cscript\uff1e", "x" * 5_000, "\u4e2d" * 3_000, "\u202e" * 2_000,
        "\n" * 500, " " * 400 + "x", "\t" * 100,
    ]  # fmt: skip


def _markup() -> list[str]:
    return [
        *("[red]text[/red]", "[bold on red]x", "[/]", "[link=BEACON/rich]y[/link]", ":smile:", "[@click=app.quit]x[/]"),
        *("\\[red]", "<b>bold</b>", "<h1>VERDICT: OK</h1>", "</td></tr></table><h1>x</h1>", "</section></main></body>"),
        *("</title><h1>x</h1>", "<!--", "-->", "<![CDATA[", "]]>", "<?xml version='1.0'?>", "<!doctype html>"),
        *("&lt;b&gt;", "&#60;b&#62;", "&", "&amp;amp;", "<", ">", '"', "'", "`", "<plaintext>", "<textarea>"),
        *("<details open>", "<table><tr><td>", "</pre>", "</dl>", "</svg><p>x", "<title>x</title>", "<desc>"),
        *("<foreignObject><p>x</p>", "<template>", "<noscript>", "<frameset>"),
        '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;">',
    ]


def _scripts() -> list[str]:
    do = f"document.title='{OWNED}'"
    ask = f"fetch('{BEACON}/x')"
    return [
        *(f"{before}<script>{do}</script>" for before in ("", "</script>", "</style>", "</title>", "</pre>", '">')),
        *(f"{before}<script>{do};alert(1)</script>" for before in ("-->", "]]>", "</svg>", "</textarea>")),
        *(f"<{tag} on{event}={do}>" for tag, event in (("svg", "load"), ("body", "load"), ("details open", "toggle"))),
        *(f"<{tag}={do}>" for tag in ("img src=x onerror", "input autofocus onfocus", "svg><animate onbegin")),
        *(f"{quote} onmouseover={quote}{do}" for quote in "\"'"),
        *(f"{quote}><svg onload={do}>" for quote in "\"'"),
        *(f'<{tag} {name}="javascript:{do}">' for tag, name in (("a", "href"), ("iframe", "src"), ("object", "data"))),
        *(f"{scheme}{do}" for scheme in ("javascript:", "vbscript:", "data:text/html,<script>")),
        f'<iframe srcdoc="<script>parent.{do}</script>">',
        f'<img src=x onerror="{do};{ask}">',
        f"<script>{ask}</script>",
        f"<svg><script>{do}</script></svg>",
        'x" id="s0" style="x',
        *(f'<{tag} src="{BEACON}/{tag}">' for tag in ("embed", "img", "video", "iframe", "audio", "track", "input")),
        *(f'<link rel={kind} href="{BEACON}/{kind}">' for kind in ("stylesheet", "prefetch", "dns-prefetch", "icon")),
        *(f'<svg><{tag} href="{BEACON}/{tag}"/></svg>' for tag in ("use", "image", "feImage")),
        f'<script src="{BEACON}/s.js"></script>',
        f'<meta http-equiv=refresh content="0;url={BEACON}/meta">',
        f'<base href="{BEACON}/">',
        f'<form action="{BEACON}/f"><button autofocus>x',
        f"${{{do}}}",
        f'{{{{constructor.constructor("{do}")()}}}}',
        f"<ScRiPt>{do}</sCrIpT>",
        f"<scr\x00ipt>{do}</script>",
        f"<svg/onload={do}//",
        f"\uff1cscript\uff1e{do}\uff1c/script\uff1e",
        f"+ADw-script+AD4-{do}+ADw-/script+AD4-",
    ]


def _styles() -> list[str]:
    return [
        *("<style>*{display:none}</style>", "<style>@import 'BEACON/c.css'</style>", "</style><style>*{display:none}"),
        *('" style="position:fixed;inset:0;background:url(BEACON/bg)', "expression(alert(1))", "}*{display:none}{"),
        *("url(BEACON/u)", "<div style=background:url(BEACON/d)>", "x;}body{background:url(BEACON/b)}"),
        *(
            "/* */ } @import url(BEACON/i);",
            "<font color=red size=7>",
            "<marquee>x</marquee>",
            "<p class=verdict>OK</p>",
        ),
    ]


def _markdown() -> list[str]:
    return [
        *("@octocat", "@org/team please", "#1", "octo/repo#12", "GH-1", "[x](BEACON/md)", "![x](BEACON/i.png)"),
        *("<BEACON/auto>", "BEACON/bare", "www.example.com", "a@b.example", "mailto:a@b.example", "**bold**", "_it_"),
        *(
            "`code`",
            "```\nfence",
            "~~s~~",
            "| a | b |",
            "a|b",
            "\\|",
            "\\",
            "# h",
            "- item",
            "1. item",
            "> quote",
            "---",
        ),
        *("===", "[x]: BEACON/ref", "[^1]", "$x^2$", "- [ ] task", "<details><summary>x</summary>", "<!-- c -->"),
        *(":tada:", "    code", "a  \nb"),
    ]


def _formats() -> list[str]:
    return [
        *("::error::x", "\n::error file=a,line=1::x", "\r\n::stop-commands::t", "::set-output name=a::b", "##[error]x"),
        *("%0A::error::x", "%25", "]]></failure><testcase name='x'/>", "&#0;", "{0}", "{}", "%s%n", "${HOME}"),
        *("$(touch x)", "; rm -rf /", "' or 1=1 --", "../../etc/passwd", "file:///etc/passwd", "=cmd|' /C calc'!A0"),
        *(
            '=HYPERLINK("BEACON/x")',
            "+1+1",
            "@SUM(1)",
            "null",
            "true",
            '{"a": 1}',
            "[1, 2]",
            "\\u0000",
            "\\n",
            "\\ud800",
        ),
    ]


def hostile_run(text: str) -> list[dict[str, Any]]:
    """A run with this text in every field of the format that holds one, and in keys and kinds of its own."""
    run_id = f"id{text}"
    config = {
        "model_name": text,
        "dataset_name": text,
        "task_profile": "unknown",
        "notes": text,
        "optimizer": {"name": text, "lr": 1e-3, "extras": {f"k{text}": text}},
        "lora": {
            "r": 4,
            "alpha": 8.0,
            "target_modules": [text, f"{text}2"],
            "bias": text,
            "peft_type": f"t{text}",
            "extras": {f"k{text}": [text, {f"k{text}": text}]},
        },
        "training": {"dtype": text, "lr_scheduler": text, "max_steps": 40, "batch_size": 4, "extras": {"x": text}},
        "extras": {f"k{text}": text},
    }
    meta = {"framework": text, "host": text, "git_sha": text, "libraries": {f"k{text}": text}, f"k{text}": text}
    records = [record("run_start", run_id=run_id, config=config, meta=meta)]
    for step in range(5, 41, 5):
        fields = {"loss": 2.0 - step / 25, "lr": 1e-3, "grad_norm": 1.0 if step != 30 else float("nan")}
        records.append(record("train_step", step, ts=float(step), run_id=run_id, **fields, **{f"k{text}": 1.5}))
        if step % 10 == 0:
            metrics = {"loss": 1.6 + step / 100, "ppl": 5.0 + step, f"m{text}": 1.0 + step, f"s{text}": text}
            records.append(evaluation(step, f"split{text}", ts=float(step), run_id=run_id, **metrics))
            records.append(evaluation(step, "train", ts=float(step), run_id=run_id, loss=1.0, ppl=2.7))
    rest: list[tuple[str, dict[str, Any]]] = [
        ("metrics", {"kind": f"kind{text}", "metrics": {f"k{text}": text}}),
        (
            "metrics",
            {"kind": "lora_audit", "metrics": {"n_layers": 0, "issues": [text], "by_type": {f"k{text}": text}}},
        ),
        ("metrics", {"kind": "guard", "metrics": {"action": text, "trigger": text}}),
        ("metrics", {"kind": "spectral", "metrics": {"kappa": 5.0, "risk_level": text}}),
        ("alert", {"severity": "error", "code": f"c{text}", "message": text, "context": {f"k{text}": text}}),
        ("alert", {"severity": "warning", "code": "GUARD_ROLLBACK", "message": text, "context": {"trigger": text}}),
        ("recommendation", {"recommendations": [{"action": text, "message": text, "rationale": text, "scope": text}]}),
        (f"event{text}", {f"k{text}": text}),
    ]
    records += [record(event, 40, ts=41.0, run_id=run_id, **fields) for event, fields in rest]
    records.append(record("run_end", ts=42.0, run_id=run_id, status="error", reason=text))
    return numbered(records)
