"""How long `unfade --help` and `import unfade` take.

python benchmarks/startup.py -o benchmarks/results/startup.json
"""

import argparse
import sys
from pathlib import Path

from measurement import REPOSITORY, Bar, Process, median, print_bars, print_table, watch, write_results

COMMANDS = {
    "unfade --help": [str(Path(sys.executable).with_name("unfade")), "--help"],
    "import unfade": [sys.executable, "-c", "import unfade"],
    "python": [sys.executable, "-c", "pass"],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements, after one to warm up")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/startup.json")
    asked = parser.parse_args()
    runs: dict[str, list[Process]] = {name: [] for name in COMMANDS}
    for turn in range(asked.rounds + 1):
        for name, command in COMMANDS.items():
            done = watch(command)
            if done.code:
                print(f"{name} ended with {done.code}:\n{done.output[-2000:]}")
                return 1
            if turn:
                runs[name].append(done)
    figures = {
        name: {
            "median_seconds": median([run.seconds for run in done]),
            "seconds": [run.seconds for run in done],
            "peak_megabytes": median([run.peak / 1e6 for run in done]),
        }
        for name, done in runs.items()
    }
    bars = [Bar("unfade --help, s", figures["unfade --help"]["median_seconds"], 0.5, at_most=True)]
    rows = [(name, value["median_seconds"], value["peak_megabytes"]) for name, value in figures.items()]
    print_table(("command", "s", "peak MB"), rows)
    print_bars(bars)
    write_results(asked.output, {"startup": figures}, bars)
    print(f"written: {asked.output}")
    return 1 if asked.strict and any(bar.passed is False for bar in bars) else 0


if __name__ == "__main__":
    sys.exit(main())
