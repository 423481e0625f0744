"""The trained detector outside of training: runners for checkpoint, ONNX and engine, and the files they need."""
