"""The swap at the end of a deploy, in MicroPython on littlefs, the power cut at every flash operation."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from host_tools import micropython, paths
from host_tools.deploy import ending
from host_tools.deploy.plan import MAIN, STAGE, digest, plan

OLD = {
    "boot.py": b"boot",
    "main.py": b"old main",
    "limpet/__init__.mpy": b"",
    "limpet/node.mpy": b"node 1" * 100,
    "limpet/node.py": b"stale",
    "limpet/gone/x.mpy": b"x" * 3000,
    "limpet/same.mpy": b"same" * 500,
}
NEW = {
    "boot.py": b"new boot",
    "main.py": b"new main",
    "limpet/__init__.mpy": b"",
    "limpet/node.mpy": b"node 2" * 1000,
    "limpet/same.mpy": b"same" * 500,
    "limpet/sensors/__init__.mpy": b"",
    "limpet/sensors/bme280.mpy": b"bme280" * 700,
}
TWISTED = {
    "main.py": b"old main",
    "limpet/node.mpy/x": b"a folder where a file should be",
    "limpet/sensors": b"a file where a folder should be",
}

# Prints, for each cut, what the board has after it has booted until it runs no ending any more.
SCRIPT = """
import json, os, sys, vfs

given = json.loads(sys.stdin.read())
sys.path[:] = given["path"]
from flash import Nor
from _flash import PowerCut

class Chip(Nor):
    def ioctl(self, op, arg):
        return 0 if op < 4 else Nor.ioctl(self, op, arg)

class Reset(BaseException):
    pass

class Machine:
    def reset(self):
        raise Reset

sys.modules["machine"] = Machine()

def mount(chip):
    vfs.mount(vfs.VfsLfs2(chip, progsize=32, readsize=32, lookahead=32), "/board")
    os.chdir("/board")

def unmount():
    os.chdir("/")
    vfs.umount("/board")

def run_main():
    with open("main.py") as f:
        text = f.read()
    if not text.startswith(given["mark"]):
        return False
    try:
        exec(text, {"__name__": "__main__"})
    except Reset:
        pass
    return True

def files(folder=""):
    found = {}
    for name in os.listdir(folder or "."):
        path = folder + name
        if os.stat(path)[0] & 0x4000:
            found[path] = None
            found.update(files(path + "/"))
        else:
            with open(path) as f:
                found[path] = f.read()
    return found

def put(path, text):
    parts = path.split("/")
    for depth in range(1, len(parts)):
        try:
            os.mkdir("/".join(parts[:depth]))
        except OSError:
            pass
    with open(path, "w") as f:
        f.write(text)

whole = Chip(24)
vfs.VfsLfs2.mkfs(whole, progsize=32, readsize=32, lookahead=32)
mount(whole)
for path, text in given["files"].items():
    put(path, text)
unmount()

def boot(chip):
    mount(chip)
    try:
        while run_main():
            pass
        return files()
    finally:
        unmount()

def swap(chip):
    os.rename(given["ending"], "main.py")
    while run_main():
        pass

operation = 0
while True:
    operation += 1
    chip = Chip(24, whole.data)
    mount(chip)
    chip.power_on((operation, given["how"], operation))
    try:
        swap(chip)
        done = True
    except PowerCut:
        done = False
    unmount()
    chip = Chip(24, chip.data)
    again = given["again"]
    if again and not done:  # the power fails a second time, while the board goes on
        chip.power_on((again, given["how"], again))
        try:
            boot(chip)
        except PowerCut:
            pass
        chip = Chip(24, chip.data)
    print(json.dumps([operation, boot(chip)]))
    if done:
        break
"""


def texts(files: Mapping[str, bytes]) -> dict[str, str | None]:
    """Files as the script has them, and their folders."""
    folders = {str(parent) for path in files for parent in Path(path).parents} - {"."}
    return {**{path: data.decode() for path, data in files.items()}, **dict.fromkeys(folders)}


@pytest.mark.parametrize(
    ("start", "how", "again"),
    [(OLD, "torn", 0), (OLD, "before", 0), (OLD, "torn", 3), (TWISTED, "torn", 0), (TWISTED, "after", 5)],
    ids=["torn", "between", "twice", "twisted", "twisted-twice"],
)
def test_the_power_fails_at_any_operation_and_the_board_has_old_or_new(
    start: Mapping[str, bytes], how: str, again: int
) -> None:
    present = {path: "" if text is None else digest(text.encode()) for path, text in texts(start).items()}
    todo = plan(NEW, present)
    staged = {f"{STAGE}/{name}": data for name, data in todo.stage.items()}
    given = {
        "path": [str(paths.ROOT / "tests" / "firmware"), str(paths.ROOT / "boards" / "virtual")],
        "mark": ending.MARK,
        "files": {path: data.decode() for path, data in {**start, **staged}.items()},
        "ending": f"{STAGE}/{todo.ending}",
        "how": how,
        "again": again,
    }
    done = subprocess.run(
        [*micropython.command(), "-c", SCRIPT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout[-1000:] + done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(outcomes) > 15, "the swap takes more operations than that"
    before, after = texts(start), texts(NEW)
    news = 0
    for operation, files in outcomes:
        seen = {path: text for path, text in files.items() if path.split("/")[0] != STAGE}
        assert seen in (before, after), (operation, seen)
        news += seen == after
        assert files[MAIN] == ("new main" if seen == after else "old main")
    assert outcomes[-1][1] == after, "uncut, and nothing is left on the stage"
    assert (how != "after") <= len(outcomes) - news < 4, "only the first operations leave the old firmware"
