"""Plain values as YAML that `read_yaml` reads back as they were."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from safe_documents.scalars import FLOAT, INTEGER, PLAIN


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which knows YAML 1.1's numbers, told of ours too: text that looks like one is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Breaks that only YAML takes for such are read as spaces or newlines unless they are escaped."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if BREAKS.search(text) else None)


BREAKS = re.compile("[\x85\u2028\u2029]")
_Dumper.add_representer(str, _text)
for _kind, _pattern in (("float", FLOAT), ("int", INTEGER)):
    _Dumper.add_implicit_resolver(
        PLAIN + _kind, re.compile(f"(?:{_pattern.pattern})$"), list("-+.0123456789")
    )


def dump_yaml(document: Any) -> str:
    """`document`, of mappings, lists, text, numbers, booleans and None, as YAML in its own order. A text stands as it
    is and in one line where YAML allows it, for readers that know less of YAML: awk, sed, a shell."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf))
