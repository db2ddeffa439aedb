"""two-drives."""
NAME = "two-drives"
TIMES, SAMPLE = 20, 1
NEEDS = {}


def runs(bench, times):
    return (x for x in ())
