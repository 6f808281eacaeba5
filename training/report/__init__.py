"""A report on an exported file: what it gets right and wrong, in figures and pictures on one page."""
