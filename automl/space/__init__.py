"""From a train schema to a search space. One parameter through all of it, with the file of each step:

    node    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.01, "default": 0.0002, "automl_enabled": true}
            at train.optim.lr                                                              schema.py
    leaf    kind float, domain (0, 0.01]; leaf.problem(5) says "must be a number in        reader.py, leaf.py,
            (0, 0.01], but got 5"                                                          domain.py
    chosen  flagged, and able to matter whatever the optimizer                             choose.py
    draft   any number of (0, 0.01], 0.0002 to start from; no relation to another          drafts.py
    range   [2e-05, 0.002], log: "a learning rate: log, 10 times either way"               ranges.py
    axis    real, 2e-05 to 0.002, log; 0.0002 lies at 0.5 of it                            axes.py
    Optuna  suggest_float("train.optim.lr", 2e-05, 0.002, log=True), by `space.suggest`    space.py

What a name tells (role, when it matters, what it must fit) stands in names.py, relations between parameters are made
to hold in relations.py, what a person asks for is read in tuning.py, and compiler.py calls the steps in order.
"""

from automl.space.compiler import compile_space
from automl.space.parameter import Parameter
from automl.space.schema import load_schema, problems
from automl.space.space import SearchSpace, to_record

__all__ = ["Parameter", "SearchSpace", "compile_space", "load_schema", "problems", "to_record"]
