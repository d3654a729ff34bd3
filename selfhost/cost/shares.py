"""What each line of an option adds up to, and what a million tokens cost, of prompts and of answers."""

from __future__ import annotations

import math

from selfhost.cost import flows
from selfhost.cost.types import Option, Scenario

_MILLION = 1e6


def by_line(option: Option, scenario: Scenario) -> dict[str, float]:
    """What each line adds up to over the horizon; what comes back at the end is negative."""
    found: dict[str, float] = {}
    once = flows.paid_once(option, scenario.months)
    usage = [flows.month_of(option, scenario, month) for month in range(scenario.months + 1)]
    for line in option.lines:
        if line.unit == "residual":
            amount = -line.amount * line.times
        elif line.unit == "residual share":
            amount = -line.amount * line.times * once
        else:
            amount = math.fsum(flows.line_flow(line, month, each) for month, each in enumerate(usage))
        found[line.name] = found.get(line.name, 0.0) + amount
    return found


def per_million(
    option: Option, scenario: Scenario, cost: float
) -> tuple[float | None, float | None, float | None]:
    """Cost of a million tokens, of prompts and of answers.

    Lines that are priced by token go to their tokens; all else is shared out by `input_share`, or evenly.
    """
    mine = [flows.month_of(option, scenario, month).volume for month in range(1, scenario.months + 1)]
    into, out = math.fsum(one.input_tokens for one in mine), math.fsum(one.output_tokens for one in mine)
    if scenario.volume is None or into + out <= 0:
        return None, None, None
    own = {"input": 0.0, "output": 0.0}
    for line in option.lines:
        if line.unit == "million tokens" and line.tokens != "all" and not line.income:
            side = "output" if line.tokens == "output" else "input"
            own[side] += math.fsum(
                flows.line_flow(line, month, flows.month_of(option, scenario, month))
                for month in range(1, scenario.months + 1)
            )
    rest = cost - own["input"] - own["output"]
    share = into / (into + out) if option.input_share is None else option.input_share
    return (
        cost / (into + out) * _MILLION,
        None if into <= 0 else (own["input"] + rest * (share if out > 0 else 1.0)) / into * _MILLION,
        None if out <= 0 else (own["output"] + rest * ((1 - share) if into > 0 else 1.0)) / out * _MILLION,
    )
