"""From a train schema to a search space. Read in this order: schema, conditions, scale, relations, compiler, space."""

from automl.space.schema import load_schema
from automl.space.space import Parameter, SearchSpace, compile_space, to_record

__all__ = ["Parameter", "SearchSpace", "compile_space", "load_schema", "to_record"]
