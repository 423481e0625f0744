"""From a train schema to a search space: a schema's leaves (schema.py) are compiled (compiler.py) into a SearchSpace
(space.py) of parameters whose codecs (codecs.py) write values on axes (axes.py)."""

from automl.space.compiler import compile_space
from automl.space.parameter import Parameter
from automl.space.schema import load_schema
from automl.space.space import SearchSpace, to_record

__all__ = ["Parameter", "SearchSpace", "compile_space", "load_schema", "to_record"]
