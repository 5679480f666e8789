"""Every mutant still finds the one place that it changes; ``mutants.py`` itself says whether tests notice."""

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{i}-{mutant.file}" for i, mutant in enumerate(MUTANTS)])
def test_a_mutant_changes_exactly_one_place(mutant):
    assert (ROOT / "llmrl" / mutant.file).read_text().count(mutant.original) == 1
    assert mutant.replacement != mutant.original
