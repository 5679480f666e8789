"""Studies: comparisons of objectives, with intervals, on tasks that take a second.

``study`` is ``llmrl study`` from Python, ``load`` reads a study's folder, and ``Results`` has tables and estimates.
``ExactTask`` and ``NanoTask`` are the classes for your own tasks.
"""

from llmrl.studies.api import study
from llmrl.studies.exact.machine import Outcome, Rules
from llmrl.studies.exact.task import ExactTask, Settings, register_task
from llmrl.studies.exact.tasks import EXACT
from llmrl.studies.nano.task import NANO, NanoTask
from llmrl.studies.results import Results, load

__all__ = [
    "EXACT",
    "NANO",
    "ExactTask",
    "NanoTask",
    "Outcome",
    "Results",
    "Rules",
    "Settings",
    "load",
    "register_task",
    "study",
]
