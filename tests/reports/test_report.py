"""The report: what it reads, what its page holds, and that no response can do anything in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from example_run import NASTY, write_rollouts, write_run
from safetensors.torch import load_file, save_file

from llmrl.commands.cli import main
from llmrl.reports.curves import accuracy_figure, band, change, curve_figures, inline_svg
from llmrl.reports.page import write_page
from llmrl.reports.plots import smooth
from llmrl.reports.rollouts import AS_TRAINED, Choice, Shown, choose_rows, read_rows, recipes_for, token_text
from llmrl.reports.runs import ReportError, differences, group_runs, read_run, read_runs
from llmrl.training.hints import FILE

TEXTS = ["Add: $8 + 13 = 21$. The answer is $\\boxed{8}$.", "I guess $\\boxed{11}$."]


class Page(HTMLParser):
    """The tags of a page, and the text of its data blocks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.blocks: dict[str, str] = {}
        self.text = path.read_text()
        self._open: str | None = None
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = dict(attributes).get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data

    @property
    def index(self):
        return json.loads(self.blocks["index"])

    @property
    def rollouts(self):
        return [json.loads(self.blocks[f"r{i}"]) for i in range(len(self.index["rollouts"]))]


@pytest.fixture
def run(tmp_path) -> Path:
    """Rollouts without curves, which take their time to draw."""
    folder = write_run(tmp_path / "espo-0", bare=True)
    write_rollouts(folder, TEXTS * 2)
    return folder


def page_of(folders, tmp_path, **options) -> Page:
    output = tmp_path / "out" / "report.html"
    write_page(output, read_runs(folders), **options)
    assert [p.name for p in output.parent.iterdir() if "writing" in p.name] == []
    return Page(output)


# Runs


def test_seeds_share_a_group_and_settings_do_not(tmp_path):
    folders = [
        write_run(tmp_path / "a", seed=0),
        write_run(tmp_path / "b", seed=1, steps=5),
        write_run(tmp_path / "c", algo="dapo"),
        write_run(tmp_path / "d", train={"learning_rate": 0.1}),
    ]
    groups = group_runs(read_runs(folders))
    assert [(g.label, [r.name for r in g.runs]) for g in groups] == [
        ("espo train.learning_rate=0.001", ["a", "b"]),
        ("dapo", ["c"]),
        ("espo train.learning_rate=0.1", ["d"]),
    ]


def test_the_hints_of_a_run_are_on_its_page_once_and_as_text(run, tmp_path, capsys):
    hint = "Nothing was learned in steps 1 to 3: the learning rate is 0. Give --train.learning-rate."
    (run / FILE).write_bytes(f"{hint}\n<img src=x onerror=alert(1)>\x1b[2J\n".encode() + b"\xff" * 10_000)
    page = page_of([run], tmp_path)
    assert page.text.count(hint) == 1
    assert all(attributes.get("src") != "x" for _, attributes in page.tags)
    assert len(page.text) < 100_000
    assert main(["report", str(run), "--output", str(tmp_path / "page.html")]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("--train.learning-rate") == 1
    assert "\x1b" not in shown


def test_settings_that_differ(tmp_path):
    folders = [write_run(tmp_path / "a", options={"alpha": 0.02}), write_run(tmp_path / "b")]
    assert differences(read_runs(folders)) == {"algo.alpha": [0.02, None]}


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    folders = [write_run(tmp_path / x / "run", seed=i) for i, x in enumerate("ab")]
    assert [r.name for r in read_runs(folders)] == ["a/run", "b/run"]
    assert len(read_runs([folders[0], folders[0]])) == 1


@pytest.mark.parametrize(
    "tail",
    ['{"step": 4, "rew', "\n", "17", b"\xff\xfe{", '{"step": -1}', '{"step": 4, "reward/mean": "x"}', '{"step": [4]}'],
)
def test_a_half_written_last_line_is_left_out(tmp_path, tail):
    run = write_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(tail if isinstance(tail, bytes) else tail.encode())
    found = read_run(run)
    assert [row["step"] for row in found.metrics] == [1, 2, 3]
    assert found.notes == ["metrics.jsonl: line 4 is damaged and left out"]


def test_a_run_that_has_just_begun(tmp_path):
    page = page_of([write_run(tmp_path / "new", bare=True)], tmp_path)
    assert "no step is finished yet" in page.text
    assert "The runs have no rollouts" in page.text


def test_what_is_no_run(tmp_path, run):
    with pytest.raises(ReportError, match=r"There is no folder .*nowhere\. Give the folder of a run"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(
        ReportError,
        match=r"is not the folder of a run: it has no config\.yaml\. It holds runs: espo-0",
    ):
        read_run(tmp_path)
    (run / "config.yaml").write_text("a: [")
    with pytest.raises(ReportError, match=r"config\.yaml cannot be read"):
        read_run(run)
    (run / "config.yaml").write_text("a: 1")
    with pytest.raises(ReportError, match="names no algorithm under algo"):
        read_run(run)


# Curves


def test_a_band_covers_the_runs_where_all_of_them_are(tmp_path):
    folders = [
        write_run(tmp_path / "a", level=0.2),
        write_run(tmp_path / "b", seed=1, level=0.6, steps=2),
    ]
    series = band(read_runs(folders), "actor/entropy")
    assert series.steps.tolist() == [1, 2]
    np.testing.assert_allclose(series.mean, [0.4, 0.4])
    np.testing.assert_allclose(series.low, [0.2, 0.2])
    np.testing.assert_allclose(series.high, [0.6, 0.6])


def test_smoothing_is_a_centred_mean_of_what_is_there():
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan, np.nan, np.nan, 9.0])
    expected = [1.0, 2.0, 4.0, 4.0, 5.0, np.nan, 9.0, 9.0]
    np.testing.assert_allclose(smooth(values, 3), expected)
    assert smooth(np.array([]), 3).tolist() == []


