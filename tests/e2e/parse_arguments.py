"""Let vLLM's own parser judge `vllm serve` arguments; runs in the environment that vLLM is installed in.

Reads a JSON object {"flags": [...], "vectors": [[...], ...]} and writes {"unknown": [...], "refused": [...]}.
"""

from __future__ import annotations

import argparse
import json
import sys


def main() -> None:
    """Answer on the last line of stdout; vLLM prints to it as well."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    asked = json.load(sys.stdin)
    parser = make_arg_parser(FlexibleArgumentParser())
    known = {option for action in parser._actions for option in action.option_strings}
    refused: list[list[str]] = []
    for vector in asked["vectors"]:
        try:
            parser.parse_args(vector)
        except (SystemExit, ValueError, argparse.ArgumentError):
            refused.append(vector)
    sys.stdout.write(json.dumps({"unknown": sorted(set(asked["flags"]) - known), "refused": refused}) + "\n")


if __name__ == "__main__":
    main()
