"""The Sightline inference service. Run it with `python -m service`; it never imports torch or `training`."""
