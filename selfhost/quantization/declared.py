"""placeholder"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from selfhost.model.config import Config
from selfhost.quantization.schemes import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    method: str
    main: Scheme | None
    kv_dtype: str | None

    def scheme_for(self, block: object, item: object) -> Scheme | None:
        return None


def read_declared(config: Config, extra: Mapping[str, object] | None) -> Declared | None:
    return None
