"""The HTTP interface: what is asked for and how it is documented. The work is done elsewhere."""

from service.routes import docs, metrics, open_inference, page, pictures, status

__all__ = ["docs", "metrics", "open_inference", "page", "pictures", "status"]
