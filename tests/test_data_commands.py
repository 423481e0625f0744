"""`automl plan --json` and `automl data`, as a person types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from automl import cli
from tests.model.data.test_check import edit

SMALL = ["--preset", "small", "--set", "dataset.batch_size=2"]


def run(*words: str) -> int:
    return cli.guarded(lambda: cli.app(list(words), standalone_mode=False))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))


def plan_of(data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert run("plan", "--json", "--data", str(data), *SMALL, *more) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_whole_plan_as_json(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(demo, capsys, "--trials", "7", "--show", "3")
    assert plan["data"]["layout"] == "COCO by split, 3 splits"
    assert [plan["data"][s]["images"] for s in ("train", "val", "test")] == [12, 4, 4]
    document = json.loads((demo / "train/annotations.json").read_text())
    assert plan["data"]["train"]["boxes"] == len(document["annotations"])
    assert [c["name"] for c in plan["data"]["classes"]] == [c["name"] for c in document["categories"]]
    assert plan["filled"]["dataset.val_data_sources"][0]["json_file"] == str(demo / "val/annotations.json")
    assert plan["budget"]["trials"] == 7
    assert len(plan["configurations"]) == 3
    assert {p["name"] for p in plan["space"]["parameters"]} == set(plan["configurations"][0])
    assert plan["spec"]["dataset"]["num_classes"] == 4


def test_a_plan_without_a_search_has_no_space(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(demo, capsys, "--automl-policy", "off")
    assert (plan["searching"], plan["space"], plan["configurations"]) == (False, None, [])


def test_the_plan_names_the_layout_and_the_page(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "--data", str(demo), *SMALL, "--automl-policy", "off") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "data: COCO by split, 3 splits" in out
    assert f"automl data {demo}" in out


def test_the_page_about_a_dataset(demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", str(demo), *SMALL, "--out", str(tmp_path / "page.html")) == 0
    assert "COCO by split, 3 splits" in (tmp_path / "page.html").read_text()
    assert run("data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "none.html")) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "none.html").exists()


def test_the_page_and_the_plan_tell_of_the_training_that_the_same_words_run(
    own_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU gets these images in 128 px, and objects of 3 px of 64 in 6; the template says 800."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def shrink(document: dict[str, Any]) -> None:
        for box in document["annotations"]:
            box["bbox"][2:] = [3, 3]

    edit(own_demo, "train", shrink)
    words = [str(own_demo), "--start", "scratch", "--time", "9h"]
    assert run("data", *words, "--out", str(tmp_path / "page.html")) == 0
    small = re.search(r"note: train: (\d+) objects \(100 %\) smaller than 8 px", capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text()
    assert small
    assert re.search(rf">0 to 8</text>.*?>{small[1]}</text>", page)
    assert run("plan", "--data", *words, "--trials", "2") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "smaller than 8 px at the training size, and hardly seen" in out
    assert re.search(r"automl data \S+ --model deformable_detr --set train.start=scratch --time 9h", out)


CONTRADICTIONS = {
    "dataset.num_classes=3": "must be above the largest category id 3, but got 3; .* at least 4",
    "dataset.eval_class_ids=[1,2,9]": r"dataset.eval_class_ids: \[9\] are no categories of the data",
    "dataset.eval_class_ids=[1]": r"no box of dataset.eval_class_ids \[1\] to validate with",
    "train.freeze=[foo]": "train.freeze: no module 'foo'; the detector has backbone,",
    "model.backbone_names=[foo]": "model.backbone_names: no parameter's name contains 'foo'",
    "model.dilation=true": "model.dilation needs resnet_50",
    "train.resume_training_checkpoint_path=none.pth": "train.resume_training_checkpoint_path: none.pth must be a checkpoint",
    "train.precision=fp16": "train.precision fp16 needs a GPU",
    "train.accelerator=gpu": "train.accelerator is gpu, but torch finds no CUDA device",
}


@pytest.mark.parametrize("given", CONTRADICTIONS)
def test_what_contradicts_data_network_or_machine_is_refused_before_anything_is_written(
    given: str,
    own_demo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    edit(
        own_demo,
        "val",
        lambda d: d.update(annotations=[a for a in d["annotations"] if a["category_id"] != 1]),
    )
    words = ["--data", str(own_demo), *SMALL, "--set", given, "--start", "scratch", "--trials", "2"]
    for more in (["plan"], ["run", "--results-dir", str(tmp_path / "run")]):
        assert run(*more, *words) == 2
        assert re.search(CONTRADICTIONS[given], capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
