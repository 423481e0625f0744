"""The search's own model: one freeze-thaw Gaussian process that proposes, pauses, resumes and names the winner.

    cube.py     Optuna's parameters <-> coordinates, distances between configurations
    curves.py   the study's trials as rows of the model: scale, shape of a curve, rungs
    gp.py       y(x, e) = f(x) + c - (g(x) + h) phi(e) + noise: fit and posterior
    fitted.py   what is kept with each trial
    pace.py     what an epoch of a configuration costs, where time ends the search
    risk.py     where trainings fail
    regressed.py  the process behind both
    model.py    what the model says: the next configuration, what trials promise
    sampler.py  the next configuration, as Optuna asks for it
    scheduler.py  whom to pause, who goes on, who won

It keeps nothing: all it knows is the study's, so a killed driver's successor goes on with the same trials. Imports
numpy, scipy and optuna; import it late.
"""

# The system attribute of a trial: [trials at the last fit, theta, the ends of ranges that are opened].
FITTED = "automl.fgp"
