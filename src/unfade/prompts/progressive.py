"""Progressive's tasks and the one sentence that asks for each: the uniform prompts."""

from typing import Literal, get_args

Task = Literal["resolution", "blur", "lowlight"]
TASKS: tuple[Task, ...] = get_args(Task)

# The end of every prompt: what keeps a video model from moving things.
TAIL = "Nothing moves. Static image."

# The first is published (arXiv 2512.02273); the others are this project's, in its manner.
UNIFORM: dict[Task, str] = {
    "resolution": f"The image becomes sharper and higher in resolution. {TAIL}",
    "blur": f"The image gradually becomes sharp as the blur disappears. {TAIL}",
    "lowlight": f"The image gradually becomes brighter, with natural colors and less noise. {TAIL}",
}


def uniform_prompt(task: Task) -> str:
    """The fixed prompt of a task.

    Raises:
        ValueError: there is no such task.

    Source: Progressive Restoration (arXiv 2512.02273) for "resolution"; the tail comes from Frame2Frame
    (arXiv 2411.16819, app. I).
    """
    if task not in UNIFORM:
        raise ValueError(f"unknown task {task!r}; there is {', '.join(TASKS)}")
    return UNIFORM[task]
