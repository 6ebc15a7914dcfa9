#!/usr/bin/env bash
# Build the wheel and the sdist, look into them, and run the smoke tests against the installed wheel, never the checkout.
#   scripts/wheel_job.sh [PYTHON]     PYTHON has `build`; default: .venv/bin/python. `make wheel` runs this.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${1:-$root/.venv/bin/python}"
case "$python" in */*) python="$(cd "$(dirname "$python")" && pwd)/$(basename "$python")" ;; esac
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'wheel job: %s\n' "$*" >&2; exit 1; }
pip_in() { "$1/bin/python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" "${@:2}"; }
# From an empty folder, so that the checkout is nowhere on the path; what is tested is what users install.
smoke() { # ENVIRONMENT, what is installed in it (see tests/smoke/conftest.py), which tests
  (cd "$work/empty" && GRADIENCE_SMOKE="$2" "$1/bin/python" -I -m pytest -o pythonpath= -p no:cacheprovider \
    --rootdir "$work/smoke" -c "$work/smoke/pytest.ini" -q "$work/smoke/$3")
}
mkdir "$work/empty"
cp -r "$root/tests/smoke" "$work/smoke"
printf '[pytest]\naddopts = --import-mode=importlib --strict-markers -ra\nfilterwarnings = error\n' > "$work/smoke/pytest.ini"

say "build"
"$python" -m build --outdir "$work/dist" "$root" > "$work/build.log" 2>&1 || { cat "$work/build.log" >&2; fail "the build failed"; }
wheel="$(echo "$work"/dist/*.whl)"
ls -l "$work/dist"
"$python" "$root/scripts/dist_contents.py" "$work"/dist/*

say "the wheel alone: emitter and schema, standard library only"
"$python" -m venv "$work/bare"
pip_in "$work/bare" "$wheel"
installed="$("$work/bare/bin/python" -m pip list --format=freeze --disable-pip-version-check \
  | grep -viE '^(pip|setuptools|wheel)==' | cut -d= -f1 | tr '\n' ' ')"
[ "$installed" = "gradience " ] || fail "pip install gradience brought more than gradience: $installed"
code=0
hint="$(cd "$work/empty" && "$work/bare/bin/gradience" monitor run.jsonl 2>&1)" || code=$?
printf '%s\n' "$hint"
[ "$code" = 2 ] || fail "gradience without its extra exits $code, not 2"
case "$hint" in *"pip install 'gradience[cli]'"*) ;; *) fail "gradience without its extra does not say which to install" ;; esac
case "$hint" in *Traceback*) fail "gradience without its extra shows a traceback" ;; esac
pip_in "$work/bare" pytest
smoke "$work/bare" bare test_bare.py

say "the wheel with [cli]"
"$python" -m venv "$work/cli"
pip_in "$work/cli" "${wheel}[cli]" pytest
smoke "$work/cli" cli .

say "the wheel job passed"
