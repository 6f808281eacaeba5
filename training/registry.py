"""What can be trained, by name.

To train something new, add its `Task` here; nothing else needs to change, neither in training nor in the service.
docs/training.md has one from beginning to end.
"""

from collections.abc import Mapping

from training.tasks import BOOK, DIGITS, DIGITS_5X5, STREETS, Task

TASKS: Mapping[str, Task] = {task.name: task for task in (DIGITS, DIGITS_5X5, BOOK, STREETS)}
