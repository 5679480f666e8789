"""The model card of a run: the ``README.md`` of a checkpoint, as the Hugging Face hub reads it.

It is made from the files of the run alone. Names, paths and settings may come from anywhere: they stand in code spans
and fenced blocks, from which Markdown and HTML do not get out, and paths of this machine are cut to their last part.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from llmrl.envs.hub import NAME
from llmrl.errors import ConfigError
from llmrl.evaluation import Comparison, DifferentProblems, Estimate, Evaluation, compare
from llmrl.evaluation.tables import difference_text
from llmrl.text import DamagedFile, counted, one_line, read_json
from llmrl.training import checkpoint
from llmrl.training.config import PROMPT, PolicyConfig
from llmrl.training.defaults import changed
from llmrl.training.files import read_tree
from llmrl.training.given import OBJECT
from llmrl.training.licenses import License, license_of_base
from llmrl.training.markdown import block, code, number, table
from llmrl.training.metrics_file import read_metrics

FILE = "README.md"
_SHOWN = {
    "reward/mean": "mean reward",
    "reward/accuracy": "correct",
    "response_length/mean": "tokens of a response",
    "actor/entropy": "entropy, nats",
}
"""Metrics of the table of the training."""
_MARKS = re.compile(r"[^\w.+-]+")
_TAG = re.compile(r"[A-Za-z0-9][\w.:+-]{0,60}")


def write_card(run: Path, saved: Path) -> Path:
    """Write the card of a checkpoint into it, under its name only when it is whole.

    Raises:
        DamagedFile: a file of the run is not what was written.
        ConfigError: its ``config.yaml`` cannot be read.
    """
    aside = saved / f".{FILE}"
    aside.write_text(model_card(run, saved), encoding="utf-8")
    return aside.replace(saved / FILE)


def model_card(
    run: Path,
    saved: Path,
    repo: str | None = None,
    *,
    license: str | None = None,
    tags: Sequence[str] = (),
    ask_hub: bool = False,
) -> str:
    """The card of a checkpoint.

    Args:
        run: folder of the run.
        saved: the checkpoint, in that folder.
        repo: what the hub calls the model; None: the card names the folder.
        license: as the hub calls it; None: that of the base model's card, if it has one that names it.
        tags: tags in addition to those of llmrl.
        ask_hub: download the base model's card where it is not on this machine.

    Raises:
        DamagedFile: a file of the run is not what was written.
        ConfigError: its ``config.yaml`` cannot be read, or the licence or a tag cannot be one.
    """
    for tag in tags:
        if _TAG.fullmatch(tag) is None:
            raise ConfigError(f"{one_line(tag)!r} cannot be a tag. Give letters, digits, and . _ : - between them.")
    facts = _Facts.of(run, saved, repo)
    known = License.named(license) if license is not None else facts.license_of_base(ask_hub)
    front = _front(facts, known, tags).to_yaml(line_break="\n")
    return f"---\n{front}\n---\n\n" + "\n\n".join(_sections(facts, known)) + "\n"


@dataclass(frozen=True)
class _Facts:
    """Facts about a checkpoint from the files of its run."""

    run: Path
    repo: str | None
    step: int
    config: dict[str, Any]
    settings: dict[str, Any]
    """Those that were given or are not at their defaults, by dotted names."""
    first: dict[str, Any]
    """The record of the session that began the run."""
    last: dict[str, Any]
    metrics: list[dict[str, Any]]
    before: Evaluation | None
    after: Evaluation | None
    """Of the weights of this checkpoint."""
    remark: str | None
    """Which problems of the evaluations are training problems; empty: none, None: the files do not say."""

    @classmethod
    def of(cls, run: Path, saved: Path, repo: str | None) -> _Facts:
        config = read_tree(run / "config.yaml")
        record = run / "environment.json"
        sessions = read_json(record).get("sessions") if record.is_file() else None
        if not isinstance(sessions, list) or not sessions or not all(isinstance(s, dict) for s in sessions):
            raise DamagedFile(f"{record} does not hold the record of a run, which the card needs.")
        step = checkpoint.step_of(saved.resolve())
        metrics = [row for row in read_metrics(run / "metrics.jsonl") if row["step"] <= step]
        before = run / "eval" / "before.jsonl"
        after = evaluation_of(run, step)
        remark = _summary((after or before).with_suffix(".json")).get("remark")
        origins = sessions[-1].get("origins")
        return cls(
            run=run,
            repo=repo,
            step=step,
            config=config,
            settings=changed(config, origins if isinstance(origins, Mapping) else ()),
            first=sessions[0],
            last=sessions[-1],
            metrics=metrics,
            before=Evaluation.read(before) if before.is_file() else None,
            after=None if after is None else Evaluation.read(after),
            remark=None if remark is None else str(remark),
        )

    @property
    def algorithm(self) -> str:
        return str((self.config.get("algo") or {}).get("name"))

    @property
    def base(self) -> str:
        return str((self.config.get("policy") or {}).get("path"))

    @property
    def base_on_hub(self) -> bool:
        """Whether the base model's name is one of the hub; records of before do not say."""
        return bool((self.first.get("base") or {}).get("hub")) and NAME.fullmatch(self.base) is not None

    def license_of_base(self, ask_hub: bool) -> License | None:
        """The licence in the base model's card; None for a name that is neither on the hub nor a folder."""
        base = self.first.get("base") or {}
        if not (self.base_on_hub or base.get("hub") is False):
            return None
        return license_of_base(self.base, base.get("commit"), ask_hub=ask_hub)

    @property
    def data_sets(self) -> dict[str, str]:
        """The hub's data sets with their commits."""
        commits = (self.last.get("data") or {}).get("commits") or {}
        return {str(name): str(commit) for name, commit in commits.items() if NAME.fullmatch(str(name))}

    @property
    def trained_on(self) -> str:
        """The problems of the training."""
        env = self.config.get("env") or {}
        if str(env.get("source")).startswith(OBJECT):
            return "problems given in Python"
        return " ".join(_name(part) for part in (env.get("id"), env.get("source")) if part)

    @property
    def asked(self) -> str:
        """The problems of the evaluations, with the remark."""
        options = self.config.get("eval") or {}
        other = options.get("data") or options.get("env")
        return (_name(other) if other else self.trained_on) + (self.remark or "")

    @property
    def comparison(self) -> Comparison | None:
        if self.before is None or self.after is None:
            return None
        try:
            return compare(self.before, self.after)
        except DifferentProblems:  # an environment that draws its problems at every reset
            return None


