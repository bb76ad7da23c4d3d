"""Get the hippocampus scans (Medical Segmentation Decathlon, task 4) from their publisher; unpack what the book needs.

    python data_scripts/fetch_hippocampus.py --root FOLDER

The archive is 28 MB; its address and MD5 sum are those MONAI keeps. Run it again after an interruption: what is
complete is kept. Licence of the scans: CC BY-SA 4.0 (Simpson et al. 2019, arXiv:1902.09063; Antonelli et al. 2022,
Nature Communications).
"""

import shutil
import sys
import tarfile
from pathlib import Path

from download import exit_code, fetch, parser_of
from monai.apps.datasets import DecathlonDataset

from lddr.files import atomic_write

TASK = "Task04_Hippocampus"
SPACE = 200e6  # bytes: archive and unpacked scans, with room to spare


def unpack(archive: Path, root: Path) -> int:
    """Unpack images and labels, one file after the other, each under a temporary name first.

    The archive also holds resource-fork files (`._*`), test images without labels and a listing: left out.

    Returns:
        How many files are in place.
    """
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            wanted = len(parts) == 3 and parts[0] == TASK and parts[1] in ("imagesTr", "labelsTr")
            if not (wanted and member.isfile() and parts[2].endswith(".nii.gz") and not parts[2].startswith(".")):
                continue
            target = root.joinpath(*parts)
            content = tar.extractfile(member)
            if content and (not target.exists() or target.stat().st_size != member.size):
                with atomic_write(target) as part, part.open("wb") as out:
                    shutil.copyfileobj(content, out)
            count += 1
    return count


def main(arguments: list[str] | None = None) -> int:
    """Fetch, unpack, say what comes next; 0, or 2 with a sentence."""
    parser = parser_of(__doc__)
    parser.add_argument("--url", default=DecathlonDataset.resource[TASK], help="another address of the same archive")
    parser.add_argument("--md5", default=DecathlonDataset.md5[TASK], help="its MD5 sum")
    options = parser.parse_args(arguments)
    root = options.root

    def work() -> int:
        count = unpack(fetch(root, options.url, options.md5, f"{TASK}.tar", SPACE), root)
        print(f"{root / TASK}: {count} files in place.")
        print(f"Next: export LDDR_DATA={root.resolve()}")
        print("      papermill notebooks/06_student.ipynb run.ipynb -f notebooks/params/hippocampus_3min.yaml")
        return 0

    return exit_code(work, f"{root}: the scans could not be unpacked")


if __name__ == "__main__":
    sys.exit(main())
