"""`quantization_config` in its many dialects -> `Declared`.

The rules are vLLM 0.32's (model_executor/layers/quantization/*, transformers_utils/model_arch_config_convertor.py:250).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selfhost.model.config import Config
from selfhost.model.declared import Declared
from selfhost.model.dialects.floats import fbgemm, fp8, mxfp4
from selfhost.model.dialects.grouped import compressed_tensors, quark
from selfhost.model.dialects.integers import autoround, awq, bitsandbytes, experts_int8, gguf, gptq
from selfhost.model.dialects.modelopt import modelopt


def read_declared(config: Config, extra: Mapping[str, object] | None) -> Declared | None:
    """Read the quantization a checkpoint declares, None for none.

    Raises:
        ConfigError: a method or a setting that selfhost does not know, by its field.
    """
    section = None
    for place in (
        config,
        *(
            config.section(n)
            for n in ("text_config", "llm_config", "language_config")
            if isinstance(config.data.get(n), Mapping)
        ),
    ):
        section = place.optional_section("quantization_config", "compression_config")
        if section is not None:
            break
    if section is None and extra is not None:
        section = Config(extra, "quantization_config")
    if section is None or not section.data:
        return None
    try:
        return _read(config, section)
    except ValueError as error:
        raise section.error("ignore", str(error)) from error


def _read(config: Config, section: Config) -> Declared | None:
    method = (
        section.str("quant_method", default="").lower().replace("compressed_tensors", "compressed-tensors")
    )
    producer = section.optional_section("producer")
    by_modelopt = producer is not None and producer.str("name", default="") == "modelopt"
    if method.startswith("modelopt") or (by_modelopt and method == "" and section.has("quantization")):
        return modelopt(config, section)
    if not method:
        # Without a method or ModelOpt's producer vLLM sees no quantization (model_arch_config_convertor.py:271-290).
        return None
    reader = READERS.get(method)
    if reader is None:
        raise section.error(
            "quant_method",
            f"is {method!r}, which selfhost does not know",
            hint="Known: " + ", ".join(sorted(READERS)) + ".",
        )
    return reader(config, section)


READERS: dict[str, Callable[[Config, Config], Declared]] = {
    "fp8": fp8,
    "deepseek_v4_fp8": fp8,
    "fbgemm_fp8": fbgemm,
    "compressed-tensors": compressed_tensors,
    "awq": awq,
    "gptq": gptq,
    "auto-round": autoround,
    "intel/auto-round": autoround,
    "inc": autoround,
    "mxfp4": mxfp4,
    "bitsandbytes": bitsandbytes,
    "experts_int8": experts_int8,
    "gguf": gguf,
    "quark": quark,
}
