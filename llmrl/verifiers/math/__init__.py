"""Mathematical answers: finding them in a response, reading them, and saying which are equal.

>>> grade_answer("0.5", r"\\frac12").status
'correct'
"""

from llmrl.verifiers.math.rules import GradingRules
from llmrl.verifiers.math.verifier import MathVerifier, check_gold, grade_answer

__all__ = ["GradingRules", "MathVerifier", "check_gold", "grade_answer"]
