"""What pycocotools, which tests and studies compare with, is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.data.coco import CocoData


def ground_truth(data: CocoData) -> dict[str, Any]:
    """A data set as a COCO document with the ids of `image_ids` and `labels`, for the metrics."""
    images = [
        {"id": int(i), "height": int(h), "width": int(w), "file_name": data.file(n).name}
        for n, (i, (h, w)) in enumerate(zip(data.image_ids, data.sizes, strict=True))
    ]
    owner = np.repeat(data.image_ids, np.diff(data.starts))
    annotations = [
        {
            "id": n + 1,
            "image_id": int(owner[n]),
            "category_id": int(data.labels[n]),
            "bbox": [float(v) for v in data.boxes_xywh_px[n]],
            "area": float(data.areas[n]),
            "iscrowd": int(data.crowd[n]),
        }
        for n in range(len(data.labels))
    ]
    return {"info": {}, "images": images, "annotations": annotations, "categories": data.categories}
