"""Settings that fit: whatever data and machine are like they can be trained with, each has its reason, and what a person
set stays."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.plan import prepare
from automl.request import RunRequest
from model import settings as fitting
from model import wandb_runs
from model.data import shared_memory
from model.errors import UserError
from model.facts import estimate
from model.parameters import of_action
from model.spec import default_spec, get, notes, put, resolve
from tests.model.fitted import given_by

NAMES = [p.name for p in of_action("train")]
MACHINES = st.fixed_dictionaries(
    {
        "gpus": st.sampled_from([0, 0.25, 1, 2]),
        "cpus": st.sampled_from([0.5, 1, 2, 16, 96]),
        "time_s": st.none() | st.floats(1, 1e6),
        "searching": st.booleans(),
        "here": st.just(False),
    }
)
FACTS = st.builds(
    lambda images, height, width, alike, box, part: {
        "train": {"images": images},
        "sizes": {
            "text": "", "usual": [height, width], "alike": alike, "short_px": float(min(height, width)),
            "small_box": box, "box": box, "small_boxes": [{"id": 1, "name": "one", "share": box * part}],
        },
    },
    st.integers(1, 10**6), st.integers(16, 9000), st.integers(16, 9000), st.floats(0.01, 1), st.floats(1e-4, 1),
    st.floats(0.1, 1),
)  # fmt: skip


def base(**leaves: Any) -> dict[str, Any]:
    spec = default_spec("train")
    put(spec, "train.start", "scratch")
    for name, value in leaves.items():
        put(spec, name.replace("__", "."), value)
    return spec


def settled(spec: dict[str, Any], fill: dict[str, Any]) -> dict[str, Any]:
    full = copy.deepcopy(spec)
    for name, value in fill.items():
        put(full, name, value)
    return full


@settings(max_examples=150, deadline=None)
@given(FACTS, MACHINES, st.sets(st.sampled_from(NAMES), max_size=8))
def test_whatever_is_settled_can_be_trained_and_is_nobody_s_own(
    facts: dict[str, Any], machine: dict[str, Any], own: set[str]
) -> None:
    spec = base()
    found = fitting.fit(spec, facts, machine, dict.fromkeys(own, "--set"))
    assert not own & set(found["fill"])
    assert set(found["reasons"]) <= set(found["fill"])
    if not own:
        full = resolve("train", settled(spec, found["fill"]))
        augmentation = full["dataset"]["augmentation"]
        assert max(augmentation["scales"]) == augmentation["test_random_resize"] <= 800
        assert full["train"]["patience"] <= full["train"]["num_epochs"] == max(6, full["train"]["num_epochs"])
        assert full["train"]["optim"]["lr_steps"][0] <= full["train"]["num_epochs"]


@given(FACTS, st.booleans())
def test_smaller_boxes_never_get_smaller_images(facts: dict[str, Any], gpu: bool) -> None:
    sizes = facts["sizes"]
    (one,) = sizes["small_boxes"]
    for smaller in (
        {"small_box": sizes["small_box"] / 2},
        {"small_boxes": [one | {"share": one["share"] / 2}]},
    ):
        assert fitting.short_side_px(sizes | smaller, gpu)[0] >= fitting.short_side_px(sizes, gpu)[0]


def sizes_of(**shares: float) -> dict[str, Any]:
    """Of images of 640x480 px whose boxes are large but for a class or two."""
    rows = [{"id": n, "name": name, "share": share} for n, (name, share) in enumerate(shares.items(), 1)]
    plain = {"text": "", "usual": [480, 640], "alike": 1.0, "short_px": 480.0, "small_box": 0.3, "box": 0.4}
    return plain | {"small_boxes": rows}


@pytest.mark.parametrize(
    ("gpu", "tiny", "short", "told"),
    [
        (False, 0.3, 128, "makes the small boxes 38 px wide; they have 144 as stored"),
        (False, 0.05, 320, "; those of tiny 16 px, 24 as stored"),
        (False, 0.02, 480, "; those of tiny 10 px, 10 as stored"),  # as stored, and no larger
        (True, 0.02, 800, "; those of tiny 16 px, 10 as stored"),
    ],
)
def test_a_class_of_small_boxes_is_seen_however_many_large_ones_there_are(
    gpu: bool, tiny: float, short: int, told: str
) -> None:
    sizes = sizes_of(big=0.32, tiny=tiny)
    found, why = fitting.short_side_px(sizes, gpu)
    assert (found, why[-len(told) :]) == (short, told)
    assert fitting.short_side_px(sizes, gpu, [1])[0] == (320 if gpu else 128)  # the class is not scored
    earlier = {name: value for name, value in sizes.items() if name != "small_boxes"}
    assert fitting.short_side_px(earlier, gpu)[0] == fitting.short_side_px(sizes_of(), gpu)[0]


def test_of_classes_that_are_hardly_seen_at_the_settled_size_it_is_told() -> None:
    facts = {"train": {"images": 100}, "sizes": sizes_of(big=0.32, tiny=0.008)}

    def told(**leaves: Any) -> list[str]:
        spec = base(**({"dataset__eval_class_ids": [1, 2]} | leaves))
        return [w for w in fitting.fit(spec, facts, {}, given_by(spec))["warnings"] if "hardly seen" in w]

    (line,) = told()
    assert "smaller than 8 px at the training size, and hardly seen: tiny (4 px)" in line
    assert "hardly seen: tiny (0 px), big (3 px);" in told(train__input_height=10, train__input_width=13)[0]
    assert not told(train__input_height=1200, train__input_width=1600)
    assert not told(dataset__eval_class_ids=[1])
    facts["sizes"] |= {"usual": [12, 240], "alike": 0.1}  # two odd images, and no others of one size
    assert told() == [line]


def test_fewer_images_get_more_epochs_and_a_better_start_fewer() -> None:
    def epochs(images: int, start: str = "scratch") -> int:
        chosen = fitting.Chosen(base(), frozenset())
        return fitting._epochs(chosen, {"train": {"images": images}}, fitting.Machine(), start)[0]

    counts = [epochs(n) for n in (20, 200, 2000, 20000)]
    assert counts == sorted(counts, reverse=True)
    assert epochs(500, "coco") < epochs(500, "imagenet") < epochs(500)


def test_a_short_time_makes_trainings_shorter_and_a_plain_one_longer_than_a_search_s() -> None:
    facts = {"train": {"images": 500}}

    def epochs(**machine: Any) -> int:
        return fitting._epochs(
            fitting.Chosen(base(), frozenset()), facts, fitting.Machine(**machine), "scratch"
        )[0]

    time_s = 40 * float(estimate(base(), facts, 0, 1)["epoch_s"])  # of forty epochs
    assert (
        epochs(time_s=time_s)
        < epochs(time_s=time_s, searching=False)
        < epochs(time_s=99 * time_s)
        == epochs()
    )
    assert epochs(time_s=1.0) == fitting.HURRIED_EPOCHS


def test_a_training_on_fewer_cores_takes_longer() -> None:
    facts = {"train": {"images": 500}}
    one, four = (estimate(base(), facts, 0, cpus) for cpus in (1, 4))
    assert one["epoch_s"] > 3 * four["epoch_s"]
    assert "1 CPU core speed" in one["basis"]
    assert estimate(base(), facts, 1, 1)["epoch_s"] == estimate(base(), facts, 1, 4)["epoch_s"]


SMI = "#!/bin/sh\necho '{}'\n"


@pytest.mark.parametrize(
    ("answer", "precision", "batch", "checkpointing"),
    [
        ("9.0, 81559", "bf16", 4, False),
        ("8.6, 8192", "bf16", 4, True),
        ("7.5, 15360", "fp32", 4, True),
        ("6.1, 4096", "fp32", 1, True),
        ("no devices were found", "fp32", 4, True),
        ("[N/A], [N/A]", "fp32", 4, True),
    ],
)
def test_the_gpu_decides_on_numbers_and_batch(
    answer: str,
    precision: str,
    batch: int,
    checkpointing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(answer))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    sizes = {"usual": [480, 640], "alike": 0.2, "short_px": 480.0, "small_box": 0.02, "box": 0.1, "text": ""}
    fill = fitting.fit(base(), {"train": {"images": 100}, "sizes": sizes}, {"gpus": 1, "cpus": 8}, {})["fill"]
    full = settled(base(), fill)
    assert full["dataset"]["augmentation"]["test_random_resize"] == 800
    assert full["train"]["precision"] == precision
    assert full["dataset"]["batch_size"] == batch
    assert full["train"]["activation_checkpoint"] == checkpointing


@pytest.mark.parametrize(
    ("told", "native"),
    [
        ("flags : fpu avx512_bf16 avx512f", True),
        ("flags : amx_bf16", True),
        ("Features : fp i8mm bf16 dgh", True),
        ("flags : fpu avx2 avx512f avx512_fp16 bf16ish", False),
        (None, False),
    ],
)
def test_a_cpu_that_computes_in_bf16_trains_in_it(
    told: str | None, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told)
    found = fitting.cpu_computes_in_bf16(tmp_path / "cpuinfo")
    assert found is native
    monkeypatch.setattr(fitting, "cpu_computes_in_bf16", lambda: found)

    def precision(sources: dict[str, str], **machine: Any) -> Any:
        facts = {"train": {"images": 100}}
        filled = fitting.fit(base(), facts, {"gpus": 0, "cpus": 2} | machine, sources)
        return get(settled(base(), filled["fill"]), "train.precision")

    assert precision({}) == ("bf16" if native else "fp32")
    assert precision({"train.precision": "--set"}) == "fp32"  # a person's own
    assert precision({}, here=False) == "fp32"  # trained on machines that are not asked


def test_one_image_that_was_given_a_size_leaves_the_others_alone() -> None:
    facts = {
        "train": {"images": 9},
        "sizes": {"usual": [9, 9], "alike": 1.0, "short_px": 9.0, "small_box": 0.5},
    }
    spec = base(train__input_height=64, train__input_width=64)
    fill = fitting.fit(spec, facts, {}, given_by(spec))["fill"]
    assert not [name for name in fill if "augmentation" in name or "input" in name]


def test_a_cpu_that_is_short_of_time_takes_the_small_network() -> None:
    facts = {"train": {"images": 200}, "val": {"images": 40}}
    found = fitting.fit(base(), facts, {"time_s": 1200.0}, {})
    assert found["fill"]["model.backbone"] == "resnet_18"
    assert "--time" in found["reasons"]["model.backbone"]
    for other in ({"time_s": None}, {"time_s": 1200.0, "gpus": 1, "here": False}):
        assert "model.backbone" not in fitting.fit(base(), facts, other, {})["fill"]
    own = fitting.fit(
        base(model__backbone="resnet_50"), facts, {"time_s": 1200.0}, {"model.backbone": "--set"}
    )
    assert "model.enc_layers" not in own["fill"]


NVIDIA = """
dataset: {num_classes: 4, batch_size: 4, workers: 8}
model:
  backbone: resnet_18
  train_backbone: true
  num_feature_levels: 4
  dec_layers: 6
  enc_layers: 6
  num_queries: 300
  with_box_refine: true
  dropout_ratio: 0.3
