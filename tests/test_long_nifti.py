"""Ten thousand damaged NIfTI files: each is read as nibabel reads it or refused in a sentence, in little memory."""

import resource
import sys
from collections import Counter

import pytest
from mutations import damaged_file, outcome

pytestmark = [pytest.mark.slow, pytest.mark.long]
FILES = 10_000


def peak_megabytes() -> float:
    """The most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of nibabel, which the test asks as well
def test_damaged_files_by_the_thousand(tmp_path, capfd):
    counts, before = Counter(), peak_megabytes()
    for seed in range(FILES):
        path = damaged_file(seed, tmp_path)
        counts[outcome(path)] += 1
        path.unlink()
    capfd.readouterr()  # the warnings
    grown = peak_megabytes() - before
    with capfd.disabled():
        print(f"\n{FILES} damaged NIfTI files: {dict(counts)}; memory grew by {grown:.0f} MB")
    assert min(counts["read"], counts["refused"]) > FILES / 4
    assert grown < 100
