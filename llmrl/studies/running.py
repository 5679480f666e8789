"""Run the cells of a grid in this process, in several processes or on a Ray cluster; estimate the time first."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from llmrl.algorithms import algorithm
from llmrl.errors import ConfigError
from llmrl.studies.grid import Cell, Row, find_task, run_cell

EXECUTORS = ("processes", "ray")


def estimate_seconds(cells: Sequence[Cell], jobs: int) -> float:
    """Estimate the time of the cells from a few rollouts of each task, with the first algorithm that works."""
    per_update: dict[str, float] = {}
    for cell in cells:
        if cell.task not in per_update:
            with contextlib.suppress(Exception):  # it becomes the error of that cell's row
                seconds = find_task(cell.task).estimate(algorithm(cell.algorithm), cell.settings)
                per_update[cell.task] = seconds / _updates(cell)
    return sum(per_update.get(c.task, 0.0) * _updates(c) for c in cells) / jobs


def _updates(cell: Cell) -> int:
    """Number of updates of a run; sampling and evaluating a rollout count as four, which is about their cost."""
    return cell.settings.rollouts * (cell.settings.updates + 4)


def check_executor(name: str) -> None:
    """Raise ConfigError unless the executor is known."""
    if name not in EXECUTORS:
        raise ConfigError(f"No executor is called {name!r}. Known: {', '.join(EXECUTORS)}.")


def run_cells(cells: Sequence[Cell], *, jobs: int = 1, executor: str = "processes") -> Iterator[Row]:
    """Yield the rows of the cells as they finish.

    Args:
        cells: the cells to run.
        jobs: number of parallel runs, each on one core; 1: in this process.
        executor: ``"processes"`` on this machine, ``"ray"`` on the cluster of ``RAY_ADDRESS`` or a local one.

    Raises:
        ConfigError: the executor is unknown, or Ray is not installed.
    """
    if executor == "ray":
        return _on_ray(cells, jobs)
    check_executor(executor)
    return _in_this_process(cells) if jobs == 1 else _in_processes(cells, jobs)


def _in_this_process(cells: Sequence[Cell]) -> Iterator[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from map(run_cell, cells)
    finally:
        torch.set_num_threads(threads)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _pool(jobs: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in an unknown state
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread)


def _in_processes(cells: Sequence[Cell], jobs: int) -> Iterator[Row]:
    """At most ``jobs`` cells are submitted at a time. If a process dies, only these can be the cause."""
    waiting = list(reversed(cells))
    suspects: list[Cell] = []
    while waiting:
        running: dict[Future[Row], Cell] = {}
        with _pool(jobs) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < jobs:
                        cell = waiting.pop()
                        try:
                            running[pool.submit(run_cell, cell)] = cell
                        except BrokenProcessPool:
                            waiting.append(cell)
                            raise
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        row = future.result()
                        del running[future]
                        yield row
            except BrokenProcessPool:
                suspects += running.values()
            except GeneratorExit:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for cell in suspects:  # each alone, to find the cell that kills its process
        with _pool(1) as pool:
            try:
                yield pool.submit(run_cell, cell).result()
            except BrokenProcessPool:
                yield Row(cell=cell, error="The process that ran it died: killed by the system, or by a library.")


def _on_ray(cells: Sequence[Cell], jobs: int) -> Iterator[Row]:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("--executor ray needs Ray. Install it: pip install 'llmrl[ray]'.") from error
    return _with_ray(ray, cells, jobs)


def _with_ray(ray: Any, cells: Sequence[Cell], jobs: int) -> Iterator[Row]:
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    remote = ray.remote(num_cpus=1, max_retries=1)(_run_there)
    waiting = list(reversed(cells))
    running: dict[Any, Cell] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop()
                running[remote.remote(cell, sys.path)] = cell
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                cell = running.pop(reference)
                try:
                    row = ray.get(reference)
                except ray.exceptions.RayError as error:
                    row = Row(cell=cell, error=f"{type(error).__name__}: {str(error).splitlines()[0]}")
                yield row
    finally:
        if started:
            ray.shutdown()


def _run_there(cell: Cell, path: list[str]) -> Row:
    sys.path.extend(p for p in path if p not in sys.path)
    _one_thread()
    return run_cell(cell)
