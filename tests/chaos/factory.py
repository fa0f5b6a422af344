# SPDX-License-Identifier: GPL-3.0-or-later
"""A maker with a few small releases, what is in them, and a check that a device holds one of them whole."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from fridge_agent import install
from fridge_agent.config import App, Config, Paths, Server, Timing
from fridge_agent.layers import INDEX
from update.maker import Maker

Content = dict[str, dict[str, bytes]]
TIMING = Timing(
    ready_timeout=1.0, probation=0.05, silence=30.0, download_attempts=4, retry_base=0.02, retry_cap=0.05
)  # fmt: skip


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


class Factory:
    """Releases 1, 2 and 4, which work, and 3, which dies on devices. Each changes the app and a file of the runtime."""

    BAD = "3"

    def __init__(self, folder: Path) -> None:
        self.maker = Maker(folder / "maker")
        self.root = folder / "root.json"
        self.contents: dict[str, Content] = {}
        app = {f"fridge/m{n}.py": noise(f"m{n}", 6_000) for n in range(6)}
        runtime = {f"qt/lib{n}.so": noise(f"lib{n}", 30_000) for n in range(4)}
        for version in ("1", "2", "3", "4"):
            app = app | {"fridge/m0.py": app["fridge/m0.py"] + version.encode()}
            runtime = runtime | {"qt/lib1.so": noise("lib1", 20_000) + version.encode() * 10}
            self.contents[version] = {"app": app, "runtime": runtime}
            self.maker.release_of(version, self.contents[version])
            if version == "1":
                # the repository as it was: signed, and not the newest any more
                self.before = folder / "before"
                shutil.copytree(self.maker.repository, self.before)
        self.root.write_bytes((self.maker.repository / "metadata/1.root.json").read_bytes())

    def config(self, base: Path, url: str = "") -> Config:
        return Config(
            device_id="fridge-1", ring="beta", platform="linux-x86_64", hardware="fridge-panel",
            paths=Paths(base / "opt", base / "state", base / "run", base / "app"),
            server=Server(url or self.maker.repository.as_uri(), root=self.root),
            hub=None, app=App("python3"), timing=TIMING, consent=False,
        )  # fmt: skip

    def version_on(self, config: Config) -> str | None:
        """The version that `current` names, after a look at every byte of it; None: nothing is current.

        Raises:
            AssertionError: it is not whole.
        """
        release = install.current(config.paths)
        if release is None:
            assert not config.paths.current.is_symlink(), "current leads nowhere"
            return None
        version = str((install.describe(release) or {})["version"])
        for name, files in self.contents[version].items():
            root = (release / name).resolve()
            found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
            found.pop(INDEX, None)
            assert set(found) == set(files), f"version {version}: {name} has other files"
            for path, data in files.items():
                assert found[path].read_bytes() == data, f"version {version}: {name}/{path} has other bytes"
        return version
