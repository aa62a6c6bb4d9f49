"""``pack.py SERVICE`` writes dist/SERVICE.pyz: the service and the library in one runnable file, same bytes every time."""

import sys
import zipfile
from pathlib import Path

service = sys.argv[1]
Path("dist").mkdir(exist_ok=True)
with zipfile.ZipFile(f"dist/{service}.pyz", "w") as archive:
    for root in (Path("services") / service, Path("libs/money")):
        for path in sorted(root.rglob("*.py")):
            if "tests" not in path.parts:
                entry = zipfile.ZipInfo(str(path.relative_to(root)), (1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, path.read_bytes())
    archive.writestr(zipfile.ZipInfo("__main__.py", (1980, 1, 1, 0, 0, 0)), f"import {service}.__main__\n")
print(f"dist/{service}.pyz")
