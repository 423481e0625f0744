"""The AutoML engine. Importing it brings in neither torch nor ray (tests/test_imports.py holds this)."""

__version__ = "0.1.0"
