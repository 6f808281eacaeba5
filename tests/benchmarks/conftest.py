"""The application on tiny models, as the tests of the service have it."""

from tests.service.conftest import models_dir, serve

__all__ = ["models_dir", "serve"]
