"""Which limit binds each number of an estimate: the first token, each further one, the throughput, admission."""

from __future__ import annotations

import math
from dataclasses import replace

from selfhost.memory import MemoryBudget
from selfhost.throughput.estimate import admission, clock_of
from selfhost.throughput.runs import Asked
from selfhost.throughput.types import Estimate, Range


def admitted_range(asked: Asked) -> Range:
    """Requests that are let in at once, by the width within which the KV memory of similar start-ups lay.

    Args:
        asked: the deployment and load.
    """
    found = admission(asked.spec, asked.workload, asked.split, asked.gpu, asked.engine, asked.traffic)
    bill, copies = found.budget, asked.split.data * asked.replicas
    assert isinstance(bill, MemoryBudget)  # a bill that is not written out is asked for with `brief` alone
    wide = (bill.certainty_bytes or 0) / max(1, bill.kv_available_bytes or 1)

    def let_in(share: float) -> float:
        return float(copies * min(bill.max_num_seqs, math.floor((bill.max_concurrency or 0.0) * share)))

    return Range(
        low=let_in(max(0.0, 1 - wide)), typical=float(copies * found.requests), high=let_in(1 + wide)
    )


def limits_of(asked: Asked, found: Estimate) -> dict[str, str]:
    """What binds each number, in the words of `Estimate.binds`; told from the roofline.

    Args:
        asked: the deployment and load.
        found: its estimate.
    """
    traffic, split = asked.traffic, asked.split
    step, used = clock_of(asked.spec, asked.workload, split, asked.gpu, asked.engine)
    admitted = admission(asked.spec, asked.workload, split, asked.gpu, asked.engine, traffic)
    copies = split.data * asked.replicas
    busy = copies if traffic.concurrency is None else min(copies, traffic.concurrency)
    at_once = max(1.0, found.running / busy / split.pipeline)
    context = traffic.prompt_tokens + traffic.output_tokens / 2.0
    cached = traffic.prompt_tokens * traffic.prefix_hit_ratio if asked.workload.prefix_caching else 0.0
    prompt = max(1.0, traffic.prompt_tokens - cached)
    riding = at_once / max(1, traffic.output_tokens) * prompt
    if traffic.concurrency is not None:
        riding *= (
            1.0 - busy / traffic.concurrency
        )  # a client's own prompt is behind it when its further tokens come
    if found.saturated:
        first = admitted.binds
    elif found.ttft_ms.typical > 2 * found.ttft_ms.low * (1 + used.spread):
        first = "offered load"  # more than half of it is a wait for the prompts of others
    else:
        cost = step.cost(at_once, context, min(prompt, admitted.chunk_tokens), cached)
        steps = max(1.0, prompt / admitted.chunk_tokens)
        outside = used.efficiency.request_seconds / steps
        first = replace(cost, overhead=cost.overhead + outside).binds
    return {
        "ttft_ms": first,
        "tpot_ms": step.cost(at_once, context, riding, cached + (prompt - riding) / 2.0).binds,
        "output_tokens_per_second": found.binds,
        "requests_per_second": found.binds,
        "concurrency_admitted": admitted.binds,
    }
