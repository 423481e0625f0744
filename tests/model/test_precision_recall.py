"""The page of precision over recall: its curves and scores against counting by hand."""

from __future__ import annotations

import re

import numpy as np

from model.coco_evaluation import Boxes, Evaluation, evaluate
from model.precision_recall import page, reached


def evaluation() -> Evaluation:
    """Class 0: four objects, of which detections find three, with one on the background between; class 1: nothing."""
    places = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10], [60, 0, 10, 10]], float)
    found = np.array([[0, 0, 10, 10], [20, 0, 10, 10], [80, 80, 10, 10], [40, 0, 10, 10]], float)
    zeros = np.zeros(4, int)
    truth = Boxes(zeros, zeros, places)
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    return evaluate(truth, np.full(4, 100.0), np.zeros(4, bool), Boxes(zeros, zeros, found), scores, 2)


def test_scores_are_those_down_to_which_detections_must_count() -> None:
    scores = reached(evaluation(), 0)
    assert scores[[0, 25, 26, 50, 51, 75]].tolist() == [0.9, 0.9, 0.8, 0.8, 0.6, 0.6]
    assert np.isnan(scores[76:]).all()


def test_the_page_names_classes_and_is_small() -> None:
    text = page(evaluation(), ["red <cell>", "none"])
    assert "red &lt;cell&gt;: recall 0.50, precision 1.000 at a score of 0.800" in text
    assert "recall 0.70, precision 0.750 at a score of 0.600" in text
    rows = re.findall(r"<tr><td>.*?</i>(.*?)</td><td>(\d+)</td><td>(.*?)</td></tr>", text)
    assert rows[1] == ("none", "0", "–")
    assert rows[0][:2] == ("red &lt;cell&gt;", "4")
    assert not re.search(r"<script|https?://", text)
    assert len(text) < 20_000
