"""The application on tiny models, as the tests of the service have it."""

from tests.service.conftest import models_dir, serve
from tests.training.conftest import mnist

__all__ = ["mnist", "models_dir", "serve"]
