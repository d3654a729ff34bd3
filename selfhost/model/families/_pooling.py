"""Generation models used for pooling: embedding drops the output head, classification replaces it by a score.

vLLM 0.32 converts `<X>Model`, `<X>ForSequenceClassification` and the like to `<X>ForCausalLM`'s class
(config/model.py:2322-2363 `_SUFFIX_TO_DEFAULTS`, models/registry.py `_normalize_arch`, models/adapters.py).
"""

from __future__ import annotations

from dataclasses import replace

from selfhost.model.config import Config
from selfhost.model.families.common import Builder, Draught, whole
from selfhost.model.modules import Embedding, Item, Vector

_GENERATE = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "Model")
# Longer suffixes first, "Model" last, as vLLM tries them.
_SUFFIXES: tuple[tuple[str, bool], ...] = (
    ("ForTextEncoding", False),
    ("EmbeddingModel", False),
    ("ForSequenceClassification", True),
    ("ForTokenClassification", True),
    ("ClassificationModel", True),
    ("ForRewardModeling", False),
    ("RewardModel", False),
    ("Model", False),
)


def candidates(architecture: str) -> tuple[tuple[str, bool], ...]:
    """Names of generation classes that a pooling architecture may stand for, and whether it classifies."""
    for suffix, classify in _SUFFIXES:
        if architecture.endswith(suffix):
            stem = architecture.removesuffix(suffix)
            return tuple(
                (stem + generate, classify) for generate in _GENERATE if stem + generate != architecture
            )
    return ()


def labels(config: Config) -> int:
    """Number of classes: `num_labels`, the length of `id2label`, or transformers' two."""
    if config.has("num_labels"):
        return config.int("num_labels", maximum=1 << 20)
    names = config.optional_section("id2label")
    return len(names.data) if names is not None and names.data else 2


def score(config: Config, hidden: int, *, name: str = "score") -> Item:
    """The linear layer to the classes, float32 as heads of pooling models are (config/model.py `_get_head_dtype`)."""
    asked = config.str("head_dtype", default="float32")
    dtype = None if asked == "model" else asked
    online = config.has("classifier_from_token") or config.has("method")
    return whole(name, labels(config), hidden, dtype=dtype, quantizable=not online)


def without_head(draught: Draught, *more: Item) -> Draught:
    """The model with `more` in place of its output head."""
    kept = tuple(
        item
        for item in draught.last.items
        if not (isinstance(item, Embedding) and item.head)
        and not (isinstance(item, Vector) and item.name == "lm_head.bias")
    )
    return replace(
        draught,
        last=replace(draught.last, items=(*kept, *more)),
        tied=False,
        facts=replace(draught.facts, pooling=True),
        draft=(),
    )


def converted(build: Builder, *, classify: bool) -> Builder:
    """A builder of the pooling form of what `build` builds."""

    def pooled(config: Config) -> Draught:
        draught = build(config)
        if draught.facts.pooling and not classify:
            return draught
        more = (score(config, draught.facts.hidden_size),) if classify else ()
        return without_head(draught, *more)

    return pooled
