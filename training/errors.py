"""What can go wrong in training, by name. `python -m training` prints these as one line and exits with 1."""


class TrainingError(Exception):
    """Base of all errors that are explained to the person at the terminal rather than shown as a traceback."""


class DataError(TrainingError):
    """Data is missing or damaged. The message names the file, what was expected and what to do."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or belongs to something else."""


class DivergenceError(TrainingError):
    """The loss stopped being a number."""


class ExportError(TrainingError):
    """The exported file does not answer as the network it was made from does, or cannot be used."""


class ReportError(TrainingError):
    """A report cannot be written where it was asked for."""
