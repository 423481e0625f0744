"""Samplers, loaders and the annotation arrays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.coco import CocoData, load_sources
from model.data.loaders import Collate, DetectionDataset, EvalBatches, TrainSampler
from model.data.module import DataModule
from model.data.transforms import EvalTransform
from model.errors import UserError
from model.spec import put, resolve
from tests.conftest import with_data
from tests.model.coco_document import ground_truth


def source_of(data: Path, split: str = "train") -> dict[str, str]:
    return {"image_dir": str(data / split / "images"), "json_file": str(data / split / "annotations.json")}


def order(data: CocoData, kind: str, epoch: int = 0, rank: int = 0, world: int = 1) -> list[int]:
    return [i % len(data) for i in TrainSampler(data, kind, 1, rank, world, lambda: epoch)]


def test_the_default_order_is_a_new_permutation_each_epoch_whatever_the_ranks(demo: Path) -> None:
    data = load_sources([source_of(demo)])
    whole = order(data, "default_sampler")
    assert sorted(whole) == list(range(len(data)))
    assert order(data, "default_sampler", epoch=1) != whole
    assert order(data, "default_sampler") == whole
    halves = [order(data, "default_sampler", rank=r, world=2) for r in range(2)]
    assert [i for pair in zip(*halves, strict=True) for i in pair] == whole


def test_the_non_uniform_order_keeps_each_rank_to_its_own_images(demo: Path) -> None:
    data = load_sources([source_of(demo)])
    for rank in range(2):
        epochs = [order(data, "non_uniform_sampler", e, rank, 2) for e in range(3)]
        assert all(sorted(epoch) == list(range(rank, 12, 2)) for epoch in epochs)
        assert epochs[0] != epochs[1]
    shares = [set(order(data, "default_sampler", e, 0, 2)) for e in range(3)]
    assert shares[0] != shares[1]


def test_the_uniform_order_draws_small_sources_as_often_as_large(demo: Path) -> None:
    data = load_sources([source_of(demo, "train"), source_of(demo, "val")])  # 12 and 4 images

    def share(kind: str) -> float:
        drawn = np.concatenate([data.source[order(data, kind, epoch)] for epoch in range(100)])
        return float((drawn == 1).mean())

    assert share("uniform_sampler") == pytest.approx(0.5, abs=0.05)
    assert share("default_sampler") == pytest.approx(0.25)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_evaluation_batches_hold_one_size_and_each_image_once(world: int) -> None:
    sizes = [(10, 20), (20, 10), (10, 20), (10, 20), (20, 10), (30, 30)]
    ranks = [list(EvalBatches(sizes, 2, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1  # as many steps everywhere
    real = [batch for batches in ranks for batch in batches if batch[0] < len(sizes)]
    assert sorted(i for batch in real for i in batch) == list(range(len(sizes)))
    for batch in real:
        assert len({sizes[i] for i in batch}) == 1
    repeats = [i for batches in ranks for batch in batches for i in batch if i >= len(sizes)]
    assert all(i < 2 * len(sizes) for i in repeats)


def test_serialized_annotations_are_mapped_and_default_ones_are_not(demo: Path) -> None:
    shared, own = (load_sources([source_of(demo)], kind) for kind in ("serialized", "default"))
    for name in ("files", "boxes_xywh_px", "labels", "starts", "areas"):
        assert isinstance(getattr(shared, name), np.memmap)
        assert not isinstance(getattr(own, name), np.memmap)
        assert (getattr(shared, name) == getattr(own, name)).all()


def test_annotations_are_parsed_once_and_anew_when_the_file_changes(
    own_demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from model.data import coco

    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    calls: list[Any] = []
    parse = coco.read_part
    monkeypatch.setattr(coco, "read_part", lambda *a: calls.append(a) or parse(*a))
    for _ in range(3):
        load_sources([source_of(own_demo)])
    assert len(calls) == 1
    path = own_demo / "train" / "annotations.json"
    document = json.loads(path.read_text())
    document["annotations"].pop()
    path.write_text(json.dumps(document))
    assert len(load_sources([source_of(own_demo)]).labels) == len(document["annotations"])
    assert len(calls) == 2


def shrink(image: Path) -> None:
    Image.open(image).resize((32, 32)).save(image)


CHANGES = {
    "another size": (shrink, "0002.png is 32x32 px, the annotations say 64x64"),
    "renamed": (lambda image: image.rename(image.with_name("other.png")), "0002.png is not in"),
    "removed": (Path.unlink, "0002.png is not in"),
    "found elsewhere": (lambda image: image.rename(image.with_name("0002.PNG")), None),
    "other pixels": (lambda image: Image.new("RGB", (64, 64)).save(image), None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_images_are_looked_at_anew_when_they_change(
    name: str, own_demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    change, message = CHANGES[name]
    before = load_sources([source_of(own_demo)])
    image = own_demo / "train" / "images" / "0002.png"
    kept = image.read_bytes()
    change(image)
    for _ in range(2):
        if message:
            with pytest.raises(UserError, match=message):
                load_sources([source_of(own_demo)])
        else:
            after = load_sources([source_of(own_demo)])
            assert all(after.file(n).is_file() for n in range(len(after)))
            assert (after.boxes_xywh_px == before.boxes_xywh_px).all()  # the old arrays can still be read
    image.write_bytes(kept)
    assert len(load_sources([source_of(own_demo)])) == len(before)


def test_corrupt_images_are_named_before_a_training_starts(
    own_demo: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("0003.png", "0004.png"):
        (own_demo / "train" / "images" / name).write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="0004.png cannot be read as an image"):
        DataModule(resolve("train", with_data(tiny, own_demo))).setup()


def test_a_corrupt_image_is_left_out_until_it_is_whole_again(
    own_demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    image = own_demo / "train" / "images" / "0004.png"
    whole = image.read_bytes()
    image.write_bytes(b"")
    data = load_sources([source_of(own_demo)])
    assert len(data) == 11
    assert "0004.png cannot be read as an image (the file is empty)" in data.notes[0]
    image.write_bytes(whole)
    assert len(load_sources([source_of(own_demo)])) == 12


def test_an_image_that_is_mended_in_place_with_its_old_time_is_looked_at_anew(
    own_demo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DETR_CACHE_DIR", str(tmp_path / "cache"))
    image = own_demo / "train" / "images" / "0004.png"
    whole, times = image.read_bytes(), (image.stat().st_atime_ns, image.stat().st_mtime_ns)
    for content, count in ((bytes(len(whole)), 11), (whole, 12)):
        image.write_bytes(content)
        os.utime(image, ns=times)
        assert len(load_sources([source_of(own_demo)])) == count


def test_crowds_are_left_out_of_training_and_empty_images_stay(own_demo: Path, tiny: dict[str, Any]) -> None:
    path = own_demo / "train" / "annotations.json"
    document = json.loads(path.read_text())
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 2]
    crowd = next(a for a in document["annotations"] if a["image_id"] == 1)
    crowd["iscrowd"] = 1
    path.write_text(json.dumps(document))
    data = load_sources([source_of(own_demo)])
    items = DetectionDataset(data, EvalTransform(resolve("train", tiny)), 0)
    of_first = sum(a["image_id"] == 1 for a in document["annotations"])
    assert len(items[0][1]["labels"]) == of_first - 1
    assert ground_truth(data)["annotations"][0]["iscrowd"] == 1
    assert len(items) == 12
    assert items[1][1]["boxes_cxcywh"].shape == (0, 4)
    images, mask, targets = Collate(None)([items[0], items[1]])
    assert (images.shape[0], mask.any().item(), len(targets)) == (2, False, 2)


def test_ids_from_zero_and_sparse_ids_are_labels(own_demo: Path, tiny: dict[str, Any]) -> None:
    for split in ("train", "val"):
        path = own_demo / split / "annotations.json"
        document = json.loads(path.read_text())
        moved = {1: 0, 2: 7, 3: 40}
        for category in document["categories"]:
            category["id"] = moved[category["id"]]
        for annotation in document["annotations"]:
            annotation["category_id"] = moved[annotation["category_id"]]
        path.write_text(json.dumps(document))
    partial = with_data(tiny, own_demo)
    partial["dataset"] |= {"num_classes": 41, "eval_class_ids": [0, 40]}
    module = DataModule(resolve("train", partial))
    module.setup()
    assert set(module.train_data.labels.tolist()) <= {0, 7, 40}
    put(partial, "dataset.eval_class_ids", [1])
    with pytest.raises(UserError, match=r"eval_class_ids: \[1\] are no categories"):
        DataModule(resolve("train", partial)).setup()


def test_fixed_padding_gives_every_batch_the_largest_size_of_its_orientations(
    demo: Path, tiny: dict[str, Any]
) -> None:
    partial = with_data(tiny, demo)
    partial["train"] |= {"input_height": None, "input_width": None}
    partial["dataset"]["augmentation"] |= {"scales": [40, 64], "random_resize_max_size": 80}

    def sizes(fixed: bool) -> set[tuple[int, ...]]:
        put(partial, "dataset.augmentation.fixed_padding", fixed)
        module = DataModule(resolve("train", partial))
        module.setup()
        return {tuple(images.shape[2:]) for images, _, _ in module.train_dataloader()}

    assert sizes(True) <= {(64, 80), (80, 64), (80, 80)}
    assert not sizes(True) & sizes(False)
