"""The output of a run on a terminal: a start-up report, a line per step above a progress bar, and the result."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from llmrl.evaluation import Evaluation, compare
from llmrl.evaluation.tables import difference_text
from llmrl.terminal import Terminal
from llmrl.text import counted
from llmrl.training.config import Config
from llmrl.training.defaults import changed

# Heading, width, and the text from the metrics.
Column = tuple[str, int, Callable[[dict[str, float]], str]]


def _percent(name: str) -> Callable[[dict[str, float]], str]:
    return lambda m: f"{100 * m[name]:.1f}%" if name in m else "-"


def _number(name: str, digits: int) -> Callable[[dict[str, float]], str]:
    return lambda m: f"{m[name]:.{digits}f}" if name in m else "-"


COLUMNS: tuple[Column, ...] = (
    ("reward", 7, _number("reward/mean", 3)),
    ("correct", 7, _percent("reward/accuracy")),
    ("entropy", 7, _number("actor/entropy", 3)),
    ("clip lo", 7, _percent("actor/clip_fraction_low")),
    ("clip hi", 7, _percent("actor/clip_fraction_high")),
    ("gate", 6, _percent("actor/gate_fraction")),
    ("length", 6, _number("response_length/mean", 1)),
    ("grad", 6, _number("actor/grad_norm", 2)),
    ("tok/s", 6, _number("perf/tokens_per_second", 0)),
    ("s", 5, _number("time/step", 1)),
)


class Display:
    """A progress bar at the bottom of a terminal, and lines of text above it.

    If the output is not a terminal, there are only the lines.
    """

    def __init__(self, console: Terminal | None = None) -> None:
        self.console = console or Terminal()
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            disable=not self.console.is_terminal or self.console.quiet,
            transient=True,
        )
        self._lines = 0

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        """Print a line of text as it is."""
        self.console.say(text)

    def panel(self, title: str, text: str) -> None:
        """Print a framed block of text."""
        self.console.print(Panel(text, title=Text(title), title_align="left", expand=False))

    def settings(self, config: Config) -> None:
        """Print every setting that is not at its default, and the origin of its value."""
        table = Table(title="settings that differ from the defaults", title_justify="left", box=None)
        for heading in ("option", "value", "from"):
            table.add_column(heading)
        differ = changed(config.to_dict())
        for key, origin in sorted(config.origins.items()):
            if (value := differ.get(key)) is not None:
                table.add_row(key, str(value), origin)
        if table.row_count:
            self.console.print(table)

    def bar(self, title: str, total: int, done: int = 0) -> Callable[[int], None]:
        """A new progress bar; call the result with the amount done. A finished bar disappears."""
        task = self.progress.add_task(title, total=total, completed=done)

        def move(now: int) -> None:
            if task in self.progress.task_ids:
                self.progress.update(task, completed=now)
                if now >= total:
                    self.progress.remove_task(task)

        return move

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        """Print one line of numbers; the headings are repeated every 20 lines."""
        if self._lines % 20 == 0:
            heads = " ".join(f"{head:>{width}}" for head, width, _ in COLUMNS)
            self.console.print(f"{'step':>9} {heads}", style="bold", highlight=False, soft_wrap=True)
        self._lines += 1
        cells = " ".join(f"{read(metrics):>{width}}" for _, width, read in COLUMNS)
        self.console.print(f"{f'{step}/{total}':>9} {cells}", highlight=False, soft_wrap=True)

    def comparison(self, before: Evaluation, after: Evaluation) -> None:
        """Print accuracy before and after on the same problems, and the gain with its paired interval."""
        problems = len(before.scores(True))
        table = Table(title=f"measured accuracy, {counted(problems, 'problem')}, 95 % intervals over problems")
        for heading in ("", "before", "after", "gain in points"):
            table.add_column(heading)
        result = compare(before, after)
        for name, gain in result.difference.items():
            if name == "greedy" or name.startswith("avg@"):
                sides = str(result.first[name]), str(result.second[name])
                table.add_row(name, *sides, difference_text(gain))
        self.console.print(table)
