"""A plain environment, and copies of it with one fault each; imported by worker processes, so without torch."""

from __future__ import annotations

import os
import random

import gymnasium

from llmrl.envs.spaces import FreeText


class Echo(gymnasium.Env):
    """Asks for a number that it drew; the base of the faulty ones."""

    def __init__(self):
        self.observation_space, self.action_space = FreeText(), FreeText()
        self.wanted = ""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.wanted = str(self.np_random.integers(1000))
        return f"Say {self.wanted}.", {}

    def step(self, action):
        return "", float(action == self.wanted), True, False, {}


class NoText(Echo):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 3, {}


class TextReward(Echo):
    def step(self, action):
        return "", "1", True, False, {}


class Unseeded(Echo):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return str(random.random()), {}


class Forgetful(Echo):
    def __init__(self):
        super().__init__()
        self.grade = lambda action: 0.0


class NoSeed(Echo):
    def reset(self, *, seed=None, options=None):
        return "Say 4.", {}


class ByProcess(Echo):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return str(os.getpid()), {}


class Endless(Echo):
    def step(self, action):
        return "", 0.0, False, False, {}
