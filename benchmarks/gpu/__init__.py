"""What `scripts/gpu-check` measures: that the GPU is used, that it answers right, how fast, and where the time goes."""
