"""YAML and JSON from anywhere, read into plain values, for engine and model alike.

Scalars are read as OmegaConf reads them, and so NVIDIA TAO: `1e-4` is a number, `off` a boolean, a date is text; but
`010` and `1:30`, which YAML 1.1 takes for 8 and 90, stay text. Refused are duplicate keys, keys that are not text, tags
beyond the plain ones, numbers beyond 64 bits, a second document, and whatever would grow without bound: files of over
MAX_BYTES, nesting deeper than MAX_DEPTH, more than MAX_VALUES values, those that aliases repeat counted each time.
An alias is a copy, so nothing read here refers to itself or shares its parts.
"""

from safe_documents.interpolation import IN_A_SECRET, UNSAID, interpolated, refers, unsaid
from safe_documents.json_reading import read_json
from safe_documents.limits import MAX_BYTES, MAX_DEPTH, MAX_VALUES, DocumentError
from safe_documents.texts import map_texts, no_text, placed
from safe_documents.yaml_reading import read_yaml
from safe_documents.yaml_writing import dump_yaml

__all__ = [
    "IN_A_SECRET",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_VALUES",
    "UNSAID",
    "DocumentError",
    "dump_yaml",
    "interpolated",
    "map_texts",
    "no_text",
    "placed",
    "read_json",
    "read_yaml",
    "refers",
    "unsaid",
]
