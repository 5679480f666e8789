"""Credit: from rewards to advantages."""

from llmrl.credit.advantage import Advantage, GroupAdvantage, LeaveOneOut, OverlongFilter, smallest_group
from llmrl.credit.credit import Credit
from llmrl.credit.gae import GAE
from llmrl.credit.groups import Groups, Keep, KeepAll, MixedRewards
from llmrl.credit.history import SmoothGroupAdvantage
from llmrl.credit.penalty import AdaptiveKL, KLPenalty
from llmrl.credit.rewards import Shape, SoftOverlong

__all__ = [
    "GAE",
    "AdaptiveKL",
    "Advantage",
    "Credit",
    "GroupAdvantage",
    "Groups",
    "KLPenalty",
    "Keep",
    "KeepAll",
    "LeaveOneOut",
    "MixedRewards",
    "OverlongFilter",
    "Shape",
    "SmoothGroupAdvantage",
    "SoftOverlong",
    "smallest_group",
]
