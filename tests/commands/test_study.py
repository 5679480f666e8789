"""``llmrl study``: options from a file and the command line, what it prints, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrl.commands import cli, study
from llmrl.errors import ConfigError

QUICK = ["--tasks", "hack", "--rollouts", "1"]


def options(tmp_path: Path, text: str, *arguments: str) -> study.StudyOptions:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return study.parse(["--config", str(path), *arguments], "llmrl study")


class TestOptions:
    def test_a_file_gives_options_and_the_command_line_wins(self, tmp_path):
        text = "algos: [dapo, 'erc+dapo[low=0.9]']\nseeds: 3\nlearning_rates: [1e-3, 0.1]\n"
        text += "rerun_shipped: true\noutput: here\n"
        given = options(tmp_path, text, "--seeds", "7")
        assert given.algos == ("dapo", "erc+dapo[low=0.9]")
        assert given.learning_rates == (0.001, 0.1)
        assert (given.seeds, given.rerun_shipped, given.output) == (7, True, Path("here"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("algo: [dapo]", "Did you mean 'algos'"),
            ("- dapo", "must hold settings"),
            ("seeds: many", "seeds is 'many'"),
            ("seeds: .inf", "seeds is inf"),
            ("tasks: carry", "expected a list"),
            ("rerun_shipped: 'no'", "expected true or false"),
            ("a: [", "is not valid YAML"),
        ],
    )
    def test_a_wrong_file_is_refused_with_what_to_do(self, tmp_path, text, message):
        with pytest.raises(ConfigError, match=message):
            options(tmp_path, text)


class TestCommand:
    def test_a_table_and_a_page_come_out(self, tmp_path, capsys):
        arguments = ["study", *QUICK, "--algos", "dapo", "gspo", "--seeds", "2", "--output", str(tmp_path)]
        assert cli.main(arguments) == 0
        shown = capsys.readouterr().out
        assert "gspo" in shown
        assert "2 seeds, at least 5" in shown
        assert (tmp_path / "page.html").is_file()

    def test_a_failed_run_is_the_status_1(self, tmp_path, capsys):
        arguments = ["study", *QUICK, "--algos", "dapo", "objectives:failing", "--seeds", "1"]
        assert cli.main([*arguments, "--output", str(tmp_path)]) == 1
        assert "cannot count" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tasks", "carri"], "Did you mean 'carry'"),
            (["--algos", "dappo"], "Did you mean 'dapo'"),
            (["--seeds", "0"], "seeds must be 1 or more"),
            (["--seeds", "1" + "0" * 30], "seeds must be at most 10000"),
            (["--jobs", "0"], "jobs must be 1 or more"),
            ([*QUICK, "--algos", "objectives:failing", "--seeds", "1"], "Every run failed"),
        ],
    )
    def test_what_cannot_be_done_is_one_sentence(self, tmp_path, capsys, arguments, message):
        assert cli.main(["study", "--output", str(tmp_path), *arguments]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
