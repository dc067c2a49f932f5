"""Real workers under a schedule of faults, and a checker that reads what they left behind."""