def evaluation_of(run: Path, step: int) -> Path | None:
    """The responses of the held-out evaluation of the weights after a step; None where there was none."""
    for name in ("after", f"step_{step:06d}", *(["before"] if step == 0 else [])):
        summary, path = (run / "eval" / f"{name}{ending}" for ending in (".json", ".jsonl"))
        if path.is_file() and _summary(summary).get("step") == step:
            return path
    return None


def _summary(path: Path) -> dict[str, Any]:
    """The summary of an evaluation; empty if there is none."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise DamagedFile(f"{path} does not hold the summary of an evaluation.")
    return content


def _front(facts: _Facts, license: License | None, tags: Sequence[str]) -> ModelCardData:
    results = None
    if facts.after is not None:
        source = next((name for name in facts.data_sets if name in facts.asked.split()), None)
        results = [
            EvalResult(
                task_type="text-generation",
                dataset_type=source or ("held-out-problems" if facts.remark == "" else "problems"),
                dataset_name=one_line(facts.asked),
                metric_type="accuracy",
                metric_name=f"{name}, {len(facts.after.scores(True))} problems, 95 % interval {value}",
                metric_value=round(100 * value.mean, 2),
            )
            for name, value in facts.after.estimates().items()
        ]
    own = ["reinforcement-learning", "llmrl", _MARKS.sub("-", facts.algorithm).strip("-")]
    return ModelCardData(
        license=None if license is None else license.license,
        license_name=None if license is None else license.license_name,
        license_link=None if license is None else license.license_link,
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=facts.base if facts.base_on_hub else None,
        base_model_relation="finetune" if facts.base_on_hub else None,
        datasets=list(facts.data_sets) or None,
        tags=list(dict.fromkeys(tag for tag in (*own, *tags) if tag)),
        model_name=_title(facts) if results else None,
        eval_results=results,
    )


def _title(facts: _Facts) -> str:
    return one_line(facts.repo.rpartition("/")[2] if facts.repo else facts.run.resolve().name)


def _sections(facts: _Facts, license: License | None) -> Iterator[str]:
    base, algorithm = code(_name(facts.base)), code(facts.algorithm)
    yield f"# {code(_title(facts))}"
    yield (
        f"{base} after {counted(facts.step, 'step')} of reinforcement learning with {algorithm} on "
        f"{code(facts.trained_on)}, trained with llmrl."
    )
    yield "## Scores"
    yield from _scores(facts)
    yield "## Training"
    yield from _training(facts)
    yield "## Use"
    yield from _use(facts)
    yield "## Versions"
    yield from _versions(facts)
    yield "## Limits"
    yield (
        "Training rewarded what the verifier of its environment checks and nothing else; nothing but the scores above "
        "was measured."
    )
    yield "## License"
    yield "The licenses of the base model and of the data apply. " + (
        "None is stated here." if license is None else f"{code(license.license)} is stated by {license.said_by}."
    )


def _scores(facts: _Facts) -> Iterator[str]:
    if facts.before is None and facts.after is None:
        yield "No evaluation was made with these weights."
        return
    known = facts.after or facts.before
    assert known is not None
    settings, policy = facts.config.get("eval") or {}, facts.config.get("policy") or {}
    temperature = settings.get("temperature") or policy.get("temperature")
    length = settings.get("max_response_length") or policy.get("max_response_length")
    problems = "Held-out problems" if facts.remark == "" else "Problems"
    yield (
        f"{problems} of {code(facts.asked)}: {len(known.scores(True))}; "
        f"{counted(known.samples, 'sample')} per problem, at temperature {code(temperature)}; at most {code(length)} "
        "tokens per response. 95 % intervals over problems; the change is paired, in points."
    )
    columns = {
        "before": {} if facts.before is None else _texts(facts.before.estimates()),
        f"after step {facts.step}": {} if facts.after is None else _texts(facts.after.estimates()),
        "change": {} if (both := facts.comparison) is None else _texts(both.difference, difference_text),
    }
    names = dict.fromkeys(name for column in list(columns.values())[:2] for name in column)
    yield table(["", *columns], [[name, *(column.get(name, "") for column in columns.values())] for name in names])
    if facts.after is None:
        yield "These weights were not evaluated."


def _texts(estimates: Mapping[str, Estimate], write: Callable[[Estimate], str] = str) -> dict[str, str]:
    return {name: write(estimate) for name, estimate in estimates.items()}


def _training(facts: _Facts) -> Iterator[str]:
    train = facts.config.get("train") or {}
    rows = [["base model", code(_name(facts.base)) + _commit((facts.first.get("base") or {}).get("commit"))]]
    rows.append(["problems", code(facts.trained_on)])
    rows += [["data set", code(name) + _commit(commit)] for name, commit in facts.data_sets.items()]
    if digest := (facts.last.get("data") or {}).get("digest"):
        rows.append(["digest of the data", code(digest)])
    rows.append(["steps", str(facts.step)])
    rows.append(
        [
            "responses per step",
            f"{code(train.get('prompts_per_step'))} problems x {code(train.get('group_size'))} responses",
        ]
    )
    yield table(["", ""], rows)
    if recipe := facts.last.get("algorithm"):
        yield "The algorithm, with every number:"
        yield block(str(recipe))
    yield "Settings that were given or are not at their defaults; `llmrl train --config FILE` reads them:"
    yield block(yaml.safe_dump(_nested(facts.settings), sort_keys=False, allow_unicode=True), "yaml")
    ends = [facts.metrics[i] for i in sorted({0, len(facts.metrics) // 2, len(facts.metrics) - 1}) if facts.metrics]
    shown = {name: title for name, title in _SHOWN.items() if any(name in row for row in ends)}
    if shown:
        yield "Responses of single steps, which differ in their problems:"
        cells = [[str(row["step"]), *(number(row.get(name)) for name in shown)] for row in ends]
        yield table(["step", *shown.values()], cells)


def _use(facts: _Facts) -> Iterator[str]:
    name = facts.repo or "FOLDER"
    yield block(
        f"""from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
        "python",
    )
    policy = facts.config.get("policy") or {}
    told = {
        title: policy[key]
        for key, title in (
            ("system_prompt", "System prompt"),
            ("instruction", "Text after each problem"),
            ("template_arguments", "Arguments of the chat template"),
        )
        if policy.get(key)
    }
    for title, text in told.items():
        yield f"{title}, as in training:"
        yield block(text if isinstance(text, str) else yaml.safe_dump(text))
    yield "To evaluate it with the prompts and the lengths of its training:"
    yield block(shlex.join(_evaluation_command(facts, name)), "bash")


