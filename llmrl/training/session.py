"""One run from its settings to its files: build, check, evaluate, train, evaluate."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from llmrl import keys
from llmrl.distributed.world import World, joined
from llmrl.errors import UserError
from llmrl.evaluation import DifferentProblems, Evaluation, evaluate
from llmrl.evaluation.running import shortage
from llmrl.policies.loading import check_is_there
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.files import write_rollouts
from llmrl.terminal import Terminal
from llmrl.text import real_path
from llmrl.training import checkpoint, faults, folder, randomness, resuming, run_state
from llmrl.training.build import build, resolve
from llmrl.training.card import write_card
from llmrl.training.config import Config
from llmrl.training.data import Data
from llmrl.training.departures import GOOD, Range, forget
from llmrl.training.display import Display
from llmrl.training.given import Given
from llmrl.training.hints import FILE, Hints, keep
from llmrl.training.metrics_file import MetricsFile, read_metrics, writing
from llmrl.training.preflight import introduce
from llmrl.training.process import borrowed
from llmrl.training.record import write_record
from llmrl.training.sinks import Run, Trackers, require
from llmrl.training.stopping import Stop, StopAsked
from llmrl.training.trainer import Trainer

GREEDY = "eval/greedy"


class Callback:
    """Hooks for a caller of :func:`train`; a subclass overrides those that it needs."""

    def on_step(self, trainer: Trainer, metrics: dict[str, float], rollouts: Rollouts) -> None:
        """After every step; what is added to ``metrics`` is written with them."""

    def on_evaluation(self, name: str, evaluation: Evaluation) -> None:
        """After every evaluation: ``before``, ``step_000010``, ..., ``after``."""


@dataclass(frozen=True)
class RunResult:
    """The results of a run; a path, that of its folder, for whatever takes one."""

    folder: Path
    """All its files."""
    policy: Policy
    """The model as it is now; its engine is closed."""
    finished: bool
    """False: a signal stopped it, and ``--resume auto`` continues it."""
    before: Evaluation | None
    """The held-out evaluation before training; None where there was none."""
    after: Evaluation | None
    """The same after it."""
    rank: int = 0
    """Of this process; the first one wrote the files."""

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One dict a step."""
        return read_metrics(self.folder / "metrics.jsonl")


def train(
    config: Config,
    display: Display | None = None,
    given: Given | None = None,
    callbacks: Sequence[Callback] = (),
    signals: bool = True,
) -> RunResult | None:
    """Do what the settings say.

    Args:
        config: the resolved settings.
        display: where progress is shown; by default on the terminal.
        given: parts that exist already, in place of those that the settings name.
        callbacks: are told of every step and evaluation.
        signals: have signals stop the run in order; False: leave their handlers as they are.

    Returns:
        The results of the run; None after a dry run.

    Raises:
        ConfigError: the settings cannot be used; nothing has been written.
        TrainingError: training broke off; the last checkpoint is intact.
    """
    with borrowed(config.threads), contextlib.ExitStack() as stack:
        world = stack.enter_context(joined(config.world, config.policy.device))
        display = stack.enter_context((display or Display()) if world.main else Display(Terminal(quiet=True)))
        stop = Stop()
        if signals:
            stack.enter_context(stop.watched(display.note))
        require(config.log.to)
        if given is None or given.policy is None:
            world.from_main(lambda: check_is_there(config.policy.path))  # problems may take long to find
        if given is None or given.environments is None:
            resolve(config)
        start = world.from_main(lambda: folder.start_of(config, display.note))
        where = world.from_main(
            lambda: None if config.dry_run else stack.enter_context(folder.claimed(config, start, display.note))
        )
        randomness.seed_all(config.seed)
        state = None if start is None else checkpoint.load_state(start)
        if given is None or given.policy is None:
            config.policy.path = world.from_main(lambda: resuming.pinned(config.policy.path, state))
        if state is not None and start is not None:
            resuming.refuse_changes(config, state)
        trainer, held_out = build(config, start, given, world)
        trainer.note = display.note
        for close in (trainer.environments.close, held_out.close, trainer.policy.close, trainer.writer.close):
            stack.callback(close)
        data = Data.of(trainer.environments)
        if state is not None and start is not None:
            resuming.refuse_other_data(config, start, data)
            resuming.refuse_another_algorithm(config, start, str(trainer.algorithm))
            run_state.restore(trainer, state, start)
        introduce(trainer, display)
        if where is None:
            display.note("Dry run: everything above is in order; nothing was written.")
            return None
        files: _Files | None = None
        with world.together():
            if world.main:
                position = 0 if state is None else state["metrics_position"]
                if start is not None:
                    resuming.carry_over(start, where, position)
                    if real_path(start.parent) == real_path(where):
                        forget(where, start)
                        for path in checkpoint.set_aside_later(start):
                            step = checkpoint.step_of(path)
                            display.note(f"Checkpoint {step} is later than the resumed one and is now {path}.")
                        resuming.set_aside_later(where, checkpoint.step_of(start))
                write_record(where, config, start, data, str(trainer.algorithm))
                trainer.incidents.folder = where / "faults"
                metrics = MetricsFile(where / "metrics.jsonl", position)
                stack.callback(metrics.close)
                trackers = Trackers(Run(where, trainer.counters.step, config), display.note)
                stack.callback(trackers.close)
                files = _Files(metrics, trackers)
        past = read_metrics(where / "metrics.jsonl") if world.main and start is not None else []
        if start is not None and past:
            _note_score(config, where, start, past[-1])
        session = _Session(trainer, held_out, where, files, display, callbacks, stop, past)
        before = session.evaluate("before", reuse=True)
        stack.enter_context(stop.in_steps())
        if state is not None:
            # Checks and evaluations since then may have drawn from them.
            run_state.restore_random(trainer, state)
        trained = session.loop()
        after = session.evaluate("after") if trained else None
        finished = trained and (after is not None or config.eval.problems == 0)
        if before is not None and after is not None:
            try:
                display.comparison(before, after)
            except DifferentProblems as error:  # an environment that draws its problems at every reset
                display.note(f"No paired gain. {error}")
        if after is not None and config.checkpoint.keep_best == GREEDY and world.main:
            checkpoint.note_score((where / "latest").resolve(), checkpoint.Score(GREEDY, after.greedy.mean))
        _leave_card(world, where, display)
        if not finished:
            display.note(
                f"Stopped. To continue, add to the same command: --output {shlex.quote(str(where))} --resume auto"
            )
        return RunResult(where, trainer.policy, finished, before, after, world.rank)


