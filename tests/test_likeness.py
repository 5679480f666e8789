"""A value from a file is compared with what the program would write, before anything is done with it."""

import math

import pytest
import torch

from llmrl.likeness import Anything, Each, Known, Maybe, Some, Table, Within, is_unlike, refuse_unlike

TENSOR = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("given", "like"),
    [
        ({"a": 3, "b": "x"}, {"a": 0, "b": ""}),
        ({"a": 1}, Some({"a": 0, "b": 0})),
        ({"a": 1, "c": None}, Known({"a": 0, "b": 0})),
        ({3: 0.5, 4: 1}, Table(0, 0.0)),
        ([], Each(0)),
        ((1, 2), [0, 0]),
        (None, Maybe(0.0)),
        (0.5, Maybe(0.0)),
        (math.nan, 0.0),
        (7, Within(7, 7)),
        (True, False),
        (None, None),
        (torch.ones(2, 3, dtype=torch.bfloat16), TENSOR),
        (object(), Anything()),
    ],
)
def test_what_is_alike_passes(given, like):
    refuse_unlike(given, like, "it")
    assert not is_unlike(given, like)


@pytest.mark.parametrize(
    ("given", "like", "words"),
    [
        ({"a": 3}, {"a": 0, "b": ""}, "it has no b"),
        ({"a": 3, "c": 1}, {"a": 0}, "it has the entry c"),
        ([1], {"a": 0}, "it is a list of 1, expected a table"),
        ({"c": 1}, Some({"a": 0}), "it has the entry c"),
        ({"a": "x"}, Known({"a": 0}), "it.a is a str"),
        ({"x": 1}, Table(0, 0), "a key of it is a str"),
        ({1: "x"}, Table(0, 0), "it.1 is a str"),
        ([1, "x"], Each(0), "it.1 is a str"),
        ([], Each(0, least=1), "expected a list of at least 1"),
        ("ab", Each(""), "it is a str, expected a list"),
        ([1], (0, 0), "expected a list of 2"),
        ("x", Maybe(0.0), "expected a number"),
        (-1, 0, "it is -1, expected an integer of 0 or more"),
        (2**63, 0, "expected an integer of 0 or more"),
        (True, 0, "it is a bool"),
        (1, True, "it is a int, expected a bool"),
        (1.0, 0, "it is a float"),
        (8, Within(1, 7), "it is 8, expected an integer from 1 to 7"),
        (0, None, "it is a int, expected a NoneType"),
        (torch.zeros(3, 2), TENSOR, r"it is a tensor of float32 \[3, 2\], expected a tensor of float32 \[2, 3\]"),
        (torch.zeros(2, 3, dtype=torch.int64), TENSOR, "tensor of int64"),
        (torch.full((2, 3), math.inf), TENSOR, "not finite"),
        ([[0.0] * 3] * 2, TENSOR, "it is a list of 2"),
    ],
)
def test_what_is_not_is_named(given, like, words):
    assert is_unlike(given, like)
    with pytest.raises(ValueError, match=words):
        refuse_unlike(given, like, "it")
