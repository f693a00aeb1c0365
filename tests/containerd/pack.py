"""Make an image with one program, for README's example: python3 -m tests.containerd.pack FILE ARCHIVE.

The image is called localhost/<name of the file>:latest and starts the program. The packager will do this one day.
"""

import sys
from pathlib import Path

from tests.containerd.images import wasm_image


def main() -> None:
    """Write the archive."""
    program, archive = map(Path, sys.argv[1:])
    image = wasm_image(f"localhost/{program.stem}:latest", {program.name: program}, [f"/{program.name}"])
    archive.write_bytes(image.archive)


if __name__ == "__main__":
    main()
