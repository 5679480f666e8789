#!/usr/bin/env bash
# Builds the wheel and uses it from an empty folder, so that nothing of the checkout can help.
# Usage: tests/wheel.sh PYTHON   (an interpreter that has the dependencies)
set -euo pipefail
python=$(realpath --no-symlinks "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
test "$(stat -c %s "$work"/dist/*.whl)" -lt 15000000 || { echo "the wheel is larger than 15 MB"; exit 1; }
"$python" -m pip install --quiet --no-deps --target "$work/site" "$work"/dist/*.whl
cd "$work"
PYTHONPATH="$work/site" "$python" - <<'PY'
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
PYTHONPATH="$work/site" "$python" -m llmrl.algorithms.run --algo espo --output "$work/run" --train.steps 1 \
    --train.prompts-per-step 4 --eval.problems 8 --eval.samples 1
test -f "$work/run/latest/model.safetensors"
PYTHONPATH="$work/site" "$python" -c "import sys; from llmrl.commands.cli import main; sys.exit(main())" \
    report "$work/run" --output "$work/report.html"
test -s "$work/report.html"
echo "the wheel works"
