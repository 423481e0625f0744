"""The built-in Deformable DETR (Zhu et al. 2020, arXiv:2010.04159). It knows nothing of `automl`.

Shape letters, one meaning everywhere: B batch, Q queries, C channels, M heads, L levels, P points,
K classes (largest category id + 1; no background logit), S = sum of H*W over the levels.
Box formats are part of a name: `boxes_cxcywh` (0-1 of the unpadded image), `boxes_xyxy_px` (pixels).

Importing this package imports no torch.
"""

from pathlib import Path


def bundle_dir() -> Path:
    """The folder that holds `schemas/` and `references/`: in the wheel or in the checkout."""
    here = Path(__file__).resolve().parent
    packed = here / "_bundle"
    return packed if packed.is_dir() else here.parent


def __getattr__(name: str) -> object:
    """`model.build_model` without importing torch until it is asked for (PEP 562)."""
    if name in ("build_model", "build_criterion"):
        from model import build

        return getattr(build, name)
    raise AttributeError(f"module 'model' has no attribute '{name}'")
