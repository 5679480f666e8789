#!/usr/bin/env bash
# Builds the wheel and uses it from an empty folder, so that nothing of the checkout can help.
# Usage: tests/wheel.sh PYTHON              an interpreter that has the dependencies; the wheel goes beside them
#        tests/wheel.sh PYTHON pip|uv       of an environment of its own, into which the wheel is installed with dependencies
# BUILDER is an interpreter that has the package build; by default PYTHON.
set -euo pipefail
python=$(realpath --no-symlinks "$1")
installer=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${BUILDER:-$python}" -m build --wheel --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
test "$(stat -c %s "$work"/dist/*.whl)" -lt 15000000 || { echo "the wheel is larger than 15 MB"; exit 1; }
case "$installer" in
    "") "$python" -m pip install --quiet --no-deps --target "$work/site" "$work"/dist/*.whl
        export PYTHONPATH="$work/site" ;;
    pip) "$python" -m pip install --quiet "$work"/dist/*.whl ;;
    uv) uv pip install --quiet --python "$python" "$work"/dist/*.whl ;;
    *) echo "PYTHON, then pip or uv or nothing, got $installer"; exit 1 ;;
esac
cd "$work"
if [ -n "$installer" ]; then "$(dirname "$python")/llmrl" --version; fi
"$python" -m llmrl --version
"$python" - <<'PY'
import sys

import llmrl

assert "torch" not in sys.modules, "import llmrl must not load torch"
assert "site" in llmrl.__file__, llmrl.__file__
import gymnasium

env = gymnasium.make("llmrl/MATH-v0", source="generated", levels=(1,))
env.reset(seed=0)
_, reward, terminated, _, info = env.step(f"\\boxed{{{env.unwrapped.problem.answer}}}")
assert reward == 1 and terminated, info

from llmrl.testing import check_algorithm, check_verifier

check_algorithm("espo", except_for=("compile",))
check_verifier("math")
assert "pytest" not in sys.modules, "llmrl.testing must not need pytest"
PY
"$python" -m llmrl.algorithms.run --algo espo --output "$work/run" --train.steps 1 \
    --train.prompts-per-step 4 --eval.problems 8 --eval.samples 1
test -f "$work/run/latest/model.safetensors"
"$python" -m llmrl report "$work/run" --output "$work/report.html"
test -s "$work/report.html"
"$python" -m llmrl push "$work/run" somebody/something --dry-run > "$work/push.txt"
grep -q model.safetensors "$work/push.txt"
echo "the wheel works with $("$python" -V)${installer:+, installed by $installer}"
