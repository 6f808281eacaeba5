"""Trains, evaluates and exports the networks. Shares no code with `service`: what passes between them is a file."""
