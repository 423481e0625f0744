"""From a train schema to a search space, in steps that compiler.py calls in order. One parameter through all of them:

>>> node = {"type": "number", "exclusiveMinimum": 0, "maximum": 0.01, "default": 0.0002, "automl_enabled": True}
>>> document = {"properties": {"train": {"properties": {"optim": {"properties": {"lr": node}}}}}}

A leaf: what its schema says of it, and the validator of its values (schema.py, dialect.py, leaf.py).

>>> leaf = Schema(document).leaf("train.optim.lr")
>>> leaf.kind, str(leaf.domain), leaf.problem(5)
('float', 'a number in (0, 0.01]', 'must be a number in (0, 0.01], but got 5')

Asked, chosen and shaped: 0.0002 is where it starts; it is flagged, and always matters; it may be any number of its
domain, which no relation to another narrows (requests.py, choose.py, names.py, shapes.py, relations.py).

>>> asked = ask(Schema(document), {}, {}, {}, "tao")
>>> asked.value(leaf.name), choose(asked)[0], str(shape(asked, leaf, [leaf.name], related=False))
(0.0002, {'train.optim.lr': ()}, 'a number in (0, 0.01]')

Ranged: its name says what it is, and so where to look and on which scale (ranges.py, scale.py).

>>> search_range(leaf.name, leaf.domain, 0.0002)
Range(low=2e-05, high=0.002, scale='log', why='a learning rate: log, 10 times either way', grid=(), moves=False)

Built: a parameter on an axis, in the middle of which the default lies, and as Optuna sees it (parameter.py, space.py).

>>> space = compile_space(document)
>>> space.parameters[0].axes[0].kind, round(space.encode(space.default)[0], 9), space.distributions[leaf.name]
('real', 0.5, FloatDistribution(high=0.002, log=True, low=2e-05, step=None))
"""

from automl.space.compiler import compile_space
from automl.space.parameter import Parameter
from automl.space.schema import load_schema, problems
from automl.space.space import SearchSpace, to_record

__all__ = ["Parameter", "SearchSpace", "compile_space", "load_schema", "problems", "to_record"]
