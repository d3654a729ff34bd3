"""Times of single steps -> a clock for any step: two tables with straight lines between their points.

A step of sequences that decode depends on how many they are and how much they have in the cache; a step of prompt
tokens on how many they are and how much stands before them. A step that carries both reads the weights once and
multiplies all of its tokens together, so it takes as long as one with as many prompt tokens more as sequences decode,
and what attention over their caches adds to it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

MOST_DECODING = 2048  # sequences of one step; engines take 256 to 1,024 by default
MOST_PROMPT = 65536  # prompt tokens of one step; engines take 2,048 to 16,384 by default


def axis(most: int, *, per_octave: int) -> tuple[int, ...]:
    """Whole numbers from 1 to `most`, evenly on a logarithm."""
    found = {1, most}
    step = 2.0 ** (1.0 / per_octave)
    value = 1.0
    while value < most:
        found.add(round(value))
        value *= step
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Seconds over two axes, `seconds[i * len(across) + j]` at `down[i]` and `across[j]`."""

    down: tuple[int, ...]
    across: tuple[int, ...]
    seconds: tuple[float, ...]

    def at(self, down: float, across: float) -> float:
        """Seconds at a point, by straight lines; beyond the last points the last line goes on."""
        row, upper = _between(self.down, down)
        column, right = _between(self.across, across)
        wide = len(self.across)
        first, second = (
            self.seconds[line * wide + column] * (1.0 - right)
            + self.seconds[line * wide + column + 1] * right
            for line in (row, row + 1)
        )
        return first * (1.0 - upper) + second * upper


def _between(values: tuple[int, ...], value: float) -> tuple[int, float]:
    """The interval that holds a value, and how far inside it the value lies; below the first point it is the first."""
    index = min(max(bisect_right(values, value) - 1, 0), len(values) - 2)
    share = (value - values[index]) / (values[index + 1] - values[index])
    return index, max(0.0, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The points whose times the tables are made of."""

    decoding: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def points(self) -> list[list[int]]:
        """As the child takes them: [decoding, context, prompt, before]."""
        steps = [[decoding, context, 0, 0] for decoding in self.decoding for context in self.contexts]
        return steps + [[0, 0, prompt, before] for prompt in self.prompts for before in self.before]

    def tables(self, seconds: tuple[float, ...]) -> tuple[Table, Table]:
        """Tables of decoding and of prompts from the times of `points`."""
        split = len(self.decoding) * len(self.contexts)
        return (
            Table(down=self.decoding, across=self.contexts, seconds=seconds[:split]),
            Table(down=self.prompts, across=self.before, seconds=seconds[split:]),
        )


def grid_of(max_context_tokens: int) -> Grid:
    """Points for a model of such a context: kernels jump with tile sizes, so four in each octave of tokens."""
    contexts = axis(max(2, max_context_tokens), per_octave=2)
    return Grid(
        decoding=axis(MOST_DECODING, per_octave=4),
        contexts=contexts,
        prompts=axis(MOST_PROMPT, per_octave=4),
        before=(0, *(one for one in contexts if one >= 128)) if contexts[-1] >= 128 else (0, contexts[-1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelClock:
    """`StepClock` by kernel tables.

    Args:
        decode: seconds of a step by sequences that decode and their tokens in the cache.
        prompt: seconds of a step by prompt tokens and the tokens before them.
        step_overhead_seconds: of scheduling and sampling a step, which no kernel table holds.
        sequence_overhead_seconds: the same for each sequence in it.
    """

    decode: Table
    prompt: Table
    step_overhead_seconds: float
    sequence_overhead_seconds: float

    def step_seconds(
        self,
        decoding: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """Seconds of one step (`StepClock`)."""
        overhead = self.step_overhead_seconds + decoding * self.sequence_overhead_seconds
        if prefill_tokens <= 0:
            return self.decode.at(decoding, context_tokens) + overhead
        together = self.prompt.at(prefill_tokens + decoding, prefill_context_tokens)
        return together + self._attention(decoding, context_tokens) + overhead

    def _attention(self, decoding: float, context_tokens: float) -> float:
        """What reading the caches of decoding sequences takes."""
        several = max(1.0, decoding)
        added = self.decode.at(several, context_tokens) - self.decode.at(several, 1)
        return min(1.0, decoding) * max(0.0, added)
