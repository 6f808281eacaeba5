"""The HTTP interface: what is asked for and how it is documented. The work is done elsewhere."""

from service.routes import metrics, open_inference, page, pictures, status

__all__ = ["metrics", "open_inference", "page", "pictures", "status"]
