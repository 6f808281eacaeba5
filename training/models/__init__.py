"""The networks: a config dataclass and an nn.Module each."""
