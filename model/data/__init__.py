"""COCO datasets: where they lie, what is in them, what is wrong with them, and how they reach the detector."""
