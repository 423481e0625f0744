"""Every kind of image file becomes the same upright 8-bit RGB."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data import images
from model.data.images import open_rgb, upright_size
from model.data.layouts import in_place
from model.data.looks import look
from model.errors import UserError

PIXELS = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3) * 40  # H 2, W 3


def save(tmp_path: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)  # type: ignore[arg-type]
    return tmp_path / name


def test_grey_is_spread_over_the_channels(tmp_path: Path) -> None:
    found = np.asarray(open_rgb(save(tmp_path, Image.fromarray(PIXELS))))
    assert (found == PIXELS[..., None]).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    deep = PIXELS.astype(np.uint16) * 257
    for name in ("x.png", "x.tif"):
        found = np.asarray(open_rgb(save(tmp_path, Image.fromarray(deep), name)))
        assert (found == PIXELS[..., None]).all()
    dark = np.full((2, 3), 300, dtype=np.uint16)  # scaled by the type's white, not by its own brightest pixel
    assert np.asarray(open_rgb(save(tmp_path, Image.fromarray(dark)))).max() == 1


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 1e6])
def test_floats_that_are_no_numbers_leave_the_others(tmp_path: Path, gap: float, top: float) -> None:
    values = np.array([[0.0, 0.5], [1.0, 0.25]], dtype=np.float32) * top
    whole = np.asarray(open_rgb(save(tmp_path, Image.fromarray(values), "x.tif")))
    values[0, 0] = gap
    path = save(tmp_path, Image.fromarray(values), "gap.tif")
    found = np.asarray(open_rgb(path))
    assert (found[0, 0] == (255 if gap == np.inf else 0)).all()
    assert (found[..., 0].ravel()[1:] == whole[..., 0].ravel()[1:]).all()
    assert look(path).gaps == 1
    assert look(path).brightest == pytest.approx(1.0)


def test_an_image_of_no_numbers_is_black(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(np.full((2, 3), np.nan, np.float32)), "x.tif")
    assert not np.asarray(open_rgb(path)).any()
    assert (look(path).gaps, look(path).brightest) == (6, 0.0)


RAMP = np.linspace(0, 1, 10_000).reshape(100, 100)  # 0 to white


@pytest.mark.parametrize(
    ("white", "kind", "odd"),
    [
        (1.0, np.float32, [1.02]), (1.0, np.float32, [1.2] * 300), (1.0, np.float32, [200.0] * 3),
        (1.0, np.float32, [1.1] * 300 + [9e4]), (255.0, np.float32, [260.0]), (255.0, np.int32, [300]),
        (255.0, np.int32, [60_000] * 5), (255.0, np.int32, [256] * 400), (65535.0, np.int32, [66_000]),
        (65535.0, np.float32, [1e9]),
    ],
)  # fmt: skip
def test_a_few_pixels_beyond_white_leave_the_others(
    tmp_path: Path, white: float, kind: type, odd: list[float]
) -> None:
    values = (RAMP * white).astype(kind)
    whole = np.asarray(open_rgb(save(tmp_path, Image.fromarray(values), "x.tif")))
    values.ravel()[: len(odd)] = odd
    path = save(tmp_path, Image.fromarray(values), "odd.tif")
    found = np.asarray(open_rgb(path))[..., 0].ravel()
    assert (found[: len(odd)] == 255).all()
    assert (found[len(odd) :] == whole[..., 0].ravel()[len(odd) :]).all()
    assert look(path).guessed_white == white


@pytest.mark.parametrize(("kind", "top"), [(np.float32, 1.3), (np.int32, 330)])
def test_where_many_pixels_are_a_bit_beyond_white_none_is_black(
    tmp_path: Path, kind: type, top: float
) -> None:
    path = save(tmp_path, Image.fromarray((RAMP * top).astype(kind)), "x.tif")
    assert abs(np.asarray(open_rgb(path))[..., 0] / 255 - RAMP).max() < 0.01
    assert not look(path).flat


@pytest.mark.parametrize("share", [0.0005, 0.01])
def test_bright_spots_on_black_do_not_turn_it_white(tmp_path: Path, share: float) -> None:
    values = np.full((200, 200), 0.1, np.float32)
    values.ravel()[: int(share * values.size)] = 200
    found = np.asarray(open_rgb(save(tmp_path, Image.fromarray(values), "x.tif")))[..., 0].ravel()
    assert sorted({*found.tolist()}) == [0, 200]


def test_palette_transparency_and_cmyk(tmp_path: Path) -> None:
    colours = np.zeros((2, 3, 3), dtype=np.uint8)
    colours[:, 0, 0] = colours[:, 1, 1] = 255
    rgb = Image.fromarray(colours)
    for image, name, tolerance in (
        (rgb.convert("P", palette=Image.Palette.ADAPTIVE), "p.png", 0),
        (rgb.convert("RGBA"), "a.png", 0),
        (rgb.convert("1"), "b.png", 255),
        (rgb.resize((30, 20), Image.Resampling.NEAREST).convert("CMYK"), "c.jpg", 255),
    ):
        found = open_rgb(save(tmp_path, image, name))
        assert found.mode == "RGB"
        assert (
            abs(np.asarray(found.resize((3, 2), Image.Resampling.NEAREST)).astype(int) - colours).max()
            <= tolerance
        )
    cmyk = np.asarray(open_rgb(tmp_path / "c.jpg"))
    assert cmyk[5, 5, 0] > 200 > 60 > cmyk[5, 5, 1]  # red stays red


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_and_its_size(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(np.repeat(np.repeat(PIXELS, 8, 0), 8, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, image, "x.png", exif=exif)
    with Image.open(path) as file:
        wanted = ImageOps.exif_transpose(file)
        assert upright_size(file) == wanted.size
    found = open_rgb(path)
    assert found.size == wanted.size
    assert (np.asarray(found)[..., 0] == np.asarray(wanted)).all()


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n", b"not an image"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(damage)
    with pytest.raises(UserError, match=r"bad\.png: cannot be read as an image"):
        open_rgb(tmp_path / "bad.png")


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(noise), "cut.jpg")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.jpg: cannot be read"):
        open_rgb(path)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_a_size_is_read_of_images_beyond_the_usual_limit(
    tmp_path: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label files are read before the spec's limit is known; what lets larger ones in is held where they are decoded."""
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "x.txt").write_text("0 .5 .5 .2 .2\n")
        path = save(tmp_path / "images" / split, Image.new("L", (30, 20)), "x.png", format=format_)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    monkeypatch.setattr(images.opened, "__defaults__", (10, *images.opened.__defaults__[1:]))
    monkeypatch.setattr(images, "MAX_PIXELS", 10)
    assert images.size_in_file(path) == (30, 20)
    found = in_place(str(tmp_path)).sources["train"][0]["json_file"]
    assert [(row["width"], row["height"]) for row in json.loads(Path(found).read_text())["images"]] == [
        (30, 20)
    ]
