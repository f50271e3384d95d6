"""The program that takes staged files into place: run by a deploy, and by a board that was cut off in one.

Every step of it is atomic on littlefs. Run again after a power cut at any of them, it ends in the same state:
as long as no file has moved, all that comes before the moves is done again, and a file moves once.
"""

import json
from collections.abc import Sequence

from host_tools.deploy.steps import Step

MARK = "# limpet: a deploy was cut off, and this ends it.\n"
"""The first line of such a program."""

# littlefs renames in two halves. After a cut between them a folder's listing lacks names, until the first
# change of anything mends that: a mkdir, even of what is there already. test_deploy_swap.py shows it.
# 2: gone already; 17: made already; 20 and 39: a file or a full folder has taken the place.
_PROGRAM = """\
import os
def do(name, path):
 try:
  getattr(os, name)(path)
 except OSError as e:
  if e.errno not in (2, 17, 20, 39):
   raise
do("mkdir", stage)
waiting = os.listdir(stage)
if all([name in waiting for name, _ in moves]):
 for step in before:
  do(*step)
for name, path in moves:
 if name in waiting:
  os.rename(stage + "/" + name, path)
for name in os.listdir(stage):
 do("remove", stage + "/" + name)
do("rmdir", stage)
if __name__ == "__main__":
 print("limpet: ended a deploy that was cut off")
 import machine
 machine.reset()
"""


def program(stage: str, before: Sequence[Step], moves: Sequence[tuple[str, str]]) -> bytes:
    """The program for these steps. `moves`: names in the folder `stage`, and their places, `main.py` last."""
    lists = {"stage": stage, "before": before, "moves": moves}
    # JSON writes strings and lists as Python does.
    filled = [f"{name} = {json.dumps(value, separators=(',', ':'))}\n" for name, value in lists.items()]
    return "".join((MARK, *filled, _PROGRAM)).encode()
