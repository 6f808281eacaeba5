"""Measurements of the whole service, sent over HTTP; nothing here is part of it."""