def _note_score(config: Config, where: Path, start: Path, last: dict[str, float]) -> None:
    """Note the score of the checkpoint that is resumed: the run may have ended before it could."""
    best = config.checkpoint.keep_best
    if best is None or real_path(start.parent) != real_path(where) or last["step"] != checkpoint.step_of(start):
        return
    if last.get(best) is not None:
        checkpoint.note_score(start, checkpoint.Score(best, last[best]))


def _leave_card(world: World, where: Path, display: Display) -> None:
    """The card of the newest checkpoint, if there is one with a model to load and the files of the run are in order."""
    with world.together():
        latest = where / "latest"
        if world.main and (latest / "config.json").is_file():
            try:
                write_card(where, latest.resolve())
            except UserError as error:  # the files were changed meanwhile; the model is whole
                display.note(f"The model's card is left out: {error}")


class _Files(NamedTuple):
    """The outputs of the first rank."""

    metrics: MetricsFile
    trackers: Trackers


@dataclass
class _Session:
    """Objects that the steps and evaluations of one run share."""

    trainer: Trainer
    held_out: Environments
    folder: Path
    files: _Files | None
    """None on every rank but the first."""
    display: Display
    callbacks: Sequence[Callback]
    stop: Stop
    past: Sequence[dict[str, float]]
    """The metrics of earlier steps, if the run was resumed."""

    def stopping(self) -> bool:
        """Whether a signal has asked any rank to stop."""
        return self.trainer.world.any(self.stop.asked is not None)

    def evaluate(self, name: str, samples: int | None = None, reuse: bool = False) -> Evaluation | None:
        """Evaluate and write the files.

        Args:
            name: of the files.
            samples: sampled responses per problem; by default as the settings say.
            reuse: read an evaluation of this name that is there already.

        Returns:
            The evaluation; None if the settings ask for none, or a signal stopped it.
        """
        settings, display, world = self.trainer.config.eval, self.display, self.trainer.world
        if settings.problems == 0:
            return None
        path = self.folder / "eval" / f"{name}.jsonl"
        policy = self.trainer.policy
        used = {
            "problems": settings.problems,
            "samples": settings.samples if samples is None else samples,
            "temperature": policy.temperature if settings.temperature is None else settings.temperature,
            "max_response_length": settings.max_response_length or policy.max_response_length,
            "seed": self.trainer.config.seed,
        }
        if reuse and world.from_main(lambda: resuming.set_aside_another_evaluation(self.folder, name, used)):
            display.note(
                f"evaluation {name}: its settings have changed, so it is made again, with the weights of step "
                f"{self.trainer.counters.step}."
            )
        if reuse and world.from_main(path.is_file):
            return Evaluation.read(path)
        samples = settings.samples if samples is None else samples
        when = f"{name} training" if name in ("before", "after") else name
        move = display.bar(f"evaluation {when}", settings.problems * (1 + samples))

        def on_batch(done: int, total: int) -> None:
            move(done)
            if self.stopping():
                raise StopAsked

        try:
            result = evaluate(
                self.trainer.policy,
                self.held_out,
                settings.problems,
                samples=samples,
                batch=settings.batch,
                seed=self.trainer.config.seed,
                sampling=SamplingOptions(temperature=settings.temperature, max_new_tokens=settings.max_response_length),
                on_batch=on_batch,
                world=world,
            )
        except StopAsked:
            display.note(f"evaluation {when}: left unfinished")
            return None
        move(settings.problems * (1 + samples))
        with world.together():
            if world.main:
                asked = self.held_out
                result.write(self.folder / "eval", name, self.trainer.counters.step, used, asked.title, asked.remark)
                if self.files is not None and name in ("before", "after"):  # others come with the metrics of their step
                    self.files.trackers.evaluation(self.trainer.counters.step, result)
        averages = f", avg@{samples} {result.average}" if samples else ""
        where = self.held_out.described(settings.problems)
        display.note(f"evaluation {when} on {where}: greedy {result.greedy}{averages}")
        if (said := shortage(self.held_out, settings.problems)) is not None:
            display.note(f"  {said}")
        if faulty := [record["fault"] for record in result.records if record.get("fault")]:
            display.note(
                f"In {len(faulty)} responses of it the environment raised an error, first "
                f"{faults.last_line(faulty[0])!r}; they count as not correct."
            )
        for callback in self.callbacks:
            callback.on_evaluation(name, result)
        return result

    def loop(self) -> bool:
        """All steps; False if a signal stopped them."""
        trainer, display = self.trainer, self.display
        config, counters, world = trainer.config, trainer.counters, trainer.world
        total = config.train.steps
        if counters.step >= total:
            display.note(f"The run is at step {counters.step} already: --train.steps {total} leaves no step to make.")
        stopping = False
        move = display.bar(f"{trainer.algorithm.name}", total, counters.step)
        # DCPO compares with earlier rewards of a problem; a term may imitate every correct answer.
        read = {*trainer.algorithm.in_keys, *trainer.learner.loss.in_keys}
        from_equal = not read.isdisjoint({keys.PAST_REWARDS, keys.POSITIVE_WEIGHT})
        hints = Hints(self.folder, config.train, from_equal)
        in_range = Range(self.folder, config.train.prompts_per_step, self.past)
        while counters.step < total and not stopping:
            try:
                metrics, rollouts = trainer.step()
            except faults.TrainingError as error:
                good = self.folder / GOOD
                if not good.exists():
                    raise
                raise faults.TrainingError(f"{error} {good} was written before the run left its range.") from error
            trainer.writer.check()
            step, last = counters.step, counters.step == total
            if config.eval.every and step % config.eval.every == 0 and not last:
                result = self.evaluate(f"step_{step:06d}", samples=0)
                if result is not None:
                    metrics[GREEDY] = result.greedy.mean
            with world.together():
                for callback in self.callbacks:
                    callback.on_step(trainer, metrics, rollouts)
                if self.files is not None:
                    self.files.metrics.write(step, metrics)
                    self.files.trackers.log(step, metrics)
                    if trainer.keeps_rollouts(step):
                        with writing(self.folder / "rollouts"):
                            write_rollouts(self.folder / "rollouts", step, rollouts)
            display.step(step, total, metrics)
            if world.main:
                with writing(self.folder / FILE):
                    hint, departure = hints.watch(step, metrics), in_range.watch(step, metrics)
                    if departure is not None:
                        keep(self.folder, departure)
                for said in filter(None, (hint, departure)):
                    display.note(said)
            move(step)
            best = config.checkpoint.keep_best
            score = checkpoint.Score(best, metrics[best]) if best in metrics else None
            judged = best == GREEDY and score is not None
            stopping = self.stopping()
            if step % config.checkpoint.every == 0 or judged or last or stopping:
                run_state.save(trainer, self.folder, None if self.files is None else self.files.metrics, score)
            if last or stopping:
                trainer.writer.wait()
        return counters.step >= total
