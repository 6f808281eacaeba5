"""Sightline side by side with what a user would pick instead: same machine, same run, same graphs, same requests."""