def test_curves_say_what_the_band_is(tmp_path):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1, level=0.6)]
    groups = group_runs([*read_runs(folders), read_run(write_run(tmp_path / "c", algo="gspo"))])
    figures = {name: inline_svg(figure, name) for name, figure in curve_figures(groups)}
    assert list(figures) == ["reward/accuracy", "actor/entropy"]
    assert "espo: mean of 2 runs, band min to max" in figures["actor/entropy"]
    assert ">gspo<" in figures["actor/entropy"]
    assert figures == {name: inline_svg(f, name) for name, f in curve_figures(groups)}


def test_a_setting_with_a_dollar_sign_is_no_formula(tmp_path):
    folders = [write_run(tmp_path / str(i), options={"f": x}) for i, x in enumerate(("$\\x", "y"))]
    assert all(name for name, _ in curve_figures(group_runs(read_runs(folders))))


def test_before_and_after_by_problem(tmp_path):
    runs = read_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)])
    entry = change(runs)
    assert entry.problems == 3
    assert entry.before.mean == pytest.approx(1 / 3)
    assert entry.after.mean == pytest.approx(2 / 3)
    assert entry.change.mean == pytest.approx(1 / 3)
    assert entry.change.low < entry.change.mean < entry.change.high  # three problems tell little
    harder = change(runs, "level", 2)
    assert (harder.problems, harder.before.mean, harder.after.mean) == (2, 0, 0.5)
    assert change(runs, "level", 9) is None
    unfinished = replace(
        runs[1], evaluations={"before": [{**r, "verdict": "correct"} for r in runs[0].evaluations["after"]]}
    )
    assert change([runs[0], unfinished]) == change(runs[:1])
    assert change([unfinished]) is None
    figure = inline_svg(accuracy_figure(group_runs(runs)), "x")
    assert ">level 2<" in figure
    assert ">algebra<" in figure


