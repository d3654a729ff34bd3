"""The smoke test: does a deployed engine do what it is for? Health, models, an answer, a stream, the key, tools.

Whatever carries HTTP will do: a port that is forwarded through the API server, or the address of one box.
"""

from selfhost.deploy.smoke.run import TIMEOUT_SECONDS, smoke
from selfhost.deploy.smoke.types import ApiKey, Check, Smoke, Verdict

__all__ = ["TIMEOUT_SECONDS", "ApiKey", "Check", "Smoke", "Verdict", "smoke"]
