"""``python -m tests.simulator.removal SHARE OF [NAME…]``: remove guards, one at a time, and play what must notice.

Each guard is removed in a copy of the packages and gets a process of its own. That is forked from one which has
imported third-party code only, since importing it takes longer than the histories do. Prints a line of JSON for each
guard: its name, the outcome (``violated`` is what it should be) and the story.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from tests.simulator.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("runtime_core", "workers", "tests/__init__.py", "tests/simulator")
_FOREIGN = (
    *("billiard.einfo", "celery.worker.control", "celery.worker.consumer", "greenlet", "kombu.transport.redis"),
    *("pydantic_settings", "redis.asyncio", "yaml"),
)


def main() -> None:
    share, of, names = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    os.environ["PYTHONHASHSEED"] = "0"
    logging.disable(logging.ERROR - 1)
    for module in _FOREIGN:
        importlib.import_module(module)
    guards = [guard for guard in GUARDS if not names or guard.name in names]
    for guard in guards[share::of]:
        outcome, story = _without(guard)
        sys.stdout.write(json.dumps({"name": guard.name, "outcome": outcome, "story": story}) + "\n")
        sys.stdout.flush()


def _without(guard: Guard) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="runlane-guard-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            _copy(ROOT / name, copy / name)
        changed = copy / guard.file
        text = changed.read_text()
        if text.count(guard.text) != 1:
            return "crashed", f"{guard.file} holds {guard.text!r} {text.count(guard.text)} times, not once"
        changed.write_text(text.replace(guard.text, guard.without))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _play(copy, guard, writer)
        os.close(writer)
        with os.fdopen(reader) as answer:
            said = answer.read()
        os.waitpid(child, 0)
        outcome, _, story = said.partition("\n")
        return outcome or "crashed", story


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)  # with the bytecode, which stays valid: times are kept
    else:
        shutil.copy2(source, target)


def _play(copy: Path, guard: Guard, answer: int) -> None:
    """In the child: play the histories until one notices."""
    said = "crashed\nit never got to play"
    try:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.path[0] = str(copy)
        os.chdir(copy)
        command = importlib.import_module("tests.simulator.__main__")
        assert command.__file__ is not None
        assert command.__file__.startswith(str(copy)), f"{command.__file__} is not the copy"
        said = "held\nno history noticed"
        with command.server() as client:
            for scene in guard.scenes:
                report = command.play_scene(client, scene)
                if report.outcome != "held":
                    said = f"{report.outcome}\n{scene}: {report.story}"
                    break
    except BaseException:
        said = f"crashed\n{traceback.format_exc()}"
    finally:
        os.write(answer, said.encode()[:60_000])
        os._exit(0)


if __name__ == "__main__":
    main()
