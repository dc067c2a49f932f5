"""A plugin module that takes a while to import, as large libraries do; it journals when it is done."""

import json
import os
import time

from tests.integration.fleet.plugins import JOURNAL, Journal

time.sleep(2)
with open(os.environ[JOURNAL], "a") as journal:
    journal.write(json.dumps({"what": "imported"}) + "\n")

SlowJournal = Journal