train:
  num_epochs: 10
  optim: {lr: 0.0002, lr_backbone: 0.00002, lr_steps: [8], momentum: 0.9}
"""


def test_a_dry_run_is_no_trial(own_demo: Path, tmp_path: Path) -> None:
    """Every one failed, for it tells no metric."""
    for policy in ("on", "off"):
        asked = RunRequest(data=str(own_demo), sets=("train.is_dry_run=true",), policy=policy)
        with pytest.raises(UserError, match=r"is_dry_run must be false in a run.*deformable_detr train"):
            prepare(asked, tmp_path / "w")


def test_a_file_that_describes_its_network_is_trained_as_it_is(own_demo: Path, tmp_path: Path) -> None:
    """As `deformable_detr train` would, but for where the data are."""
    path = tmp_path / "tao.yaml"
    path.write_text(NVIDIA)
    plan = prepare(
        RunRequest(data=str(own_demo), spec_file=str(path), sets=("train.start=scratch",)), tmp_path / "w"
    )
    plain = resolve("train", {**_read(path), "train": _read(path)["train"] | {"start": "scratch"}})
    differ = [name for name in NAMES if get(plan.spec, name) != get(plain, name)]
    assert [name for name in differ if not name.startswith("dataset.") or "augmentation" in name] == []
    assert {name.split(".")[1] for name in differ} <= {
        "train_data_sources", "val_data_sources", "test_data_sources", "num_classes", "eval_class_ids",
    }  # fmt: skip
    assert "train.recipe=dino" in plan.reasons["train.recipe"]


@pytest.mark.parametrize("words", [{"preset": "small"}, {"sets": ("model.num_queries=100",)}, {}])
def test_presets_and_single_leaves_take_the_recipe_that_learns_fastest(
    words: dict[str, Any], own_demo: Path, tmp_path: Path
) -> None:
    plan = prepare(RunRequest(data=str(own_demo), **words), tmp_path / "w")
    assert get(plan.spec, "train.recipe") == "dino"
    assert plan.sources["train.recipe"] == "settings"
    if words.get("preset"):
        assert get(plan.spec, "train.input_height") == 240


def _read(path: Path) -> dict[str, Any]:
    from automl.spec import load

    return load(path)


@pytest.mark.parametrize(("interval", "patience"), [(1, 30), (4, 8), (12, 0)])
def test_patience_counts_validated_epochs(interval: int, patience: int) -> None:
    spec = base(train__num_epochs=100, train__validation_interval=interval)
    given = dict.fromkeys(("train.num_epochs", "train.validation_interval"), "--set")
    facts = {"train": {"images": 100}, "sizes": None}
    assert fitting.fit(spec, facts, {}, given)["fill"].get("train.patience", 0) == patience


@pytest.mark.parametrize(
    ("unit", "every", "validated", "lost"),
    [
        ("epoch", 1, 1, False),
        ("epoch", 2, 4, False),
        ("epoch", 4, 2, True),
        ("step", 1, 1, False),
        ("step", 7, 1, True),
    ],
)
def test_validated_epochs_without_a_checkpoint_are_warned_of(
    unit: str, every: int, validated: int, lost: bool
) -> None:
    leaves = {"unit": unit, "every": every, "validated": validated}
    names = ("checkpoint_interval_unit", "checkpoint_interval", "validation_interval")
    spec = base(**{f"train__{name}": value for name, value in zip(names, leaves.values(), strict=True)})
    given = {f"train.{name}": "--set" for name in names}
    found = fitting.fit(spec, {"train": {"images": 100}, "sizes": None}, {}, given)["warnings"]
    assert any(f"a checkpoint every {every} {unit}s" in line for line in found) is lost


def test_a_log_that_nobody_will_keep_is_told_before_the_first_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def told(asked: bool = True) -> bool:
        spec = base(wandb__enable=asked)
        return any("nothing is logged there" in w for w in fitting.fit(spec, {}, {}, {})["warnings"])

    monkeypatch.setattr(wandb_runs, "find_spec", lambda name: None)
    assert (told(), told(False)) == (True, False)
    monkeypatch.setattr(wandb_runs, "find_spec", lambda name: True)
    assert told()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not told()
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "netrc").write_text(
        "machine api.wandb.ai login user password x\n"
    )  # as `wandb login` writes it
    assert not told()


@pytest.mark.parametrize(("epochs", "drops"), [(1, None), (2, None), (3, [2]), (10, [8])])
def test_rates_drop_within_the_training_or_as_nobody_said(epochs: int, drops: list[int] | None) -> None:
    spec = base(train__num_epochs=epochs)
    found = fitting.fit(spec, {"train": {"images": 100}, "sizes": None}, {}, {"train.num_epochs": "--set"})
    assert found["fill"].get("train.optim.lr_steps") == drops
    assert notes(settled(spec, found["fill"])) == []


@pytest.mark.parametrize(("backend", "refused"), [("torchao", True), ("onnxruntime", False)])
def test_a_backend_that_is_not_here_is_told_before_the_first_trial(backend: str, refused: bool) -> None:
    spec = base(quantize__backend=backend)
    found = fitting.fit(spec, {"train": {"images": 100}, "sizes": None}, {}, {})["warnings"]
    assert any("quantize.backend torchao will refuse the winner" in line for line in found) is refused


@pytest.mark.parametrize(
    ("megabytes", "machine", "workers"),
    [
        (64, {}, 0), (500, {}, 2), (500, {"gpus": 2}, 1), (500, {"cpus": 8}, 1), (8000, {}, 8), (64, {"here": False}, 8),
        (float("inf"), {}, 8),
    ],
)  # fmt: skip
def test_no_more_loader_processes_than_shared_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, megabytes: float, machine: dict[str, Any], workers: int
) -> None:
    """On 16 cores, with batches of 55 MB; trainings beside, and ranks, take their part."""
    monkeypatch.setattr(shared_memory, "room", lambda: megabytes * 1e6)
    monkeypatch.setattr(fitting, "cores", lambda: 16)
    spec = base(dataset__batch_size=4, train__input_height=800, train__input_width=1333)
    sources = {name: "--set" for name in ("dataset.batch_size", "train.input_height", "train.input_width")}
    on = {"gpus": 1, "cpus": 16, **machine}
    found = fitting.fit(spec, {"train": {"images": 100}, "sizes": None}, on, sources)
    assert found["fill"]["dataset.workers"] == workers
    assert any("--shm-size" in line for line in found["warnings"]) == (workers < 8)
    if workers < 8:
        assert "/dev/shm" in found["reasons"]["dataset.workers"]