def _evaluation_command(facts: _Facts, name: str) -> Iterator[str]:
    """The words of a command that evaluates the policy ``name`` as it was trained.

    The files of a model on the hub do not hold the settings of its training, so the command gives them.
    """
    yield from ("llmrl", "eval", "--policy", name, "--env", _name((facts.config.get("env") or {}).get("id")))
    policy, defaults = facts.config.get("policy") or {}, PolicyConfig()
    for option in PROMPT:
        value = policy.get(option)
        if value != getattr(defaults, option):
            yield f"--{option.replace('_', '-')}"
            pairs = value.items() if isinstance(value, Mapping) else [(value,)]
            yield from (_name(word) for pair in pairs for word in pair)


def _versions(facts: _Facts) -> Iterator[str]:
    last = facts.last
    packages = last.get("packages") or {}
    rows = [[code(name), code(version)] for name, version in (packages | {"python": last.get("python")}).items()]
    rows.append(["commit of llmrl", code(last.get("commit"))])
    rows.append(["date", code(last.get("date"))])
    rows.append(["hardware", code(", ".join(map(str, last.get("gpus") or [])) or f"{last.get('cpus')} CPU cores")])
    yield table(["", ""], rows)


def _commit(commit: Any) -> str:
    return f" at {code(commit)}" if commit else ""


def _name(value: Any) -> str:
    """A name for others: of a path that leads out of the current folder its last part.

    >>> _name("/home/me/models/base"), _name("openai/gsm8k"), _name("../x/train.jsonl")
    ('base', 'openai/gsm8k', 'train.jsonl')
    """
    text = str(value)
    return Path(text).name if text.startswith(("/", "~", "..")) else text


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names as a tree, with no path of this machine."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, key = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[key] = _name(value) if isinstance(value, str) else value
    return tree
