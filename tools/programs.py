"""
What tests run beside Python, and which of it is missing here: ``python tools/programs.py [--packages] [--all]``.

Tests that need a missing program are skipped, and say so. Without ``--packages`` there is a line for people, or nothing
if all is there; with it, the names of Debian's packages in one line, for ``apt-get install``.
"""

from __future__ import annotations

import argparse
import os
import shutil
from typing import NamedTuple

#: Where programs are beside PATH: Debian's users have no sbin there.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Program(NamedTuple):
    """
    Something that tests run.

    :ivar name: of the program, or the path of a file.
    :ivar packages: of Debian, that bring it.
    :ivar isExtra: whether the checks of a fresh clone (``.ci/run``) do without it, as they have little time.
    :ivar setting: the environment variable that names another place.
    """

    name: str
    packages: tuple[str, ...]
    isExtra: bool = False
    setting: str = ""


#: Without those that come with nearly every Debian, such as openssl and systemd.
PROGRAMS = (
    Program("chromium", ("chromium",)),
    Program("haproxy", ("haproxy",)),
    Program("nginx", ("nginx-light", "libnginx-mod-stream")),
    Program("go", ("golang-go",)),
    Program("etcd", ("etcd-server",)),
    Program("ip", ("iproute2",)),
    Program("nghttp", ("nghttp2-client",)),
    Program("redis-server", ("redis-server",)),
    Program("/usr/share/java/zookeeper.jar", ("zookeeper",)),
    Program("npm", ("nodejs", "npm"), isExtra=True),
    Program("curl", ("curl",), isExtra=True),
    Program("wrk", ("wrk",), isExtra=True),
    Program("cc", ("gcc", "libc6-dev"), isExtra=True),
    # 120 MB are fetched with its runtime.
    Program("javac", ("default-jdk-headless",), isExtra=True),
    Program("/usr/share/java/hessian.jar", ("libhessian-java",), setting="HESSIAN_JAR"),
    Program("/usr/share/gocode/src/google.golang.org/grpc/version.go", ("golang-google-grpc-dev",), isExtra=True),
)


def isThere(program: Program) -> bool:
    """Whether it can be run, or read."""
    name = os.environ.get(program.setting) or program.name
    if os.path.isabs(name):
        return os.path.exists(name)
    return shutil.which(name) is not None or shutil.which(name, path=os.pathsep.join(SBIN)) is not None


def missing(isAll: bool) -> list[Program]:
    """
    What is not there.

    :param isAll: with what the checks of a fresh clone do without.
    """
    return [each for each in PROGRAMS if (isAll or not each.isExtra) and not isThere(each)]


def tell(programs: list[Program]) -> str:
    """The line for people; empty without programs."""
    if not programs:
        return ""
    names = ", ".join(each.name for each in programs)
    return f"tests are skipped for want of {names}; on Debian: apt-get install {packages(programs)}"


def packages(programs: list[Program]) -> str:
    """Their packages, in one line."""
    return " ".join(package for each in programs for package in each.packages)


def main(arguments: list[str] | None = None) -> None:
    """
    Print what is missing.

    :param arguments: by default those of the process.
    """
    parser = argparse.ArgumentParser(description="What tests run beside Python, and is missing here.")
    parser.add_argument("--packages", action="store_true", help="only the packages of Debian")
    parser.add_argument("--all", action="store_true", help="with what .ci/run does without")
    options = parser.parse_args(arguments)
    found = missing(options.all)
    text = packages(found) if options.packages else tell(found)
    if text:
        print(text)


if __name__ == "__main__":
    main()