def test_the_figure_of_the_accuracy_has_the_subjects_with_most_problems(tmp_path, monkeypatch):
    monkeypatch.setattr("llmrl.reports.curves.LARGEST", 2)
    run = write_run(tmp_path / "a")
    subjects = ["few", "many", "some", "many", "some", "many"]
    for path in (run / "eval").glob("*.jsonl"):
        record = json.loads(path.read_text().splitlines()[0])
        rows = [{**record, "problem_id": i, "subject": subject} for i, subject in enumerate(subjects)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (axis,) = accuracy_figure(group_runs(read_runs([run]))).axes
    assert [label.get_text() for label in axis.get_yticklabels()][-2:] == ["many", "some"]
    assert "Of 3 subjects, the 2 with the most problems are shown." in axis.get_xlabel()


@pytest.mark.parametrize(
    ("title", "said"), [("a <b> (nothing is held out)", " on a &lt;b&gt; (nothing"), (None, ", with")]
)
def test_the_page_names_the_problems_of_the_evaluation(tmp_path, title, said):
    run = write_run(tmp_path / "a")
    (run / "eval" / "after.json").write_text(json.dumps({} if title is None else {"title": title}))
    write_page(tmp_path / "page.html", read_runs([run]))
    assert f"Greedy accuracy{said}" in (tmp_path / "page.html").read_text()


# Rollouts


def test_problems_of_unknown_level_and_subject_have_no_row(tmp_path):
    run = write_run(tmp_path / "a")
    for path in (run / "eval").glob("*.jsonl"):
        path.write_text(path.read_text().replace('"level": 2', '"level": 0').replace('"algebra"', '""'))
    (axis,) = accuracy_figure(group_runs(read_runs([run]))).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all", "level 1"]
    figure = inline_svg(accuracy_figure(group_runs(read_runs([run]))), "x")
    assert ">100 %<" in figure


def test_steps_are_whole_numbers_and_shares_stay_within_0_and_1(tmp_path):
    groups = group_runs(read_runs([write_run(tmp_path / "a", level=0.0)]))
    (axis,) = dict(curve_figures(groups))["reward/accuracy"].axes
    assert all(float(step).is_integer() for step in axis.get_xticks())
    low, high = axis.get_ylim()
    assert -0.02 <= low < high <= 1.02


def test_rows_are_whole_groups_from_one_end_to_the_other():
    groups = [i // 8 for i in range(80)]
    assert choose_rows(groups, 24) == [*range(8), *range(32, 40), *range(72, 80)]
    assert choose_rows(groups, 5) == [0, 1, 2, 3, 4]
    assert choose_rows(groups, 1000) == list(range(80))
    assert choose_rows([], 5) == []


def test_only_the_rows_asked_for_are_read(run):
    path = run / "rollouts" / "step_000001.safetensors"
    data = read_rows(path, [0, 2, 3], 4, Shown())
    whole = load_file(path)
    assert torch.equal(data["tokens", "full"], whole["tokens.full"][[0, 2, 3]])
    assert torch.equal(data["old_entropy"], whole["old_entropy"][[0, 2, 3]])


def test_the_page_holds_a_bounded_number_and_says_so(tmp_path):
    folder = write_run(tmp_path / "espo-0", bare=True)
    for step in range(1, 8):
        write_rollouts(folder, TEXTS * 3, step=step, tensors=False)
    page = page_of([folder], tmp_path, choice=Choice(steps=3, per_step=4, max_tokens=5))
    assert [e[1:3] for e in page.index["rollouts"]] == [[step, group] for step in (1, 4, 7) for group in (0, 0, 2, 2)]
    assert "12 of the 18 responses of 3 steps; 7 steps have rollouts" in page.index["bounds"]


def test_numbers_of_the_page_are_those_of_the_files(tmp_path, run):
    page = page_of([run], tmp_path, algorithms=["dapo", "espo", "erc"])
    saved = load_file(run / "rollouts" / "step_000001.safetensors")
    for row, shown in enumerate(page.rollouts):
        mask = saved["masks.all_assistant_mask"][row]
        assert shown["tokens"] == saved["tokens.full"][row][mask].tolist()
        assert shown["log_prob"] == pytest.approx(saved["log_prob"][row][mask].tolist(), rel=1e-3)
        texts = page.index["runs"][0]["texts"]
        assert "".join(texts[str(t)] for t in shown["tokens"]) == TEXTS[row % 2]
    first, second = page.rollouts[:2]
    assert list(first["algorithms"]) == [AS_TRAINED, "dapo", "erc"]  # the run's own is espo
    far = [i % 4 == 0 for i in range(len(first["tokens"]))]
    # dapo: ratio 1.65 and a positive advantage; erc: the entropy of the same tokens grew by half
    assert first["algorithms"]["dapo"]["state"] == [10 if x else 0 for x in far]
    assert first["algorithms"]["erc"]["state"] == [14 if x else 0 for x in far]
    assert second["algorithms"]["dapo"]["state"] == 0
    assert set(first["algorithms"][AS_TRAINED]["segment"]) == {0, 1}
    assert first["token_advantage"] == 1


def test_recipes_have_the_response_limit_of_the_run(run):
    read = read_run(run)
    read.config["policy"]["max_response_length"] = 12
    assert recipes_for(read, ["dr_grpo"], Shown())["dr_grpo"].aggregate.length == 12


def test_tokens_of_others_and_long_responses(tmp_path, run):
    path = run / "rollouts" / "step_000001.safetensors"
    saved = load_file(path)
    saved["masks.all_assistant_mask"][0, 5] = False
    save_file(saved, path)
    shown = page_of([run], tmp_path, choice=Choice(max_tokens=6)).rollouts[0]
    assert shown["sampled"] == [1, 1, 0, 1, 1, 1]
    assert shown["cut"] == int(saved["masks.all_assistant_mask"][0].sum()) + 1 - 6


def test_tensors_that_cannot_be_used_leave_the_text(tmp_path, run, capsys):
    path = run / "rollouts" / "step_000001.safetensors"
    saved = load_file(path)

    def notes() -> str:
        page = page_of([run], tmp_path, algorithms=["dapo", "erc"])
        return " ".join(page.text[: page.text.index("<section")].split())

    save_file({name: x[:2].clone() for name, x in saved.items()}, path)
    assert "has 2 rows for 4 records: not used" in notes()
    for wrong in (-1, -(2**63)):
        save_file({**saved, "tokens.full": torch.full_like(saved["tokens.full"], wrong)}, path)
        assert "not used: step_000001.safetensors has token ids below 0" in notes()
    save_file({"advantage": saved["advantage"]}, path)
    assert "has no tokens.full and no masks.all_assistant_mask: not used" in notes()
    path.write_bytes(path.read_bytes()[:40])
    assert "cannot be read, perhaps because it is being written" in notes()
    path.unlink()
    assert "the rollouts of step 1 have no .safetensors file" in notes()
    assert page_of([run], tmp_path).rollouts[0]["response"] == TEXTS[0]
    without = {name: x for name, x in saved.items() if name not in ("entropy", "log_prob")}
    save_file(without, path)
    assert "dapo is not computed:" in notes()
    save_file({**without, "log_prob": saved["log_prob"]}, path)
    assert "erc is not computed:" in notes()
    assert "dapo is not computed:" not in notes()


def test_rollouts_that_are_being_written(tmp_path, run):
    with (run / "rollouts" / "step_000001.jsonl").open("a") as file:
        file.write('{"step": 1, "group"')
    page = page_of([run], tmp_path)
    assert len(page.rollouts) == 4
    assert "step_000001.jsonl: read up to line 5, which is incomplete" in page.text


@pytest.mark.parametrize("wrong", [{"group": [1]}, {"group": "x"}, {"problem_id": -1}, {"reward": {}}], ids=str)
def test_a_record_with_a_wrong_value_ends_what_is_read(tmp_path, run, wrong):
    with (run / "rollouts" / "step_000001.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "group": 0, **wrong}) + "\n")
    page = page_of([run], tmp_path)
    assert len(page.rollouts) == 4
    assert "step_000001.jsonl: read up to line 5, which is no record" in page.text


def test_a_tokenizer_that_is_gone(tmp_path, run):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("llmrl/nano", str(tmp_path / "gone")))
    page = page_of([run], tmp_path)
    assert "tokens are shown as numbers" in page.text
    token = page.rollouts[0]["tokens"][0]
    assert page.index["runs"][0]["texts"][str(token)] == f"<{token}>"


def test_a_sentencepiece_token_keeps_its_space():
    class Tokenizer:
        def decode(self, ids, skip_special_tokens):
            return "word"

        def convert_ids_to_tokens(self, token):
            return "▁word"

    assert token_text(Tokenizer(), 1) == " word"


# The page


def test_a_response_is_text_and_nothing_else(tmp_path):
    folder = write_run(tmp_path / "<b>bold", bare=True)
    write_rollouts(folder, [NASTY, "fine"], tensors=False)
    with (folder / "rollouts" / "step_000001.jsonl").open("a") as file:
        file.write('{"group": 1, "response": "\\ud800", "reward": NaN, "verdict": "<i>odd"}\n')
    page = page_of([folder], tmp_path)
    tags = [tag for tag, _ in page.tags]
    assert not {"img", "b", "i", "iframe", "link"} & set(tags)
    assert tags.count("script") == len(page.rollouts) + 2
    assert page.rollouts[0]["response"] == NASTY
    assert page.rollouts[0]["problem"] == f"Problem 0 {NASTY}"
    assert page.rollouts[2]["reward"] is None
    assert not any("<" in block or ">" in block for block in page.blocks.values())
    assert "innerHTML" not in page.text


def test_results_and_settings_are_tables(tmp_path):
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)]
    text = re.sub(r"<svg.*?</svg>|\s+", " ", page_of(folders, tmp_path).text, flags=re.DOTALL)
    rows = [re.sub("<[^>]*>", "|", row) for row in re.findall("<tr.*?</tr>", text)]
    assert "||b||espo||1||3||3||33.3 % [6.1, 79.2]||66.7 % [20.8, 93.9]||" in rows[2]
    assert "||2 runs together||espo||||3||3||33.3 % [6.1, 79.2]||66.7 %" in rows[3]
    assert "||seed||0||1||" in rows
    assert text.count("<tr class=pooled>") == 1


