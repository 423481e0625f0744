"""Executors run a driver's jobs: local (this machine, no Ray), ray_tune (a machine or a cluster), replay (recorded
curves on a virtual clock). What they share is in base."""
