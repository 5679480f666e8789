"""How often the CPU waits for the device in a step, counted on a pretended accelerator; no GPU is needed.

    python benchmarks/waits.py

A wait is an operator whose result the CPU has to know before it goes on. On a GPU each lasts until the device has done
all that it was given so far. Counts are exact for the versions of torch and transformers that are installed; they are
no times. In brackets stands what transformers waits for when it makes masks.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import masking_utils

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "helpers")]

from pretend_gpu import WAITS, Waits, pretend_gpu, register  # noqa: E402
from small_run import small_run  # noqa: E402
from tiny import tiny_folder  # noqa: E402

from llmrl import keys  # noqa: E402
from llmrl.algorithms import ALGORITHMS  # noqa: E402
from llmrl.keys import Key  # noqa: E402
from llmrl.rollouts.batch import Batch  # noqa: E402
from llmrl.training.build import build  # noqa: E402
from llmrl.training.command_line import parse  # noqa: E402


@dataclass
class Phase:
    """Waits within one part of a step."""

    waits: int = 0
    theirs: int = 0
    """Of them, in the masks of transformers."""

    def per(self, number: int) -> str:
        """The waits, what of them is transformers', and waits per ``number``."""
        return f"{self.waits} ({self.theirs}) / {number} = {self.waits / number:.2f}"


THEIRS = Phase()


def watch_masks(waits: Waits) -> None:
    """Count what transformers waits for where it asks whether a mask or packed positions are needed."""
    find_packed, fast_all = masking_utils.find_packed_sequence_indices, masking_utils.fast_all

    def watched(function: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def watching(x: torch.Tensor) -> Any:
            before = waits.count
            answer = function(x)
            THEIRS.theirs += waits.count - before
            return answer

        return watching

    masking_utils.find_packed_sequence_indices = watched(find_packed)
    masking_utils.fast_all = watched(lambda mask: bool(fast_all(mask)))  # type: ignore[assignment]


@contextlib.contextmanager
def counted(waits: Waits) -> Iterator[Phase]:
    """Within, waits are counted."""
    phase, waits_before, theirs_before = Phase(), waits.count, THEIRS.theirs
    yield phase
    phase.waits, phase.theirs = waits.count - waits_before, THEIRS.theirs - theirs_before


def line(name: str, folder: Path, budget: int, more: list[str]) -> str:
    """One step of an algorithm, taken apart, as a line of the table."""
    size = f"--algo {name} --policy.device vgpu --policy.max-response-length 24 --train.group-size 8"
    rate = f"--train.micro-batch-tokens {budget} --train.learning-rate 1e-6 --train.warmup-steps 0"
    with pretend_gpu() as waits:
        torch.manual_seed(0)
        trainer, _ = build(parse(small_run(folder, *size.split(), *rate.split(), *more, env="noisy:tests/Noisy-v0")))
        policy = trainer.policy
        policy.end_ids |= set(range(1, 261, 24))  # so that rows leave one after the other
        episodes = policy.begin(["say 1"] * 8 + ["say 22"] * 8)
        with counted(waits) as sampling:
            policy.respond(episodes, seeds=range(16))
        rollouts, metrics = trainer.gather()
        batch = Batch.of(rollouts.data)
        old: dict[Key, Key] = {keys.LOG_PROB: keys.OLD_LOG_PROB, keys.ENTROPY: keys.OLD_ENTROPY}
        with counted(waits) as scoring, torch.no_grad():
            trainer.old_scores.score([batch], lambda part, layout: policy.score(part, entropy=True, layout=layout), old)
        parts = sum(1 for _ in batch.micro_batches(budget, policy.forward_pass))
        with counted(waits) as before_update:
            batch = trainer.before_update(rollouts, metrics)
        with counted(waits) as scoring_old, torch.no_grad():
            again = Batch.of(rollouts.data)
            parts_of = [again.take(rows) for rows in trainer.mini_batches(len(again), peek=True)]
            trainer.old_scores.write_policy(again.whole, parts_of)
        passes = (trainer.critic is not None) + (trainer.reference is not None)
        with counted(waits) as updating:
            trainer.update(batch, metrics)
        trainer.environments.close()
    updates = trainer.config.train.epochs * trainer.config.train.updates_per_step
    positions = max(len(episode.tokens) for episode in episodes)
    rest = before_update.waits - scoring_old.waits - passes * scoring.waits
    return f"| {name} | {sampling.per(positions)} | {scoring.per(parts)} | {rest} | {updating.per(updates)} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="*", default=sorted(ALGORITHMS))
    parser.add_argument("--budget", type=int, default=60, help="tokens of a micro-batch")
    parser.add_argument("--option", nargs="*", default=[], help="further options of llmrl train")
    args = parser.parse_args()
    register()
    watch_masks(WAITS)
    with tempfile.TemporaryDirectory() as folder:
        # Untied, since moving a model to a device that torch does not know well unties them.
        tiny = tiny_folder(Path(folder), sharpness=1.0, num_hidden_layers=2, tie_word_embeddings=False)
        print(
            "| algorithm | waits / sampled positions | waits / micro-batches scored | before_update, beside "
            "| waits / updates |"
        )
        print("| --- | --- | --- | --- | --- |")
        for name in args.algorithms:
            print(line(name, tiny, args.budget, args.option), flush=True)


if __name__ == "__main__":
    main()
