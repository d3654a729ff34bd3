"""Written by selfhost render. Which requests may leave: decided before LiteLLM routes one, and again when it does.

LiteLLM loads this file from beside its config.yaml; the settings are in rules.json. Three locks hold one after another:
`authenticate` lets in the key and the paths that are decided about here, and no other path; `Rules.async_pre_call_hook`
decides for each request whether it may leave, and takes away every way to say otherwise; and
`Rules.async_filter_deployments` is asked wherever a deployment is chosen, in fallbacks and retries too, and lets
only those requests out that the hook has marked. What the hook never saw stays home.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

SETTINGS: dict[str, Any] = json.loads(Path(__file__).with_name("rules.json").read_text(encoding="utf-8"))
PATHS = frozenset(
    prefix + path
    for prefix in ("", "/v1")
    for path in ("/chat/completions", "/completions", "/embeddings", "/models")
)
# What LiteLLM takes from a request to go elsewhere, or to pretend that it must (router.py, route_llm_request.py).
STEERING = (
    "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "disable_fallbacks", "max_fallbacks",
    "mock_response", "mock_tool_calls", "mock_timeout", "mock_testing_fallbacks", "mock_testing_context_fallbacks",
    "mock_testing_content_policy_fallbacks", "mock_testing_rate_limit_error", "specific_deployment", "api_base",
    "base_url", "api_key", "api_version", "model_list", "models", "deployment_id", "custom_llm_provider",
    "router_settings_override", "cache", "litellm_metadata", "guardrails", "mcp_servers",
)  # fmt: skip
NO = frozenset(("false", "0", "no"))
_LEAVES, _STAYS = secrets.token_hex(16), "stays"  # a client cannot know the first
_VERDICT = "selfhost_verdict"
_MARKED = "selfhost_marked"  # in the body as it came: LiteLLM takes odd metadata away before the hook sees it


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Let in who has the key, to the paths of PATHS alone: not to files, batches, pass-through or administration."""
    if request.url.path.rstrip("/") not in PATHS:
        raise HTTPException(status_code=404, detail="This proxy has no such path.")
    if request.url.query:  # LiteLLM takes a model from there before that of the body
        raise HTTPException(status_code=400, detail="This proxy reads nothing after a ? in the address.")
    for name in (SETTINGS["header"], SETTINGS["route_header"], "x-litellm-tags"):
        if len(request.headers.getlist(name)) > 1:  # the hook would see the last one alone
            raise HTTPException(status_code=400, detail=f"The header {name} is there more than once.")
    key = os.environ["LITELLM_MASTER_KEY"]
    given = (api_key or "").removeprefix("Bearer ")
    if not key or not hmac.compare_digest(given.encode(), key.encode()):
        raise HTTPException(status_code=401, detail="The key is missing or wrong.")
    if "form" in request.headers.get("content-type", ""):
        raise HTTPException(status_code=415, detail="This proxy reads JSON alone.")
    return UserAPIKeyAuth(
        api_key="shared",
        user_id="shared",
        metadata={_MARKED: _says_private((await request.body()).decode() or None)},
    )


def is_private(data: dict[str, Any], headers: dict[str, str]) -> bool:
    """Whether a request is marked: by the model's name, the header, metadata or a tag. A mark that is odd counts."""
    if data.get("model") == SETTINGS["private"] or _is_yes(headers.get(SETTINGS["header"])):
        return True
    return "private" in _tags(headers.get("x-litellm-tags")) or _says_private(data)


def _says_private(said: Any) -> bool:
    """Whether a body, or metadata in it, holds a mark; each of several marks counts."""
    if isinstance(said, str):  # as a form would send it, and the body as it came
        try:
            said = json.loads(said)
        except ValueError:
            return True
    if said is None:
        return False
    if not isinstance(said, dict):
        return True
    for name, value in said.items():
        low = str(name).lower()
        if low in ("private", SETTINGS["header"]) and _is_yes(value):
            return True
        if low == "tags" and "private" in _tags(value):
            return True
    return any(_says_private(said.get(name)) for name in ("metadata", "litellm_metadata", "extra_body"))


def _is_yes(mark: Any) -> bool:
    return mark is not None and str(mark).strip().lower() not in NO


def _tags(value: Any) -> list[str]:
    if isinstance(value, (list, dict)):
        return [tag for one in value for tag in _tags(one)]
    return [] if value is None else [tag.strip().lower() for tag in str(value).split(",")]


def is_simple(data: dict[str, Any]) -> bool:
    """Whether the own model is trusted with it: short, without tools, and without a word that says otherwise."""
    text = json.dumps(
        [data.get(name) for name in ("messages", "prompt", "input") if data.get(name)], ensure_ascii=False
    )
    if data.get("tools") or data.get("functions"):
        return False
    if len(text) > SETTINGS["simple_tokens"] * SETTINGS["characters_per_token"]:
        return False
    low = text.lower()
    return not any(word in low for word in SETTINGS["complex_words"])


def choose(data: dict[str, Any], headers: dict[str, str]) -> str:
    """The group of models for a request that may leave.

    Raises:
        HTTPException: it names a model that is not here.
    """
    own, away = SETTINGS["own"], SETTINGS["away"]
    if data.get("model") not in (own, away):
        raise HTTPException(
            status_code=404, detail=f"The models are {own}, {SETTINGS['private']} and {away}."
        )
    if data["model"] == away:
        return str(away)
    if SETTINGS["route_by"] == "simple":
        return str(own if is_simple(data) else away)
    if SETTINGS["route_by"] == "header":
        asked = headers.get(SETTINGS["route_header"])
        if asked is None and isinstance(data.get("metadata"), dict):
            asked = data["metadata"].get(SETTINGS["route_header"])
        return str(away if asked == "away" else own)
    return str(own)


class Rules(CustomLogger):
    """The rules, as LiteLLM asks for them."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Decide for one request, after LiteLLM has read it and before anything is sent.

        Raises:
            HTTPException: a marked request that names a model outside.
        """
        request = data.get("proxy_server_request")
        raw = request.get("headers") if isinstance(request, dict) else None
        headers = {str(name).lower(): str(value) for name, value in (raw or {}).items()}
        private = is_private(data, headers) or bool((user_api_key_dict.metadata or {}).get(_MARKED, True))
        if private and data.get("model") not in (SETTINGS["own"], SETTINGS["private"]):
            raise HTTPException(
                status_code=403, detail="The request is marked private: it goes to no model outside."
            )
        group = SETTINGS["private"] if private else choose(data, headers)
        for name in STEERING:
            data.pop(name, None)
        data["model"] = group
        if private:
            data["disable_fallbacks"] = True
        metadata = data.get("metadata")
        data["metadata"] = {
            **(metadata if isinstance(metadata, dict) else {}),
            _VERDICT: _STAYS if private else _LEAVES,
        }
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[Any]:
        """Take away every deployment outside, unless the hook has let this request out."""
        metadata = (request_kwargs or {}).get("metadata")
        if isinstance(metadata, dict) and metadata.get(_VERDICT) == _LEAVES:
            return healthy_deployments
        return [one for one in healthy_deployments if (one.get("model_info") or {}).get("selfhost") == "own"]


rules = Rules()