def test_the_page_of_one_run_shows_its_settings_and_every_measure(tmp_path):
    """What is not at its default comes first, before the curves; the rest is folded away."""
    run = write_run(tmp_path / "run", algo="dapo", train={"group_size": 8, "epochs": 3})
    record = {"date": "2026-11-26", "commit": NASTY, "packages": {"llmrl": "0.1.0"}, "cpus": 2, "gpus": []}
    (run / "environment.json").write_text(json.dumps({"sessions": [{}, record]}))
    page = page_of([run], tmp_path)
    text = page.text[: page.text.index("<h2>Curves")]
    rows = [re.sub("(<[^>]*>)+", "|", row) for row in re.findall("<tr.*?</tr>", text)]
    assert "|greedy|33.3 % [6.1, 79.2]|66.7 % [20.8, 93.9]|+33.3 [-47.5, +76.7] points|" in rows
    head, first, rest = (
        rows.index(f"|{name}|{value}|")
        for name, value in (("not at its default", "value"), ("train.epochs", "3"), ("train.group_size", "8"))
    )
    assert head < first < rest
    assert "|algo.name|dapo|" in rows[head:rest]
    assert text.index("train.epochs") < text.index("<details>") < text.index("train.group_size")
    assert "on 2 CPU cores" in text
    assert all(attributes.get("src") != "x" for _, attributes in page.tags)


