"""python -m jobs: what commands there are, one line for each."""

import ast
import difflib
import pathlib
import sys


def list_commands() -> dict[str, str]:
    """What each command does, by its name; nothing is imported for that."""
    commands = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXAMPLE" for node in module.body):
            first = (ast.get_docstring(module) or "").splitlines()[0]
            commands[path.stem] = first.removeprefix(f"python -m jobs.{path.stem}: ")
    return commands


def main(words: list[str]) -> int:
    """Prints the commands; returns the exit code, 2 where something else was asked for."""
    commands = list_commands()
    asked = [word.removeprefix("jobs.") for word in words if word not in ("--help", "-h")]
    if asked:
        close = difflib.get_close_matches(asked[0], commands, 1)
        rather = f"did you mean python -m jobs.{close[0]}?" if close else "python -m jobs lists the commands"
        print(f"jobs: {asked[0]} is no command of python -m jobs; {rather}", file=sys.stderr)
        return 2
    width = max(map(len, commands))
    for name, what in commands.items():
        print(f"python -m jobs.{name:{width}}  {what}")
    print("\nEach with --help tells its flags and an example.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
