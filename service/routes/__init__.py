"""The HTTP interface: what is asked for and how it is documented. The work is done elsewhere."""

from service.routes import docs, documentation, metrics, open_inference, page, pictures, status

__all__ = ["docs", "documentation", "metrics", "open_inference", "page", "pictures", "status"]
