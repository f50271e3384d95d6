"""Runs inside MicroPython: imports one test file and calls its functions (see conftest.py).

Arguments: module, function names, `--`, folders for sys.path. Prints one line of JSON a function, after
a record separator (0x1E), between whatever the tests print.
"""

import gc
import io
import json
import sys


def main():
    split = sys.argv.index("--")
    module_name, names = sys.argv[1], sys.argv[2:split]
    sys.path[:] = sys.argv[split + 1 :] + [".frozen"]
    module = __import__(module_name)
    for name in names:
        result = {"name": name, "outcome": "passed"}
        try:
            getattr(module, name)()
        except Exception as e:
            text = io.StringIO()
            sys.print_exception(e, text)
            result["outcome"] = "failed"
            result["traceback"] = text.getvalue()
        gc.collect()
        print("\n\x1e" + json.dumps(result))


main()
