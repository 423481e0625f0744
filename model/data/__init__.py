"""Datasets of COCO, YOLO, Pascal VOC and KITTI: where they lie, what is in them, what is wrong with them, and how they
reach the detector. ARCHITECTURE.md has the path that one takes."""
