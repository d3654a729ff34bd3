"""The limits of one copy of a model in a simulation, and the requests with what became of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one copy of the model lets in, and how it works.

    Args:
        sequences: under way at once.
        cache_tokens: that the KV cache holds.
        chunk_tokens: of one engine step.
        prefix_hit_ratio: share of a prompt that need not be computed, as the prefix cache holds it.
        tokens_per_step: that a sequence gets in one step: 1, or more with accepted drafts.
        stages: pipeline stages.
        before_seconds: of a request outside the engine's steps.
    """

    sequences: int
    cache_tokens: int
    chunk_tokens: int
    prefix_hit_ratio: float = 0.0
    tokens_per_step: float = 1.0
    stages: int = 1
    before_seconds: float = 0.0


class Requests:
    """What is asked, by number of the request, and what became of it: seconds, below 0 where it has not happened.

    Args:
        prompts, outputs: tokens of each.
        limits: of the copies that answer.

    Attributes:
        needs: prompt tokens of each that are computed: all but what the prefix cache holds, and always the last.
        pairs: of each, `needs` times the mean number of tokens before each of these.
        steps: after the first token.
        started, first, finished: when each was let in, had its first token, and its last.
    """

    __slots__ = ("finished", "first", "needs", "pairs", "prompts", "started", "steps")

    def __init__(self, prompts: Sequence[int], outputs: Sequence[int], limits: Limits) -> None:
        hits, per_step = limits.prefix_hit_ratio, limits.tokens_per_step
        self.prompts = prompts
        self.needs = [max(1, tokens - int(tokens * hits)) for tokens in prompts] if hits else prompts
        self.pairs = [
            need * (all_of_it - need * 0.5) for need, all_of_it in zip(self.needs, prompts, strict=True)
        ]
        self.steps = [math.ceil((tokens - 1) / per_step) for tokens in outputs]
        self.started = [-1.0] * len(prompts)
        self.first = [-1.0] * len(prompts)
        self.finished = [-1.0] * len(prompts)

    def since(self, number: int) -> Requests:
        """The requests from one on, by numbers of their own; nothing has become of them."""
        part = copy(self)
        for name in ("prompts", "needs", "pairs", "steps"):
            setattr(part, name, getattr(self, name)[number:])
        for name in ("started", "first", "finished"):
            setattr(part, name, [-1.0] * len(part.prompts))
        return part
