"""The same models for Triton Inference Server. Not run here: see README.md."""
