"""Every file of a run has the mode that the account's umask gives it."""

from __future__ import annotations

import stat

import torch
from tiny import tiny_policy

from llmrl.policies.saving import write_tensors


def test_files_of_tensors_and_models_have_the_usual_mode(tmp_path):
    (tmp_path / "plain").write_text("")
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    write_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"about": "it"})
    tiny_policy().save(tmp_path / "model")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {usual}, modes
