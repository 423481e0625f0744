"""Does the same seed give the same trials in another process? Prints a digest of every configuration and curve.

for n in 1 2 3; do PYTHONHASHSEED=$n OMP_NUM_THREADS=$n python -m studies.search.same; done
"""

from __future__ import annotations

import hashlib

import optuna

from studies.search.objectives import Detector
from studies.search.run import Played


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = Played("fgp", Detector(200), workers=1, trainings=15, seed=200).study
    text = repr([(t.params, t.state.name, t.intermediate_values) for t in found.trials()])
    print(len(found.trials()), found.best().number, hashlib.sha256(text.encode()).hexdigest()[:16])


if __name__ == "__main__":
    main()
