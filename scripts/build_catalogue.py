"""Write selfhost/catalog/models/: the index from the model files, and a model file from a config.json.

`python scripts/build_catalogue.py` rewrites index.json, `--check` fails when it is stale, and
`--add ORG/NAME --from DIR --family F --modality M ...` writes a model file first. `--count` fills in the parameters of
models without a published figure, as the parser counts them, and drops published figures that count packed bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "selfhost" / "catalog" / "models"
INDEX = DIRECTORY / "index.json"
STATUSES = ("current", "earlier", "legacy")
# Listing order of the makers' current lines: where the newest one's month is not published this is what puts
# it first. A current family that is missing here comes after these, newest first.
CURRENT_FAMILIES = (
    "Qwen3.8", "Kimi K3", "DeepSeek-V4.1", "GLM-5.3", "MiniMax-M3", "Qwen3.6", "Nemotron 3.5", "Kimi K2.7", "GLM-5.2",
    "DeepSeek-V4", "Gemma 4", "Kimi K2.6", "MiniMax-M2", "Qwen3.5", "Nemotron 3", "Mistral Small", "gpt-oss",
    "Laguna", "Muse", "EXAONE 4.5", "Qwen3-Coder-Next", "Qwen3-Next", "Qwen3-VL", "Qwen3-Coder", "Qwen3", "Llama 4",
    "DeepSeek-V3.2", "Ministral 3", "MiMo-V2", "Granite 4", "Seed-OSS", "Phi-4",
)  # fmt: skip
FACTS = (
    "id", "family", "status", "released", "parameters", "licence", "modality", "source", "via", "checked", "aliases",
)  # fmt: skip

# Fields that say nothing about what is held in memory: token ids, training and generation settings.
DROPPED = re.compile(
    r".*_token_ids?|.*_token_index|bad_words_ids|suppress_tokens|begin_suppress_tokens|initializer_.*|.*_dropout"
    r"|dropout|.*_dropout_prob|.*_pdrop|.*dropout_fusion|use_cache|_name_or_path|task_specific_params|summary_.*"
    r"|temperature|top_k|top_p|typical_p|num_beams|num_beam_groups|diversity_penalty|length_penalty"
    r"|repetition_penalty|no_repeat_ngram_size|encoder_no_repeat_ngram_size|num_return_sequences|do_sample"
    r"|early_stopping|exponential_decay_length_penalty|max_length|min_length|remove_invalid_values"
    r"|return_dict|return_dict_in_generate|output_attentions|output_hidden_states|output_scores|prefix"
    r"|finetuning_task|tf_legacy_loss|torchscript|use_bfloat16|tokenizer_class|tokenizer_name|init_config|init_device"
    r"|init_std|router_aux_loss_coef|output_router_logits|time_step_(limit|min|max|floor|scale|init_scheme)"
    r"|gradient_clipping|image_grid_pinpoints|transformers\.js_config|.*_placeholder|_attn_implementation.*|base_model_.*_plan|pruned_heads"
    r"|chunk_size_feed_forward|problem_type|is_decoder|cross_attention_hidden_size|tie_encoder_decoder"
    r"|supported_aspect_ratios|pretraining_tp"
)
EXPERT = re.compile(r"(.*\.experts)\.\d+\..*")


def compact(value: Mapping[str, object]) -> dict[str, object]:
    """A configuration without the fields of DROPPED, at every level except inside quantization."""
    kept: dict[str, object] = {}
    for key, item in value.items():
        if key in ("quantization_config", "compression_config") and isinstance(item, Mapping):
            kept[key] = compact_quantization(item)
        elif DROPPED.fullmatch(key):
            continue
        else:
            kept[key] = compact(item) if isinstance(item, Mapping) else item
    return kept


def compact_quantization(value: Mapping[str, object]) -> dict[str, object]:
    """A quantization description with one entry for a layer's experts where all of them are alike.

    vLLM looks a fused expert layer up by `<...>.experts` first, which is how newer checkpoints write it
    (vllm 0.32.0, model_executor/layers/quantization/modelopt.py, _resolve_quant_algo).
    """
    kept = dict(value)
    for key, item in value.items():
        if key == "quantization" and isinstance(item, Mapping):
            kept[key] = compact_quantization(item)
        if key == "quantized_layers" and isinstance(item, Mapping):
            kept[key] = _compact_layers(item)
    return kept


def _compact_layers(layers: Mapping[str, object]) -> dict[str, object]:
    seen: dict[str, list[object]] = {}
    for name, recipe in layers.items():
        match = EXPERT.fullmatch(name)
        if match:
            seen.setdefault(match[1], []).append(recipe)
    alike = {prefix for prefix, recipes in seen.items() if all(recipe == recipes[0] for recipe in recipes)}
    kept: dict[str, object] = {}
    for name, recipe in layers.items():
        match = EXPERT.fullmatch(name)
        kept.setdefault(match[1] if match and match[1] in alike else name, recipe)
    return kept


def model_text(facts: Mapping[str, object]) -> str:
    """One model file: a line per fact, the configuration minified."""
    lines = (f"{json.dumps(key)}: {_dumps(value)}" for key, value in facts.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def index_text() -> str:
    """index.json, from the model files."""
    rows: list[dict[str, object]] = []
    for path in sorted(DIRECTORY.glob("*--*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if path.name != facts["id"].lower().replace("/", "--") + ".json":
            raise SystemExit(f"{path.name} holds {facts['id']}")
        rows.append({key: facts[key] for key in FACTS})
    rows.sort(key=_listing_order)
    body = ",\n".join(_dumps(row) for row in rows)
    return '{\n"schema": "selfhost.models/1",\n"models": [\n' + body + "\n]\n}\n"


def _listing_order(row: Mapping[str, object]) -> tuple[int, int, int, str]:
    """Current ones first, families in the order of CURRENT_FAMILIES, then the newest."""
    family, status, released = str(row["family"]), str(row["status"]), row["released"]
    known = status == "current" and family in CURRENT_FAMILIES
    rank = CURRENT_FAMILIES.index(family) if known else len(CURRENT_FAMILIES)
    months = 0 if known or not released else int(str(released).replace("-", ""))
    return STATUSES.index(status), rank, -months, str(row["id"]).lower()


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def add(arguments: argparse.Namespace) -> None:
    """Write one model file from a directory that holds its config.json."""
    directory = Path(arguments.directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    quantization_path = directory / "hf_quant_config.json"
    quantization = None
    if quantization_path.is_file():
        stated = compact_quantization(json.loads(quantization_path.read_text(encoding="utf-8")))
        # vLLM reads config.json's quantization_config; the other file only where that lacks the layer map
        # (vllm 0.32.0, model_executor/model_loader/weight_utils.py, get_quant_config).
        inline = config.get("quantization_config")
        if inline is None or ("quantized_layers" in json.dumps(stated) and "quantized_layers" not in inline):
            quantization = stated
    facts: dict[str, object] = {
        "id": arguments.add,
        "family": arguments.family,
        "status": arguments.status,
        "released": arguments.released,
        "parameters": arguments.parameters,
        "parameters_from": "published" if arguments.parameters else None,
        "licence": arguments.licence,
        "modality": arguments.modality,
        "source": f"https://huggingface.co/{arguments.add}/blob/main/config.json",
        "via": arguments.via,
        "checked": arguments.checked,
        "aliases": arguments.alias,
        "pooling": arguments.pooling,
        "config": compact(config),
        "quantization": quantization,
    }
    text = model_text(facts)
    path = DIRECTORY / (arguments.add.lower().replace("/", "--") + ".json")
    path.write_text(text, encoding="utf-8")


def count() -> None:
    """Fill in parameters from the parser.

    A published figure is what the Hub adds up from the tensors' shapes; where two weights share a byte, or buffers are
    stored too, it is more than 2 % from the number of parameters and gives way.
    """
    from selfhost.catalog.models import load
    from selfhost.errors import ConfigError
    from selfhost.model.parse import parse_model
    from selfhost.model.raw import RawModel

    for path in sorted(DIRECTORY.glob("*--*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        bundled = load(facts["id"])
        raw = RawModel(
            reference=bundled.id,
            id=bundled.id,
            revision=None,
            origin="catalogue",
            source=facts["source"],
            config=bundled.config,
            quantization=bundled.quantization,
            pooling=bundled.pooling,
        )
        try:
            counted = parse_model(raw).parameters
        except ConfigError as error:
            print(f"{bundled.id}: {error}", file=sys.stderr)
            continue
        published = facts["parameters"] if facts["parameters_from"] == "published" else None
        if published is None or abs(published / counted - 1) > 0.02:
            if published:
                print(f"{bundled.id}: published {published:,}, counted {counted:,}", file=sys.stderr)
            facts |= {"parameters": counted, "parameters_from": "configuration"}
            path.write_text(model_text(facts), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail when index.json is stale")
    parser.add_argument("--add", metavar="ORG/NAME", help="write a model file, then the index")
    parser.add_argument(
        "--from", dest="directory", help="directory with config.json and hf_quant_config.json"
    )
    parser.add_argument("--family")
    parser.add_argument("--status", choices=STATUSES, default="current")
    parser.add_argument("--released", metavar="YYYY-MM")
    parser.add_argument("--parameters", type=int)
    parser.add_argument("--licence")
    parser.add_argument("--modality", default="text")
    parser.add_argument("--checked", metavar="YYYY-MM-DD")
    parser.add_argument("--via", help="where the configuration was read if not at its own page")
    parser.add_argument("--alias", action="append", default=[], metavar="ORG/NAME")
    parser.add_argument("--pooling", action="store_true")
    parser.add_argument("--count", action="store_true", help="fill in parameters that nobody published")
    arguments = parser.parse_args(argv)
    if arguments.add:
        add(arguments)
    if arguments.count:
        count()
    text = index_text()
    if arguments.check:
        if not INDEX.is_file() or INDEX.read_text(encoding="utf-8") != text:
            print("index.json is stale: run python scripts/build_catalogue.py", file=sys.stderr)
            return 1
        return 0
    INDEX.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