def test_a_record_that_is_none_is_noted(tmp_path):
    run = write_run(tmp_path / "run", bare=True)
    for content in ("{", "[]", '{"sessions": []}', '{"sessions": [1]}'):
        (run / "environment.json").write_text(content)
        assert read_run(run).notes[-1] == "environment.json does not hold the record of a run"


def test_the_page_asks_for_nothing(tmp_path):
    page = page_of([write_run(tmp_path / "run")], tmp_path)
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("xlink:href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)|@import", page.text)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_same_runs_make_the_same_page(tmp_path):
    run = write_run(tmp_path / "run")
    write_rollouts(run, TEXTS)
    first = page_of([run], tmp_path, algorithms=["clip_cov"]).text
    assert page_of([run], tmp_path, algorithms=["clip_cov"]).text == first


# The command


def test_the_command(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    output = tmp_path / "page.html"
    assert main(["report", str(run), "--output", str(output), "--algo", "gspo", "--plots"]) == 0
    assert f"report: {output}" in capsys.readouterr().out.replace("\n", "")
    assert [name for name, _ in Page(output).index["runs"][0]["recipes"]] == [AS_TRAINED, "gspo"]
    names = {p.name for p in (tmp_path / "page_plots").iterdir()}
    assert names == {
        f"{name}.{kind}" for name in ("accuracy", "actor_entropy", "reward_accuracy") for kind in ("png", "svg")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no folder nowhere."),
        ([], "No run is given. Give the folders of runs"),
        (["RUN", "--algo", "dapoo"], "Did you mean 'dapo'?"),
        (["RUN", "--steps", "0"], "steps must be 1 or more, got 0."),
        (["RUN", "--max-tokens", "0"], "max_tokens must be 1 or more, got 0."),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, run, arguments, message, capsys):
    arguments = [str(run) if a == "RUN" else a for a in arguments]
    output = tmp_path / "page.html"
    assert main(["report", *arguments, "--output", str(output)]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not output.exists()


def test_without_rollouts(tmp_path, run):
    output = tmp_path / "page.html"
    assert main(["report", str(run), "--output", str(output), "--rollouts", "0"]) == 0
    assert Page(output).index["rollouts"] == []
