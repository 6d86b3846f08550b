"""A process that labels: `python -m fastdesc.learn.worker FOLDER FIRST STEP`, started by the loop."""

import json
import sys

from fastdesc.errors import FastdescError
from fastdesc.learn.orphans import end_with_the_loop


def main(words):
    """Label, or make a calculator to see that it can be made; return the exit code."""
    if words != ["check"]:
        end_with_the_loop()    # before what takes seconds to import: the loop may end meanwhile
    from fastdesc.learn.calculators import make_calculator
    from fastdesc.learn.labelling import work

    try:
        if words == ["check"]:
            make_calculator(*json.load(sys.stdin))
            return 0
        folder, first, step = words
        for _ in work(folder, int(first), int(step)):
            pass
    except FastdescError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
