"""Studies: which objective is better, with intervals, on tasks that take a second.

``run`` is ``llmrl study`` from Python, ``load`` reads a study's folder, ``Results`` has tables and estimates, and
``ExactTask`` is what a task of your own is made of.
"""

from llmrl.study.exact.machine import Outcome, Rules
from llmrl.study.exact.tasks import EXACT, ExactTask, Settings, register_task
from llmrl.study.results import Results, load
from llmrl.study.study import run

__all__ = ["EXACT", "ExactTask", "Outcome", "Results", "Rules", "Settings", "load", "register_task", "run"]
