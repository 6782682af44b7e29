"""The tasks of the paper by name; and families for a user's own file."""

from difflib import get_close_matches

from eval.tasks import coreference, extractive_qa, glue, relation_extraction, token_classification
from eval.tasks.task import Task


FAMILIES = (extractive_qa, relation_extraction, glue, token_classification, coreference)
TASKS: dict[str, Task] = {task.name: task for family in FAMILIES for task in family.ROWS}


def find_task(name: str) -> Task:
    """Raises ValueError, with the known names, for another one."""
    if name not in TASKS:
        closest = get_close_matches(name, TASKS, n=1)
        known = f"known: {', '.join(TASKS)}"
        raise ValueError(f"unknown task {name!r}; " + (f"closest: {closest[0]}; {known}" if closest else known))
    return TASKS[name]
