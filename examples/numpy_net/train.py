"""A trainer that `automl run --model examples/numpy_net` can tune: a spec in; a line an epoch and checkpoints out."""

import json
import os
import sys

import numpy as np
import yaml

spec = yaml.safe_load(open(sys.argv[1]))
folder, train = os.environ["AUTOML_TRIAL_DIR"], spec["train"]
draw = np.random.default_rng(spec["seed"])
x = draw.uniform(-2, 2, (400, 2))
y = np.sin(3 * x[:, :1]) * x[:, 1:] + draw.normal(0, 0.1, (400, 1))  # 300 rows to learn from, 100 to score
width, rate = spec["model"]["width"], float(train["lr"])
net = [draw.normal(0, 1, (2, width)), np.zeros(width), draw.normal(0, width**-0.5, (width, 1)), np.zeros(1)]
speed, first = [np.zeros_like(w) for w in net], 0
if spec["resume"]:  # go on after the checkpoint's epoch
    try:
        saved = dict(np.load(spec["resume"]))  # all of it is read
    except Exception as error:  # out of the way: started once more, it goes on from the one before
        os.rename(spec["resume"], spec["resume"] + ".damaged")
        sys.exit(f"{spec['resume']} is damaged ({error}); it is called .damaged now")
    net, speed = ([saved[f"{kind}{i}"] for i in range(4)] for kind in "wv")
    first = int(saved["epoch"]) + 1
for epoch in range(first, spec["epochs"]):
    for rows in np.random.default_rng([spec["seed"], epoch]).permutation(300).reshape(-1, train["batch"]):
        hidden = np.tanh(x[rows] @ net[0] + net[1])
        error = (hidden @ net[2] + net[3] - y[rows]) / len(rows)
        back = error @ net[2].T * (1 - hidden**2)
        slopes = [x[rows].T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
        for weight, move, slope in zip(net, speed, slopes, strict=True):
            move += train["momentum"] * move - move - rate * slope
            weight += move
    loss = np.mean((np.tanh(x[300:] @ net[0] + net[1]) @ net[2] + net[3] - y[300:]) ** 2)
    name = f"epoch_{epoch}.npz"
    arrays = {f"{kind}{i}": a for kind, group in (("w", net), ("v", speed)) for i, a in enumerate(group)}
    np.savez(os.path.join(folder, name), epoch=epoch, **arrays)
    with open(os.path.join(folder, "metrics.jsonl"), "a") as file:  # after the checkpoint it names
        value = float(loss) if np.isfinite(loss) else None
        file.write(json.dumps({"epoch": epoch, "val_loss": value, "checkpoint": name}) + "\n")
